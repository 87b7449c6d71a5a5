"""Layers: which embedder's vectors searches use, how far each is, and what it leaves out.

Knows one row in force for each owner and kind, and counts. It does not know what a vector says
or who fills a layer.
"""

from __future__ import annotations

import builtins
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, Select, delete, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from companion.domain import SAMPLE_OWNER, DocumentState, LayerInfo, LayerKind, SetAside
from companion.storage.database import Database
from companion.storage.tables import (
    among,
    document_chunks,
    document_layers,
    documents,
    embedders,
    embeddings,
    index_runs,
    layers,
    session_config,
    sessions,
)

TROUBLE, SET_ASIDE = "trouble", "set_aside"
DROP_PIECE = 2000
_ALIVE = documents.c.deleted_at.is_(None)


class LayerStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    # --- which one is in force ----------------------------------------------------------

    def in_force(self, owner: str, kind: LayerKind) -> str | None:
        """The embedder whose layer searches use."""
        with self._database.reading() as connection:
            chosen = select(layers.c.embedder_id).where(*_in_force(owner, kind))
            return connection.execute(chosen).scalar()

    def put_in_force(self, owner: str, kind: LayerKind, embedder_id: str) -> None:
        """From now on searches use this layer; the one before is kept for a way back."""
        now = datetime.now(UTC)
        with self._database.writing() as connection:
            others = update(layers).where(*_in_force(owner, kind), layers.c.embedder_id != embedder_id)
            connection.execute(others.values(in_force_since=None, left_at=now))
            values = {"in_force_since": now, "left_at": None}
            row = insert(layers).values(owner=owner, embedder_id=embedder_id, kind=kind, **values)
            connection.execute(
                row.on_conflict_do_update(index_elements=["owner", "embedder_id"], set_=values)
            )

    def begin(self, owner: str, kind: LayerKind, embedder_id: str) -> None:
        """A layer is being filled; it counts as used at this moment, unless it is in force."""
        row = insert(layers).values(
            owner=owner, embedder_id=embedder_id, kind=kind, left_at=datetime.now(UTC)
        )
        used = row.on_conflict_do_update(
            index_elements=["owner", "embedder_id"],
            set_={"left_at": row.excluded.left_at},
            where=layers.c.in_force_since.is_(None),
        )
        with self._database.writing() as connection:
            connection.execute(used)

    def once_complete(self, owner: str, kind: LayerKind, name: str) -> str | None:
        """The embedder of this name whose layer is or was in force; the latest of several."""
        statement = (
            select(layers.c.embedder_id)
            .join(embedders, embedders.c.embedder_id == layers.c.embedder_id)
            .where(layers.c.owner == owner, layers.c.kind == kind, embedders.c.name == name)
            .order_by(func.coalesce(layers.c.left_at, layers.c.in_force_since).desc())
        )
        with self._database.reading() as connection:
            return connection.execute(statement).scalars().first()

    # --- how far they are ---------------------------------------------------------------

    def list(self, owner: str) -> builtins.list[LayerInfo]:
        """All layers that are or were in force: the one in force first, then the one used last."""
        statement = (
            select(layers, embedders.c.name, _last_session().label("used_at"))
            .join(embedders, embedders.c.embedder_id == layers.c.embedder_id)
            .where(layers.c.owner == owner)
        )
        with self._database.reading() as connection:
            rows = connection.execute(statement).all()
        found = [
            LayerInfo(
                row.kind,
                row.embedder_id,
                row.name,
                owner,
                *self.coverage(row.embedder_id, owner),
                in_force=row.in_force_since is not None,
                left_at=row.left_at and max(row.left_at, row.used_at or row.left_at),
            )
            for row in rows
        ]
        return sorted(
            found, key=lambda layer: layer.left_at or datetime.max.replace(tzinfo=UTC), reverse=True
        )

    def coverage(self, embedder_id: str, owner: str | None = None) -> tuple[int, int]:
        """Passages of the owner's documents, or of everybody's, and those of them that have vectors."""
        whose = () if owner is None else (documents.c.owner == owner,)
        all_of_them = (
            select(func.count(), func.count(document_chunks.c.chunk_id).filter(_has_vectors(embedder_id)))
            .select_from(document_chunks)
            .join(documents, documents.c.doc_id == document_chunks.c.doc_id)
            .where(*whose, _ALIVE)
        )
        with self._database.reading() as connection:
            total, done = connection.execute(all_of_them).one()
            return int(total), int(done)

    def pending(self, embedder_id: str) -> builtins.list[tuple[str, str]]:
        """(doc_id, owner) of documents with passages that wait for vectors, newest first.

        Without those that were set aside.
        """
        aside = select(document_layers.c.doc_id).where(*_in_state(SET_ASIDE, embedder_id))
        statement = (
            select(documents.c.doc_id, documents.c.owner)
            .where(_ALIVE, _waits_for(embedder_id), documents.c.doc_id.not_in(aside))
            .order_by(documents.c.created_at.desc(), documents.c.doc_id)
        )
        with self._database.reading() as connection:
            return [(row.doc_id, row.owner) for row in connection.execute(statement)]

    def deepen(self, embedder_id: str, doc_ids: Collection[str] | None = None) -> None:
        """The searchable documents, or those of them with these ids, of which no passage waits any more
        are deep."""
        those = () if doc_ids is None else (among(documents.c.doc_id, doc_ids),)
        whole = update(documents).where(
            documents.c.state == DocumentState.SEARCHABLE, ~_waits_for(embedder_id), *those
        )
        with self._database.writing() as connection:
            connection.execute(whole.values(state=DocumentState.DEEP))

    # --- documents that make trouble ----------------------------------------------------

    def note_trouble(self, doc_id: str, embedder_id: str, error: str, *, set_aside: bool) -> None:
        """An embedder failed at a document; set aside, it is left out from now on."""
        values = {
            "state": SET_ASIDE if set_aside else TROUBLE,
            "error": error,
            "updated_at": datetime.now(UTC),
        }
        with self._database.writing() as connection:
            if connection.execute(select(documents.c.doc_id).where(documents.c.doc_id == doc_id)).first():
                row = insert(document_layers).values(doc_id=doc_id, embedder_id=embedder_id, **values)
                connection.execute(
                    row.on_conflict_do_update(index_elements=["doc_id", "embedder_id"], set_=values)
                )

    def troubled(self, embedder_id: str) -> set[str]:
        """Documents that this embedder failed at once, and not read since."""
        with self._database.reading() as connection:
            found = select(document_layers.c.doc_id).where(*_in_state(TROUBLE, embedder_id))
            return set(connection.execute(found).scalars())

    def forgive(self, embedder_id: str, doc_ids: Collection[str]) -> None:
        """These went well, whatever was before; what was set aside stays so."""
        with self._database.writing() as connection:
            connection.execute(
                delete(document_layers).where(
                    among(document_layers.c.doc_id, doc_ids), *_in_state(TROUBLE, embedder_id)
                )
            )

    def forget_trouble(self, doc_id: str) -> None:
        """A new version of the document gets a new chance."""
        with self._database.writing() as connection:
            connection.execute(delete(document_layers).where(document_layers.c.doc_id == doc_id))

    def set_aside(self, embedder_id: str, owner: str) -> builtins.list[SetAside]:
        statement = (
            select(documents.c.doc_id, documents.c.name, document_layers.c.error)
            .join(document_layers, document_layers.c.doc_id == documents.c.doc_id)
            .where(*_in_state(SET_ASIDE, embedder_id), documents.c.owner == owner, _ALIVE)
        )
        with self._database.reading() as connection:
            return [SetAside(row.doc_id, row.name, row.error or "") for row in connection.execute(statement)]

    # --- going --------------------------------------------------------------------------

    def strays(self, kept: set[str]) -> builtins.list[tuple[str, str]]:
        """(owner, embedder_id) of deep vectors that no layer counts and nobody wants: begun, never whole.

        Without those of the embedders in `kept`.
        """
        known = select(layers.c.owner, layers.c.embedder_id)
        # Vectors do not say which kind they are; only deep ones come from runs.
        deep = select(index_runs.c.embedder_id)
        statement = (
            select(documents.c.owner, embeddings.c.embedder_id)
            .join(document_chunks, document_chunks.c.chunk_id == embeddings.c.chunk_id)
            .join(documents, documents.c.doc_id == document_chunks.c.doc_id)
            .where(embeddings.c.embedder_id.in_(deep), embeddings.c.embedder_id.not_in(kept))
            .distinct()
        )
        with self._database.reading() as connection:
            counted = {(row.owner, row.embedder_id) for row in connection.execute(known)}
            found = {(row.owner, row.embedder_id) for row in connection.execute(statement)}
        return sorted(found - counted)

    def drop_vectors(self, owner: str, embedder_id: str) -> None:
        """In pieces, so that nobody waits long for the writer."""
        while self._drop_piece(owner, embedder_id):
            pass

    def drop(self, owner: str, embedder_id: str) -> None:
        """Forget a layer; its vectors are another matter."""
        with self._database.writing() as connection:
            row = delete(layers).where(layers.c.owner == owner, layers.c.embedder_id == embedder_id)
            connection.execute(row)

    def _drop_piece(self, owner: str, embedder_id: str) -> int:
        of_owner = (
            select(document_chunks.c.chunk_id)
            .join(documents, documents.c.doc_id == document_chunks.c.doc_id)
            .join(embeddings, embeddings.c.chunk_id == document_chunks.c.chunk_id)
            .where(documents.c.owner == owner, embeddings.c.embedder_id == embedder_id)
            .limit(DROP_PIECE)
        )
        with self._database.writing() as connection:
            gone = delete(embeddings).where(
                embeddings.c.embedder_id == embedder_id, embeddings.c.chunk_id.in_(of_owner)
            )
            return connection.execute(gone).rowcount


def _in_force(owner: str, kind: LayerKind) -> tuple[ColumnElement[bool], ...]:
    return layers.c.owner == owner, layers.c.kind == kind, layers.c.in_force_since.is_not(None)


def _last_session() -> ScalarSelect[datetime]:
    """When a conversation that is set to the deep embedder was last active."""
    return (
        select(func.max(sessions.c.updated_at))
        .join(session_config, session_config.c.session_id == sessions.c.session_id)
        .where(
            layers.c.kind == "deep",
            session_config.c.embed_deep == embedders.c.name,
            # The samples are everybody's.
            or_(sessions.c.owner == layers.c.owner, layers.c.owner == SAMPLE_OWNER),
            sessions.c.deleted_at.is_(None),
        )
        .correlate(layers, embedders)
        .scalar_subquery()
    )


def _in_state(state: str, embedder_id: str) -> tuple[ColumnElement[bool], ...]:
    return document_layers.c.embedder_id == embedder_id, document_layers.c.state == state


def _waits_for(embedder_id: str) -> ColumnElement[bool]:
    """A passage of the document has no vectors yet."""
    waiting = select(document_chunks.c.chunk_id).where(
        document_chunks.c.doc_id == documents.c.doc_id, ~_has_vectors(embedder_id)
    )
    return waiting.exists()


def _has_vectors(embedder_id: str) -> ColumnElement[bool]:
    vectors: Select[Any] = select(embeddings.c.chunk_id).where(
        embeddings.c.chunk_id == document_chunks.c.chunk_id, embeddings.c.embedder_id == embedder_id
    )
    return vectors.exists()
