"""Passages of documents: as values, and written so that unchanged ones keep their vectors.

Works inside the caller's transaction. It does not know how a document is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from companion.domain import Passage, Place
from companion.storage.owed import Owed, owe
from companion.storage.tables import AnyRow, among, document_chunks, embeddings, quality_questions

PASSAGE = (
    document_chunks.c.chunk_id,
    document_chunks.c.doc_id,
    document_chunks.c.chunk_index,
    document_chunks.c.text,
    document_chunks.c.text_hash,
    document_chunks.c.place,
    document_chunks.c.tokens,
)
"""The columns that `to_passage` reads."""


def to_passage(row: AnyRow) -> Passage:
    return Passage(
        chunk_id=row.chunk_id,
        doc_id=row.doc_id,
        chunk_index=row.chunk_index,
        text=row.text,
        text_hash=row.text_hash,
        place=Place(**(row.place or {})),
        tokens=row.tokens,
    )


def write_passages(connection: Connection, doc_id: str, passages: Sequence[Passage]) -> None:
    """Make these the passages of the document: remove, move and add only what differs."""
    existing = {passage.chunk_id: passage for passage in _passages(connection, doc_id)}
    wanted = {passage.chunk_id: passage for passage in passages}
    kept = {
        chunk_id: passage
        for chunk_id, passage in wanted.items()
        if chunk_id in existing and existing[chunk_id].text_hash == passage.text_hash
    }
    delete_passages(connection, existing.keys() - kept.keys())
    _move(connection, [new for chunk_id, new in kept.items() if new != existing[chunk_id]])
    _add(connection, doc_id, [new for chunk_id, new in wanted.items() if chunk_id not in kept])


def delete_passages(connection: Connection, chunk_ids: Iterable[str]) -> None:
    gone = list(chunk_ids)
    if gone:
        owe(connection, Owed.WORDS)
        owe(connection, Owed.REMAINS)
    connection.execute(delete(embeddings).where(among(embeddings.c.chunk_id, gone)))
    # A question holds words of its passage.
    connection.execute(delete(quality_questions).where(among(quality_questions.c.chunk_id, gone)))
    connection.execute(delete(document_chunks).where(among(document_chunks.c.chunk_id, gone)))


def _passages(connection: Connection, doc_id: str) -> list[Passage]:
    rows = connection.execute(select(*PASSAGE).where(document_chunks.c.doc_id == doc_id))
    return [to_passage(row) for row in rows]


def _move(connection: Connection, passages: Sequence[Passage]) -> None:
    if not passages:
        return
    moved = (
        update(document_chunks)
        .where(document_chunks.c.chunk_id == bindparam("moved_id"))
        .values(
            chunk_index=bindparam("new_index"), place=bindparam("new_place"), tokens=bindparam("new_tokens")
        )
    )
    connection.execute(
        moved,
        [
            {
                "moved_id": passage.chunk_id,
                "new_index": passage.chunk_index,
                "new_place": asdict(passage.place),
                "new_tokens": passage.tokens,
            }
            for passage in passages
        ],
    )


def _add(connection: Connection, doc_id: str, passages: Sequence[Passage]) -> None:
    if not passages:
        return
    now = datetime.now(UTC)
    last = connection.execute(select(func.coalesce(func.max(document_chunks.c.seq), 0))).scalar_one()
    connection.execute(
        insert(document_chunks),
        [
            {
                **asdict(passage),
                "doc_id": doc_id,
                "chroma_id": passage.chunk_id,
                "created_at": now,
                "seq": seq,
            }
            for seq, passage in enumerate(passages, start=last + 1)
        ],
    )
