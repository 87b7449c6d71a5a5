"""Vectors of passages, kept as 16-bit floats, one or more windows for each passage.

Knows embedders by their identity, so that spaces are never mixed. It does not know how a
vector is computed or compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sqlalchemy import ColumnElement, Connection, Select, func, literal_column, select
from sqlalchemy.dialects.sqlite import insert

from companion.domain import EmbedderIdentity, Passage
from companion.errors import InvalidInput
from companion.storage.database import Database
from companion.storage.passage_rows import PASSAGE, to_passage
from companion.storage.tables import CleanText, among, document_chunks, documents, embedders, embeddings

_HALF = np.dtype("<f2")

# The plus keeps SQLite from walking through all documents of the owner first.
_owner: ColumnElement[str] = literal_column("+documents.owner", CleanText())


class EmbeddingStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, identity: EmbedderIdentity) -> None:
        """Make an embedder known, before its vectors are saved; a second time changes nothing."""
        values = {**asdict(identity), "embedder_id": identity.embedder_id, "created_at": datetime.now(UTC)}
        with self._database.writing() as connection:
            connection.execute(insert(embedders).values(**values).on_conflict_do_nothing())

    def embedders(self) -> list[str]:
        """Ids of the embedders with vectors of anything."""
        any_vector = select(embeddings.c.chunk_id).where(embeddings.c.embedder_id == embedders.c.embedder_id)
        with self._database.reading() as connection:
            known = select(embedders.c.embedder_id).where(any_vector.exists())
            return list(connection.execute(known).scalars())

    def save(self, embedder_id: str, rows: Sequence[tuple[str, int, ArrayLike]]) -> None:
        """Keep (chunk_id, window, vector) rows in one transaction, in place of older ones.

        All windows of a passage belong into one call: a passage with any vector counts as
        done. Passages deleted meanwhile are left out. Raises InvalidInput for an embedder
        that is not registered, or a vector of another dimension or with NaN or infinity.
        """
        with self._database.writing() as connection:
            dimension = _dimension(connection, embedder_id)
            alive = _alive(connection, {chunk_id for chunk_id, _, _ in rows})
            values = [
                {
                    "chunk_id": chunk_id,
                    "embedder_id": embedder_id,
                    "window": window,
                    "vector": _to_blob(vector, dimension),
                }
                for chunk_id, window, vector in rows
                if chunk_id in alive
            ]
            if values:
                new = insert(embeddings)
                connection.execute(
                    new.on_conflict_do_update(
                        index_elements=["chunk_id", "embedder_id", "window"],
                        set_={"vector": new.excluded.vector},
                    ),
                    values,
                )

    def vectors(self, embedder_id: str, chunk_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Shape (windows, dimension) by passage id; passages without vectors are left out."""
        statement = (
            select(embeddings.c.chunk_id, embeddings.c.vector)
            .where(among(embeddings.c.chunk_id, chunk_ids), embeddings.c.embedder_id == embedder_id)
            .order_by(embeddings.c.chunk_id, embeddings.c.window)
        )
        with self._database.reading() as connection:
            return _stacked((row.chunk_id, row.vector) for row in connection.execute(statement))

    def reusable(
        self, embedder_id: str, owner: str, text_hashes: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Vectors of the owner's passages with these texts, by text hash."""
        statement = (
            select(document_chunks.c.text_hash, embeddings.c.vector, embeddings.c.chunk_id)
            .join(document_chunks, document_chunks.c.chunk_id == embeddings.c.chunk_id)
            .join(documents, documents.c.doc_id == document_chunks.c.doc_id)
            .where(
                among(document_chunks.c.text_hash, text_hashes),
                embeddings.c.embedder_id == embedder_id,
                _owner == owner,
            )
            .order_by(document_chunks.c.text_hash, embeddings.c.chunk_id, embeddings.c.window)
        )
        with self._database.reading() as connection:
            rows = connection.execute(statement).all()
        # Equal texts have equal vectors: those of one passage are enough.
        chosen = {row.text_hash: row.chunk_id for row in rows}
        return _stacked((row.text_hash, row.vector) for row in rows if row.chunk_id == chosen[row.text_hash])

    def matrix(
        self, embedder_id: str, owners: Sequence[str], doc_ids: Sequence[str] | None = None
    ) -> tuple[list[str], list[int], NDArray[np.float32]]:
        """All vectors of documents that are not deleted: passage ids, windows, shape (n, dimension)."""
        return self._matrix(_of_owners(embedder_id, owners).where(documents.c.deleted_at.is_(None)), doc_ids)

    def keys(self, embedder_id: str, owner: str) -> list[tuple[str, int]]:
        """(chunk_id, window) of all vectors, those of deleted documents too: what an index should hold."""
        with self._database.reading() as connection:
            rows = connection.execute(_of_owners(embedder_id, [owner]))
            return [(row[0], row[1]) for row in rows]

    def _matrix(
        self, statement: Select[Any], doc_ids: Sequence[str] | None
    ) -> tuple[list[str], list[int], NDArray[np.float32]]:
        statement = statement.add_columns(embeddings.c.vector)
        if doc_ids is not None:
            statement = statement.where(among(documents.c.doc_id, doc_ids))
        with self._database.reading() as connection:
            rows = connection.execute(statement).all()
        if not rows:
            return [], [], np.zeros((0, 0), np.float32)
        chunk_ids, windows, blobs = zip(*rows, strict=True)
        return list(chunk_ids), list(windows), _to_vectors(blobs)

    def missing(self, embedder_id: str, doc_id: str) -> list[Passage]:
        """Passages of a document without vectors, in its order."""
        done = select(embeddings.c.chunk_id).where(
            embeddings.c.chunk_id == document_chunks.c.chunk_id, embeddings.c.embedder_id == embedder_id
        )
        statement = select(*PASSAGE).where(document_chunks.c.doc_id == doc_id, ~done.exists())
        with self._database.reading() as connection:
            rows = connection.execute(statement.order_by(document_chunks.c.chunk_index))
            return [to_passage(row) for row in rows]

    def count(self, embedder_id: str, owners: Sequence[str]) -> int:
        """Passages that have vectors, of documents that are not deleted."""
        alive = _of_owners(embedder_id, owners).where(documents.c.deleted_at.is_(None))
        passages = alive.with_only_columns(func.count(embeddings.c.chunk_id.distinct()))
        with self._database.reading() as connection:
            return int(connection.execute(passages).scalar_one())

    def total(self) -> int:
        """Vectors of all embedders and owners."""
        with self._database.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(embeddings)).scalar_one())

    def missing_of(self, embedder: str) -> tuple[int, int]:
        """Passages without vectors of an embedder of this name, of all owners, and their tokens."""
        done = (
            select(embeddings.c.chunk_id)
            .join(embedders, embedders.c.embedder_id == embeddings.c.embedder_id)
            .where(embeddings.c.chunk_id == document_chunks.c.chunk_id, embedders.c.name == embedder)
        )
        statement = (
            select(func.count(), func.coalesce(func.sum(document_chunks.c.tokens), 0))
            .select_from(document_chunks)
            .join(documents, documents.c.doc_id == document_chunks.c.doc_id)
            .where(documents.c.deleted_at.is_(None), ~done.exists())
        )
        with self._database.reading() as connection:
            passages, tokens = connection.execute(statement).one()
            return int(passages), int(tokens)


def _of_owners(embedder_id: str, owners: Sequence[str]) -> Select[Any]:
    return (
        select(embeddings.c.chunk_id, embeddings.c.window)
        .join(document_chunks, document_chunks.c.chunk_id == embeddings.c.chunk_id)
        .join(documents, documents.c.doc_id == document_chunks.c.doc_id)
        .where(
            embeddings.c.embedder_id == embedder_id,
            among(documents.c.owner, owners),
        )
    )


def _dimension(connection: Connection, embedder_id: str) -> int:
    known = select(embedders.c.dimension).where(embedders.c.embedder_id == embedder_id)
    found = connection.execute(known).scalar()
    if found is None:
        raise InvalidInput("The embedder must be registered before its vectors are saved.")
    return int(found)


def _alive(connection: Connection, chunk_ids: Iterable[str]) -> set[str]:
    known = select(document_chunks.c.chunk_id).where(among(document_chunks.c.chunk_id, chunk_ids))
    return set(connection.execute(known).scalars())


def _to_blob(vector: ArrayLike, dimension: int) -> bytes:
    with np.errstate(over="ignore"):
        half = np.asarray(vector, np.float32).astype(_HALF)
    if half.shape != (dimension,) or not np.isfinite(half).all():
        raise InvalidInput(f"A vector must be {dimension} finite numbers.")
    return half.tobytes()


def _to_vectors(blobs: Sequence[bytes]) -> NDArray[np.float32]:
    halves = np.frombuffer(b"".join(blobs), _HALF)
    return halves.reshape(len(blobs), -1).astype(np.float32)


def _stacked(rows: Iterable[tuple[str, bytes]]) -> dict[str, NDArray[np.float32]]:
    """Rows of one key must stand together, in the order of their windows."""
    return {key: _to_vectors([blob for _, blob in group]) for key, group in groupby(rows, itemgetter(0))}
