"""The library's documents and their passages, found by owner, by id, or by their words.

Knows owners: what belongs to somebody else does not exist, except the sample library, which
everybody may read. It does not know files, embedders or how results are joined.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, func, insert, select, text, update

from companion.domain import SAMPLE_OWNER, Document, DocumentState, Passage, Totals
from companion.errors import Conflict, NotFound
from companion.storage import passages as passage_rows
from companion.storage import private_words
from companion.storage.database import Database, insists
from companion.storage.fulltext import match_expression, search_statement
from companion.storage.passages import PASSAGE, to_passage
from companion.storage.tables import AnyRow, among, clean, document_chunks, document_layers, documents

_SEARCH = {scoped: search_statement(scoped=scoped) for scoped in (False, True)}
_FREQUENCY = text("SELECT count(*) FROM passages_fts WHERE passages_fts MATCH :match")
_ALIVE = documents.c.deleted_at.is_(None)
_OF_DOCUMENT = document_chunks.c.doc_id == documents.c.doc_id
_COUNT = select(func.count()).select_from(document_chunks).where(_OF_DOCUMENT).scalar_subquery()


class DocumentStore:
    """Methods that take an owner raise NotFound for what is not there or not theirs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.words_are_private = False
        """Several people: how rare a word is, and how long passages are, is counted within the owners
        that are searched, else a score would tell of documents of others."""

    # --- documents ----------------------------------------------------------------------

    def add(self, doc: Document) -> Document:
        """Keep a new document, to be read. Raises Conflict if its id is taken."""
        with self._database.writing() as connection:
            if _found(connection, documents.c.doc_id == doc.doc_id):
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
            return _document(connection, doc.owner, doc.doc_id)

    def get(self, owner: str, doc_id: str) -> Document:
        with self._database.reading() as connection:
            return _readable(connection, owner, doc_id)

    def get_any(self, doc_id: str) -> Document:
        """A document whoever owns it, deleted or not: for the library's own work."""
        found = self._select(documents.c.doc_id == doc_id)
        if not found:
            raise NotFound("There is no such document.")
        return found[0]

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
        return self._select(documents.c.owner == owner, _ALIVE)

    def find(self, owner: str, name: str) -> builtins.list[Document]:
        return self._select(documents.c.owner == owner, documents.c.name == name, _ALIVE)

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
        return self._select(documents.c.state == DocumentState.READING, _ALIVE)

    def replace_content(
        self, owner: str, doc_id: str, *, name: str, source_path: str | None, content_hash: str, size: int
    ) -> Document:
        """The file changed: it is to be read again. Its old passages serve until then.

        What it was is kept for `revert`, unless that was never read itself.
        """
        with self._database.writing() as connection:
            before = _document(connection, owner, doc_id)
            if before.state in (DocumentState.SEARCHABLE, DocumentState.DEEP):
                _remember(connection, before)
            _change(
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
            return _document(connection, owner, doc_id)

    def finish(self, doc_id: str, content_hash: str) -> bool:
        """The document is searchable, if this is still its content; False if it has changed since."""
        current = (documents.c.doc_id == doc_id, documents.c.content_hash == content_hash)
        done = (
            update(documents)
            .where(*current)
            .values(state=DocumentState.SEARCHABLE, error=None, error_code=None, previous=None)
        )
        with self._database.writing() as connection:
            return bool(connection.execute(done).rowcount)

    def deepened(self, doc_id: str) -> None:
        """All passages of the document have deep vectors now."""
        searchable = (documents.c.doc_id == doc_id, documents.c.state == DocumentState.SEARCHABLE)
        with self._database.writing() as connection:
            connection.execute(update(documents).where(*searchable).values(state=DocumentState.DEEP))

    def revert(self, doc_id: str, content_hash: str) -> bool:
        """Make a document again what it was before this content; False if it was nothing, or has
        changed since."""
        current = (documents.c.doc_id == doc_id, documents.c.content_hash == content_hash)
        with self._database.writing() as connection:
            before = connection.execute(select(documents.c.previous).where(*current)).scalar()
            if not before:
                return False
            settled = {"state": DocumentState.SEARCHABLE, "error": None, "error_code": None, "previous": None}
            _change(connection, doc_id, **before, **settled)
            return True

    def set_state(
        self, doc_id: str, state: DocumentState, error: str | None = None, error_code: str | None = None
    ) -> None:
        """Harmless if the document has gone meanwhile."""
        with self._database.writing() as connection:
            _change(connection, doc_id, state=state, error=error, error_code=error_code)

    def totals(self, owners: Sequence[str], doc_ids: Sequence[str] | None = None) -> Totals:
        """The owners' documents counted, or those of them with these ids."""
        each = select(documents.c.size, documents.c.state, _COUNT.label("passages")).where(
            among(documents.c.owner, owners), _ALIVE
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
            return _found(connection, *conditions)

    # --- passages -----------------------------------------------------------------------

    def write_passages(
        self, doc_id: str, source_type: str, notes: Sequence[str], passages: Sequence[Passage]
    ) -> None:
        """Make these the passages of the document, in one transaction.

        Passages with a known id keep their vectors; the state of the document stays. Raises
        NotFound if the document has gone meanwhile.
        """
        with self._database.writing() as connection:
            if not _found(connection, documents.c.doc_id == doc_id):
                raise NotFound("There is no such document.")
            passage_rows.write_passages(connection, doc_id, passages)
            _change(
                connection, doc_id, source_type=source_type, notes=list(notes), updated_at=datetime.now(UTC)
            )

    def passages(self, owner: str, doc_id: str) -> builtins.list[Passage]:
        """All passages of a document, in its order."""
        with self._database.reading() as connection:
            _readable(connection, owner, doc_id)
            rows = connection.execute(_passages_of(doc_id))
            return [to_passage(row) for row in rows]

    def openings(self, owner: str, source_type: str) -> dict[str, str]:
        """The text of the first passage of each document of a kind that the owner may read, by its id."""
        of = (documents.c.source_type == source_type, among(documents.c.owner, (owner, SAMPLE_OWNER)), _ALIVE)
        first = select(document_chunks.c.doc_id, document_chunks.c.text).join(documents, _OF_DOCUMENT)
        with self._database.reading() as connection:
            rows = connection.execute(first.where(document_chunks.c.chunk_index == 0, *of))
            return {row.doc_id: row.text for row in rows}

    def beginnings(self, owner: str, most: int, length: int) -> builtins.list[str]:
        """The first letters of some of one's own documents; of any, but always of the same ones."""
        first = select(func.substr(document_chunks.c.text, 1, length)).join(documents, _OF_DOCUMENT)
        some = first.where(document_chunks.c.chunk_index == 0, documents.c.owner == owner, _ALIVE)
        with self._database.reading() as connection:
            return list(connection.execute(some.order_by(documents.c.doc_id).limit(most)).scalars())

    def passages_any(self, doc_id: str) -> builtins.list[Passage]:
        """All passages of a document whoever owns it, deleted or not."""
        with self._database.reading() as connection:
            return [to_passage(row) for row in connection.execute(_passages_of(doc_id))]

    def passage(self, owner: str, chunk_id: str) -> tuple[Passage, Document]:
        with self._database.reading() as connection:
            row = connection.execute(select(*PASSAGE).where(document_chunks.c.chunk_id == chunk_id)).first()
            try:
                document = _readable(connection, owner, row.doc_id if row else "")
            except NotFound:
                row = None
        if row is None:
            raise NotFound("There is no such passage.")
        return to_passage(row), document

    def passages_by_id(self, chunk_ids: Sequence[str]) -> dict[str, tuple[Passage, str]]:
        """Passage and document name by passage id; without those of deleted documents."""
        statement = select(*PASSAGE, documents.c.name).join(documents, _OF_DOCUMENT)
        with self._database.reading() as connection:
            rows = connection.execute(statement.where(among(document_chunks.c.chunk_id, chunk_ids), _ALIVE))
            return {row.chunk_id: (to_passage(row), row.name) for row in rows}

    def neighbours(self, chunk_id: str, before: int = 1, after: int = 1) -> builtins.list[Passage]:
        """The passages around one in its document, in order, without itself."""
        here = select(document_chunks.c.doc_id, document_chunks.c.chunk_index)
        with self._database.reading() as connection:
            row = connection.execute(here.where(document_chunks.c.chunk_id == chunk_id)).first()
            if row is None:
                return []
            index = document_chunks.c.chunk_index
            around = _passages_of(row.doc_id).where(
                index.between(row.chunk_index - before, row.chunk_index + after),
                document_chunks.c.chunk_id != chunk_id,
            )
            return [to_passage(found) for found in connection.execute(around)]

    def has_passages(self, owner: str) -> bool:
        """Whether there is anything of the owner's to be found."""
        statement = select(document_chunks.c.seq).join(documents, _OF_DOCUMENT)
        with self._database.reading() as connection:
            found = connection.execute(statement.where(documents.c.owner == owner, _ALIVE).limit(1))
            return found.first() is not None

    def total_passages(self, owners: Sequence[str] = ()) -> int:
        """All passages, or the owners' where words are private: the base of `term_frequency`."""
        with self._database.reading() as connection:
            if self.words_are_private:
                return private_words.total(connection, owners)
            return int(connection.execute(select(func.count()).select_from(document_chunks)).scalar_one())

    # --- deleting -----------------------------------------------------------------------

    @insists
    def mark_deleted(self, owner: str, doc_id: str, at: datetime) -> None:
        """Hide the document until it is restored or purged. A second time changes nothing."""
        with self._database.writing() as connection:
            _document(connection, owner, doc_id)
            marked = update(documents).where(documents.c.doc_id == doc_id, _ALIVE)
            connection.execute(marked.values(deleted_at=at))

    @insists
    def restore(self, owner: str, doc_id: str, since: datetime, name: str) -> None:
        """Show a document again, as `name`. Raises NotFound if it was deleted before `since`."""
        with self._database.writing() as connection:
            _document(connection, owner, doc_id)
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
            if not _found(connection, documents.c.doc_id == doc_id, documents.c.deleted_at < before):
                return False
            ids = select(document_chunks.c.chunk_id).where(document_chunks.c.doc_id == doc_id)
            gone = list(connection.execute(ids.order_by(document_chunks.c.chunk_index)).scalars())
            passage_rows.delete_passages(connection, gone)
            connection.execute(delete(document_layers).where(document_layers.c.doc_id == doc_id))
            connection.execute(delete(documents).where(documents.c.doc_id == doc_id))
        return True

    # --- words --------------------------------------------------------------------------

    def search_text(
        self, owners: Sequence[str], terms: Sequence[str], limit: int, doc_ids: Sequence[str] | None = None
    ) -> builtins.list[tuple[str, float]]:
        """(chunk_id, score) of passages with any of the terms, best first by BM25.

        Any text is a valid term; what contains no letter or digit is ignored, as are terms
        beyond the first 256 different ones.
        """
        match = match_expression(terms)
        if match is None:
            return []
        values: dict[str, object] = {"match": match, "owners": _as_json(owners), "limit": limit}
        if doc_ids is not None:
            values["doc_ids"] = _as_json(doc_ids)
        with self._database.reading() as connection:
            if self.words_are_private:
                return private_words.search(connection, owners, terms, limit, doc_ids)
            # All at once: a row at a time costs some milliseconds.
            rows = connection.execute(_SEARCH[doc_ids is not None], values).all()
            return [(row[0], row[1]) for row in rows]

    def term_frequency(self, term: str, owners: Sequence[str] = (), most: int | None = None) -> int:
        """How many passages, of all or, where words are private, of these owners contain the term or a
        form of it. With `most`, only whether there are more than that is exact.
        """
        match = match_expression([term])
        if match is None:
            return 0
        with self._database.reading() as connection:
            if self.words_are_private:
                return private_words.frequency(connection, owners, match, most)
            return int(connection.execute(_FREQUENCY, {"match": match}).scalar_one())


def _found(connection: Connection, *conditions: ColumnElement[bool]) -> list[Document]:
    statement = select(documents, _COUNT.label("passages")).where(*conditions)
    newest = statement.order_by(documents.c.created_at.desc(), documents.c.doc_id)
    return [_to_document(row) for row in connection.execute(newest)]


def _document(connection: Connection, owner: str, doc_id: str) -> Document:
    """The owner's own document, deleted or not."""
    found = _found(connection, documents.c.doc_id == doc_id, documents.c.owner == owner)
    if not found:
        raise NotFound("There is no such document.")
    return found[0]


def _readable(connection: Connection, owner: str, doc_id: str) -> Document:
    """A document that the owner may read and that is not deleted."""
    readable = among(documents.c.owner, (owner, SAMPLE_OWNER))
    found = _found(connection, documents.c.doc_id == doc_id, readable, _ALIVE)
    if not found:
        raise NotFound("There is no such document.")
    return found[0]


def _remember(connection: Connection, before: Document) -> None:
    names = ("name", "source_path", "content_hash", "size")
    _change(connection, before.doc_id, previous={name: getattr(before, name) for name in names})


def _change(connection: Connection, doc_id: str, **values: Any) -> None:
    connection.execute(update(documents).where(documents.c.doc_id == doc_id).values(**values))


def _passages_of(doc_id: str) -> Select[Any]:
    return select(*PASSAGE).where(document_chunks.c.doc_id == doc_id).order_by(document_chunks.c.chunk_index)


def _as_json(values: Sequence[str]) -> str:
    return json.dumps([clean(value) for value in values])


def _to_document(row: AnyRow) -> Document:
    return Document(
        doc_id=row.doc_id,
        owner=row.owner,
        name=row.name,
        source_type=row.source_type,
        source_path=row.source_path,
        content_hash=row.content_hash,
        size=row.size,
        state=DocumentState(row.state),
        created_at=row.created_at,
        updated_at=row.updated_at,
        error=row.error,
        error_code=row.error_code,
        notes=tuple(row.notes or ()),
        passages=row.passages,
    )
