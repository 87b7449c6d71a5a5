"""A layer: the vectors of one embedder over the library, stored first and indexed after.

Knows how vectors get into SQLite and the index, and which of the two may answer. It does not
know files, words or conversations.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from companion.domain import Embedder, Passage
from companion.errors import IndexUnusable
from companion.library.ranking import best_windows, exact
from companion.library.vectors import Sample, VectorIndex, collection_name, vector_id

if TYPE_CHECKING:
    from companion.domain import Vectors
    from companion.storage.embeddings import EmbeddingStore

log = logging.getLogger(__name__)

Batch = list[tuple[list[Passage], list[str]]]
"""Passages of one text, and its windows; no windows where the vectors are known."""

BATCH_WINDOWS = 64
"""Windows per commit: about two seconds of work on two cores."""
PROBE_SAMPLES = 60
HEAL_PIECE = 256
NEAREST_WINDOWS = 320
"""Windows asked of the index. Of a passage's two or three windows mostly one is near, so these are
about `DEPTH` passages; each further hundred costs a millisecond."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which documents a search may see."""

    owners: tuple[str, ...]
    doc_ids: tuple[str, ...] | None = None
    """None: everything of the owners."""

    @property
    def whole(self) -> bool:
        return self.doc_ids is None and len(self.owners) == 1


@dataclass(slots=True)
class _Matrix:
    """Stored vectors held for exact search until the library changes."""

    scope: Scope
    change: int
    keys: list[str]
    rows: Vectors


class Layer:
    """One embedder's vectors. SQLite is right; the index answers only after it was compared."""

    def __init__(self, stored: EmbeddingStore, index: VectorIndex, embedder: Embedder) -> None:
        self._stored = stored
        self._index = index
        self._embedder = embedder
        self._change = 0
        self._matrix: _Matrix | None = None
        self._lock = threading.Lock()
        self.serving = False
        """The index agreed with SQLite and may answer."""

    @property
    def embedder_id(self) -> str:
        return self._embedder.identity.embedder_id

    def embed_query(self, question: str) -> Vectors:
        return self._embedder.embed_query(question)

    def rank(self, scope: Scope, query: Vectors) -> dict[str, float]:
        """Passages nearest to a vector of this space: chunk id to cosine of the best window."""
        if self.serving and scope.whole:
            try:
                return best_windows(
                    self._index.search(self._collection(scope.owners[0]), query, NEAREST_WINDOWS)
                )
            except IndexUnusable:
                self._stop_serving()
        matrix = self._load(scope)
        return best_windows(exact(query, matrix.keys, matrix.rows, NEAREST_WINDOWS))

    def vectors(self, chunk_ids: Sequence[str]) -> dict[str, Vectors]:
        """Stored vectors of passages, shape (windows, dimension) each."""
        return self._stored.vectors(self.embedder_id, chunk_ids)

    def fill(self, owner: str, passages: Sequence[Passage], proceed: Callable[[int], bool]) -> bool:
        """Embed passages that have no vectors yet; equal texts of one owner are embedded once.

        Each batch is committed before it is indexed, so a kill costs the batch in flight at most.
        `proceed` hears after each batch how many passages are done and says whether to go on.
        Returns whether all were done.
        """
        self._stored.register(self._embedder.identity)
        known = self._stored.reusable(self.embedder_id, owner, [p.text_hash for p in passages])
        done = 0
        for batch in self._batches(passages, known):
            if not proceed(done):
                return False
            self._keep(
                owner, [(passage, rows) for same, rows in self._embed(batch, known) for passage in same]
            )
            done += sum(len(same) for same, _windows in batch)
        return proceed(done)

    def forget(self, owner: str, ids: Sequence[str]) -> None:
        """Take vectors out of the index; their rows are gone already."""
        self._changed()
        self._indexed(lambda: self._index.delete(self._collection(owner), ids))

    def samples(self, owners: Sequence[str]) -> list[Sample]:
        """Stored vectors, spread over everything, which a healthy index must find."""
        found: list[Sample] = []
        for owner in owners:
            keys = self._stored.keys(self.embedder_id, owner)
            chosen = keys[:: max(1, len(keys) // PROBE_SAMPLES)]
            vectors = self.vectors([chunk_id for chunk_id, _window in chosen])
            found += [
                Sample(self._collection(owner), vector_id(chunk_id, window), vectors[chunk_id][window])
                for chunk_id, window in chosen
                if chunk_id in vectors
            ]
        return found

    def heal(self, owners: Sequence[str], proceed: Callable[[], bool]) -> int | None:
        """Make the index agree with SQLite; returns how many entries differed, None if interrupted."""
        differed = 0
        for owner in owners:
            collection = self._collection(owner)
            # The index first: what comes in between is in both, and nothing of it is taken for extra.
            present = self._index.ids(collection)
            wanted = {vector_id(*key): key for key in self._stored.keys(self.embedder_id, owner)}
            extra = sorted(present.difference(wanted))
            missing = [key for name, key in wanted.items() if name not in present]
            self._index.delete(collection, extra)
            for start in range(0, len(missing), HEAL_PIECE):
                if not proceed():
                    return None
                self._index_stored(collection, missing[start : start + HEAL_PIECE])
            differed += len(extra) + len(missing)
        return differed

    def _index_stored(self, collection: str, keys: Sequence[tuple[str, int]]) -> None:
        vectors = self.vectors([chunk_id for chunk_id, _window in keys])
        # What was purged since has no vector any more.
        rows = {vector_id(*key): vectors[key[0]][key[1]] for key in keys if key[0] in vectors}
        if rows:
            self._index.upsert(collection, list(rows), np.stack(list(rows.values())))

    def _batches(self, passages: Sequence[Passage], known: Mapping[str, Vectors]) -> Iterator[Batch]:
        """Equal passages with the windows that are to be embedded, about `BATCH_WINDOWS` at a time."""
        twins: dict[str, list[Passage]] = {}
        for passage in passages:
            twins.setdefault(passage.text_hash, []).append(passage)
        batch: Batch = []
        size = 0
        for text_hash, same in twins.items():
            windows = [] if text_hash in known else self._embedder.windows(same[0].text)
            batch.append((same, windows))
            # Known vectors cost a write all the same.
            size += max(len(windows), 1)
            if size >= BATCH_WINDOWS:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _embed(self, batch: Batch, known: Mapping[str, Vectors]) -> list[tuple[list[Passage], Vectors]]:
        windows = [window for _same, windows in batch for window in windows]
        rows = iter(self._embedder.embed_passages(windows) if windows else ())
        return [
            (same, known[same[0].text_hash] if not windows else np.stack([next(rows) for _ in windows]))
            for same, windows in batch
        ]

    def _keep(self, owner: str, embedded: Sequence[tuple[Passage, Vectors]]) -> None:
        if not embedded:
            return
        rows = [(p.chunk_id, number, row) for p, vectors in embedded for number, row in enumerate(vectors)]
        self._stored.save(self.embedder_id, rows)
        self._changed()
        ids = [vector_id(key, number) for key, number, _row in rows]
        self._indexed(
            lambda: self._index.upsert(self._collection(owner), ids, np.stack([row for *_, row in rows]))
        )

    def _indexed(self, write: Callable[[], None]) -> None:
        # A closed index is filled from SQLite when it opens.
        if not self._index.open:
            return
        try:
            write()
        except IndexUnusable:
            self._stop_serving()

    def _stop_serving(self) -> None:
        log.warning("the vector index failed; stored vectors answer until it is rebuilt")
        self.serving = False

    def _changed(self) -> None:
        self._change += 1

    def _load(self, scope: Scope) -> _Matrix:
        with self._lock:
            held = self._matrix
            if held is None or held.scope != scope or held.change != self._change:
                change = self._change
                keys, _windows, rows = self._stored.matrix(self.embedder_id, scope.owners, scope.doc_ids)
                held = self._matrix = _Matrix(scope, change, keys, rows)
            return held

    def release(self) -> None:
        """Give back the memory of exact search."""
        self._matrix = None

    def _collection(self, owner: str) -> str:
        return collection_name(self.embedder_id, owner)
