"""Passages of the library, found by document, by id, and by what stands beside them.

Knows owners as `documents` does. It does not know how passages are cut, embedded or searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, select

from companion.domain import SAMPLE_OWNER, Document, Passage
from companion.errors import NotFound
from companion.storage.database import Database
from companion.storage.document_rows import ALIVE, HAS_PASSAGE, change, of_anybody, readable, remember
from companion.storage.passage_rows import PASSAGE, to_passage, write_passages
from companion.storage.tables import among, document_chunks, documents


class PassageStore:
    """Methods that take an owner raise NotFound for what is not there or not theirs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(
        self, document: Document, source_type: str, notes: Sequence[str], passages: Sequence[Passage]
    ) -> None:
        """Make these the passages of the document, as this version of it says, in one transaction.

        Passages with a known id keep their vectors; the state of the document stays. A newer version
        that cannot be read is taken back to this one. Raises NotFound if the document has gone meanwhile.
        """
        doc_id = document.doc_id
        with self._database.writing() as connection:
            of_anybody(connection, doc_id)
            write_passages(connection, doc_id, passages)
            remember(connection, document)
            change(
                connection, doc_id, source_type=source_type, notes=list(notes), updated_at=datetime.now(UTC)
            )

    def of(self, owner: str, doc_id: str) -> list[Passage]:
        """All passages of a document, in its order."""
        with self._database.reading() as connection:
            readable(connection, owner, doc_id)
            rows = connection.execute(_passages_of(doc_id))
            return [to_passage(row) for row in rows]

    def openings(self, owner: str, source_type: str) -> dict[str, str]:
        """The text of the first passage of each document of a kind that the owner may read, by its id."""
        of = (documents.c.source_type == source_type, among(documents.c.owner, (owner, SAMPLE_OWNER)), ALIVE)
        first = select(document_chunks.c.doc_id, document_chunks.c.text).join(documents, HAS_PASSAGE)
        with self._database.reading() as connection:
            rows = connection.execute(first.where(document_chunks.c.chunk_index == 0, *of))
            return {row.doc_id: row.text for row in rows}

    def beginnings(self, owner: str, most: int, length: int) -> list[str]:
        """The first letters of some of one's own documents; of any, but always of the same ones."""
        first = select(func.substr(document_chunks.c.text, 1, length)).join(documents, HAS_PASSAGE)
        some = first.where(document_chunks.c.chunk_index == 0, documents.c.owner == owner, ALIVE)
        with self._database.reading() as connection:
            return list(connection.execute(some.order_by(documents.c.doc_id).limit(most)).scalars())

    def of_anybody(self, doc_id: str) -> list[Passage]:
        """All passages of a document whoever owns it, deleted or not."""
        with self._database.reading() as connection:
            return [to_passage(row) for row in connection.execute(_passages_of(doc_id))]

    def get(self, owner: str, chunk_id: str) -> tuple[Passage, Document]:
        with self._database.reading() as connection:
            row = connection.execute(select(*PASSAGE).where(document_chunks.c.chunk_id == chunk_id)).first()
            try:
                document = readable(connection, owner, row.doc_id if row else "")
            except NotFound:
                row = None
        if row is None:
            raise NotFound("There is no such passage.")
        return to_passage(row), document

    def by_id(self, chunk_ids: Sequence[str]) -> dict[str, tuple[Passage, str]]:
        """Passage and document name by passage id; without those of deleted documents."""
        statement = select(*PASSAGE, documents.c.name).join(documents, HAS_PASSAGE)
        with self._database.reading() as connection:
            rows = connection.execute(statement.where(among(document_chunks.c.chunk_id, chunk_ids), ALIVE))
            return {row.chunk_id: (to_passage(row), row.name) for row in rows}

    def neighbours(self, chunk_id: str, before: int = 1, after: int = 1) -> list[Passage]:
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

    def has_any(self, owner: str) -> bool:
        """Whether there is anything of the owner's to be found."""
        statement = select(document_chunks.c.seq).join(documents, HAS_PASSAGE)
        with self._database.reading() as connection:
            found = connection.execute(statement.where(documents.c.owner == owner, ALIVE).limit(1))
            return found.first() is not None


def _passages_of(doc_id: str) -> Select[Any]:
    return select(*PASSAGE).where(document_chunks.c.doc_id == doc_id).order_by(document_chunks.c.chunk_index)
