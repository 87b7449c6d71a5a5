"""The library's documents: added, replaced, deleted, purged, and found by owner or by id.

Knows owners: what belongs to somebody else does not exist, except the sample library, which
everybody may read. It does not know files, or the words of passages.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, delete, func, insert, select, update

from companion.domain import Document, DocumentState, Totals
from companion.errors import Conflict, NotFound
from companion.storage.database import Database, insists
from companion.storage.document_rows import ALIVE, COUNT, change, found, of_anybody, own, readable, remember
from companion.storage.owed import Owed, owe
from companion.storage.passage_rows import delete_passages
from companion.storage.tables import among, document_chunks, document_layers, documents


class DocumentStore:
    """Methods that take an owner raise NotFound for what is not there or not theirs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, doc: Document) -> Document:
        """Keep a new document, to be read. Raises Conflict if its id is taken."""
        with self._database.writing() as connection:
            if found(connection, documents.c.doc_id == doc.doc_id):
                raise Conflict("There is already a document with this id.")
            connection.execute(
                insert(documents).values(
                    doc_id=doc.doc_id,
                    owner=doc.owner,
                    name=doc.name,
                    source_type=doc.source_type,
                    source_path=doc.source_path,
                    content_hash=doc.content_hash,
                    size=doc.size,
                    state=DocumentState.READING,
                    notes=list(doc.notes),
                    created_at=doc.created_at,
                    updated_at=doc.updated_at,
                )
            )
            return own(connection, doc.owner, doc.doc_id)

    def get(self, owner: str, doc_id: str) -> Document:
        with self._database.reading() as connection:
            return readable(connection, owner, doc_id)

    def get_any(self, doc_id: str) -> Document:
        """A document whoever owns it, deleted or not: for the library's own work."""
        with self._database.reading() as connection:
            return of_anybody(connection, doc_id)

    def hidden(self) -> set[str]:
        """Ids of deleted documents that are not purged yet, of all owners."""
        with self._database.reading() as connection:
            gone = select(documents.c.doc_id).where(documents.c.deleted_at.is_not(None))
            return set(connection.execute(gone).scalars())

    def owners(self) -> builtins.list[str]:
        """Everybody who has a document."""
        with self._database.reading() as connection:
            return list(connection.execute(select(documents.c.owner).distinct()).scalars())

    def list(self, owner: str) -> builtins.list[Document]:
        """Newest first, without deleted ones."""
        return self._select(documents.c.owner == owner, ALIVE)

    def find(self, owner: str, name: str) -> builtins.list[Document]:
        return self._select(documents.c.owner == owner, documents.c.name == name, ALIVE)

    def files(self) -> set[tuple[str, str, str]]:
        """(doc_id, content_hash, name) of every original that is needed, of deleted documents and of
        versions that a new one may not replace, too."""
        columns = (documents.c.doc_id, documents.c.content_hash, documents.c.name, documents.c.previous)
        needed = set()
        with self._database.reading() as connection:
            for doc_id, content_hash, name, previous in connection.execute(select(*columns)):
                needed.add((doc_id, content_hash, name))
                if previous:
                    needed.add((doc_id, previous["content_hash"], previous["name"]))
        return needed

    def unfinished(self) -> builtins.list[Document]:
        """Documents still to be read, of all owners."""
        return self._select(documents.c.state == DocumentState.READING, ALIVE)

    def replace_content(
        self, owner: str, doc_id: str, *, name: str, source_path: str | None, content_hash: str, size: int
    ) -> Document:
        """The file changed: it is to be read again. Its old passages serve until then.

        What it was is kept for `revert`, unless that was not read itself.
        """
        with self._database.writing() as connection:
            before = own(connection, owner, doc_id)
            if before.state in (DocumentState.SEARCHABLE, DocumentState.DEEP):
                remember(connection, before)
            change(
                connection,
                doc_id,
                name=name,
                source_path=source_path,
                content_hash=content_hash,
                size=size,
                state=DocumentState.READING,
                error=None,
                error_code=None,
                updated_at=datetime.now(UTC),
            )
            return own(connection, owner, doc_id)

    def finish(self, version: Document) -> bool:
        """The document is searchable, if this is still its version; False if there is a newer one."""
        done = (
            update(documents)
            .where(*_still(version))
            .values(state=DocumentState.SEARCHABLE, error=None, error_code=None, previous=None)
        )
        with self._database.writing() as connection:
            return bool(connection.execute(done).rowcount)

    def revert(self, version: Document) -> bool:
        """Make a document again what it was before this version, as its passages say; False if it was
        nothing, or if there is a newer version."""
        with self._database.writing() as connection:
            before = connection.execute(select(documents.c.previous).where(*_still(version))).scalar()
            if not before:
                return False
            settled = {"state": DocumentState.SEARCHABLE, "error": None, "error_code": None, "previous": None}
            change(connection, version.doc_id, **before, **settled)
            return True

    def set_state(
        self, doc_id: str, state: DocumentState, error: str | None = None, error_code: str | None = None
    ) -> None:
        """Harmless if the document has gone meanwhile."""
        with self._database.writing() as connection:
            change(connection, doc_id, state=state, error=error, error_code=error_code)

    def totals(self, owners: Sequence[str], doc_ids: Sequence[str] | None = None) -> Totals:
        """The owners' documents counted, or those of them with these ids."""
        each = select(documents.c.size, documents.c.state, COUNT.label("passages")).where(
            among(documents.c.owner, owners), ALIVE
        )
        if doc_ids is not None:
            each = each.where(among(documents.c.doc_id, doc_ids))
        counted = each.subquery()
        sums = select(
            func.count(),
            func.count().filter(counted.c.passages > 0),
            func.coalesce(func.sum(counted.c.passages), 0),
            func.coalesce(func.sum(counted.c.size), 0),
            func.count().filter(counted.c.state == DocumentState.FAILED),
        ).select_from(counted)
        with self._database.reading() as connection:
            return Totals(*connection.execute(sums).one())

    def _select(self, *conditions: ColumnElement[bool]) -> builtins.list[Document]:
        with self._database.reading() as connection:
            return found(connection, *conditions)

    # --- deleting -----------------------------------------------------------------------

    @insists
    def mark_deleted(self, owner: str, doc_id: str, at: datetime) -> None:
        """Hide the document until it is restored or purged. A second time changes nothing."""
        with self._database.writing() as connection:
            own(connection, owner, doc_id)
            marked = update(documents).where(documents.c.doc_id == doc_id, ALIVE)
            connection.execute(marked.values(deleted_at=at))

    @insists
    def restore(self, owner: str, doc_id: str, since: datetime, name: str) -> None:
        """Show a document again, as `name`. Raises NotFound if it was deleted before `since`."""
        with self._database.writing() as connection:
            own(connection, owner, doc_id)
            in_time = documents.c.deleted_at >= since
            shown = update(documents).where(documents.c.doc_id == doc_id, in_time)
            if not connection.execute(shown.values(deleted_at=None, name=name)).rowcount:
                raise NotFound("There is no such document.")

    def due_for_purge(self, before: datetime) -> builtins.list[Document]:
        """Documents of all owners that were deleted before this time."""
        return self._select(documents.c.deleted_at < before)

    @insists
    def purge(self, doc_id: str, before: datetime) -> bool:
        """Remove a document that was deleted before this time, with all that was made of it.

        False, and nothing happens, if it was restored meanwhile. Its words leave the files with
        the next `Store.forget_deleted()`.
        """
        with self._database.writing() as connection:
            if not found(connection, documents.c.doc_id == doc_id, documents.c.deleted_at < before):
                return False
            ids = select(document_chunks.c.chunk_id).where(document_chunks.c.doc_id == doc_id)
            gone = list(connection.execute(ids.order_by(document_chunks.c.chunk_index)).scalars())
            delete_passages(connection, gone)
            owe(connection, Owed.REMAINS)
            connection.execute(delete(document_layers).where(document_layers.c.doc_id == doc_id))
            connection.execute(delete(documents).where(documents.c.doc_id == doc_id))
        return True


def _still(version: Document) -> tuple[ColumnElement[bool], ...]:
    """No newer version was accepted. The same content under another suffix is one, too: another file."""
    return (
        documents.c.doc_id == version.doc_id,
        documents.c.content_hash == version.content_hash,
        documents.c.source_path == version.source_path,
    )
