"""Rows of documents: read as values, found by whose they are, and changed.

Works inside the caller's transaction. It does not know what a change is for.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, update

from companion.domain import SAMPLE_OWNER, Document, DocumentState
from companion.errors import NotFound
from companion.storage.tables import AnyRow, among, document_chunks, documents

ALIVE = documents.c.deleted_at.is_(None)
HAS_PASSAGE = document_chunks.c.doc_id == documents.c.doc_id
"""Joins passages with their document."""
COUNT = select(func.count()).select_from(document_chunks).where(HAS_PASSAGE).scalar_subquery()
"""Passages of a document."""


def found(connection: Connection, *conditions: ColumnElement[bool]) -> list[Document]:
    """Newest first."""
    statement = select(documents, COUNT.label("passages")).where(*conditions)
    newest = statement.order_by(documents.c.created_at.desc(), documents.c.doc_id)
    return [_to_document(row) for row in connection.execute(newest)]


def own(connection: Connection, owner: str, doc_id: str) -> Document:
    """The owner's own document, deleted or not. Raises NotFound."""
    return _one(found(connection, documents.c.doc_id == doc_id, documents.c.owner == owner))


def readable(connection: Connection, owner: str, doc_id: str) -> Document:
    """A document that the owner may read and that is not deleted. Raises NotFound."""
    theirs = among(documents.c.owner, (owner, SAMPLE_OWNER))
    return _one(found(connection, documents.c.doc_id == doc_id, theirs, ALIVE))


def of_anybody(connection: Connection, doc_id: str) -> Document:
    """A document whoever owns it, deleted or not. Raises NotFound."""
    return _one(found(connection, documents.c.doc_id == doc_id))


def change(connection: Connection, doc_id: str, **values: Any) -> None:
    """Harmless if the document has gone meanwhile."""
    connection.execute(update(documents).where(documents.c.doc_id == doc_id).values(**values))


def remember(connection: Connection, version: Document) -> None:
    """This is what the document becomes again if a newer version cannot be read."""
    names = ("name", "source_path", "content_hash", "size")
    change(connection, version.doc_id, previous={name: getattr(version, name) for name in names})


def _one(rows: list[Document]) -> Document:
    if not rows:
        raise NotFound("There is no such document.")
    return rows[0]


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
