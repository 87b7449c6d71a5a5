"""A layer: the vectors of one embedder over the library, stored first and indexed after.

Knows how vectors get into SQLite and the index, and which of the two may answer. It does not
know files, words or conversations.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from companion.domain import Passage, PassageEmbedder
from companion.errors import IndexUnusable
from companion.library.ranking import best_windows, exact
from companion.library.vectors import Sample, VectorIndex, collection_name, vector_id
from companion.tuning import NEAREST_WINDOWS

if TYPE_CHECKING:
    from companion.domain import Vectors
    from companion.library.pace import Pace
    from companion.storage.embeddings import EmbeddingStore

log = logging.getLogger(__name__)

Batch = list[tuple[list[Passage], list[str]]]
"""Passages of one text, and its windows; no windows where the vectors are known."""

Embedded = list[tuple[list[Passage], "Vectors"]]
"""Passages of one text, and the vectors of its windows."""

BATCH_WINDOWS = 64
"""Windows per commit: about two seconds of work on two cores."""
HEAL_PIECE = 256


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

    def __init__(
        self,
        stored: EmbeddingStore,
        index: VectorIndex,
        pace: Pace,
        embedder_id: Callable[[], str],
        *,
        serving: bool = False,
    ) -> None:
        """`pace` hears how fast embedders are. `embedder_id` may raise `EmbedderError` while nobody
        knows it yet."""
        self._stored = stored
        self._index = index
        self._pace = pace
        self._embedder_id = embedder_id
        self.changes = 0
        """Grows with every write."""
        self._matrix: _Matrix | None = None
        self._lock = threading.Lock()
        # What is written and what is deleted must both be counted.
        self._counting = threading.Lock()
        self.serving = serving
        """The index agreed with SQLite and may answer."""
        self._agreed: int | None = None

    @property
    def embedder_id(self) -> str:
        return self._embedder_id()

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

    def fill(
        self,
        embedder: PassageEmbedder,
        owner: str,
        passages: Sequence[Passage],
        proceed: Callable[[int], bool],
    ) -> bool:
        """Embed passages that have no vectors yet; equal texts of one owner are embedded once.

        Each batch is committed before it is indexed, and while the next one is embedded, so a kill
        costs two batches at most. `proceed` hears before each batch how many passages are done and
        says whether to go on. Returns whether all were done.
        """
        self._stored.register(embedder.identity)
        known = self._stored.reusable(self.embedder_id, owner, [p.text_hash for p in passages])
        done = 0
        wanted = takewhile(lambda _batch: proceed(done), _batches(embedder, passages, known))
        for embedded in _one_ahead(lambda batch: self._embed(embedder, batch, known), wanted):
            kept = [(passage, rows) for same, rows in embedded for passage in same]
            self._keep(owner, kept)
            done += len(kept)
        proceed(done)
        return done == len(passages)

    def forget(self, owner: str, ids: Sequence[str]) -> None:
        """Take vectors out of the index; their rows are gone already."""
        self._changed()
        self._indexed(lambda: self._index.delete(self._collection(owner), ids))

    def count(self, owner: str) -> int:
        """Passages of the owner that have vectors."""
        return self._stored.count(self.embedder_id, [owner])

    def samples(self, owner: str, count: int) -> list[Sample]:
        """At most `count` stored vectors, spread over everything of the owner."""
        keys = self._stored.keys(self.embedder_id, owner)
        count = min(count, len(keys))
        chosen = [keys[place * len(keys) // count] for place in range(count)]
        vectors = self.vectors([chunk_id for chunk_id, _window in chosen])
        return [
            Sample(self._collection(owner), vector_id(chunk_id, window), vectors[chunk_id][window])
            for chunk_id, window in chosen
            if chunk_id in vectors
        ]

    def heal(self, owners: Sequence[str], proceed: Callable[[], bool]) -> int | None:
        """Make the index agree with SQLite; returns how many entries differed, None if interrupted."""
        differed, change = 0, self.changes
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
        self._agreed = change
        return differed

    @property
    def agreed(self) -> bool:
        """Nothing was written since index and SQLite were compared last."""
        return self._agreed == self.changes

    def collections(self, owners: Sequence[str]) -> set[str]:
        """Where the index keeps this layer."""
        return {self._collection(owner) for owner in owners}

    def _index_stored(self, collection: str, keys: Sequence[tuple[str, int]]) -> None:
        vectors = self.vectors([chunk_id for chunk_id, _window in keys])
        # What was purged since has no vector any more.
        rows = {vector_id(*key): vectors[key[0]][key[1]] for key in keys if key[0] in vectors}
        if rows:
            self._index.upsert(collection, list(rows), np.stack(list(rows.values())))

    def _embed(self, embedder: PassageEmbedder, batch: Batch, known: Mapping[str, Vectors]) -> Embedded:
        windows = [window for _same, windows in batch for window in windows]
        begun = time.monotonic()
        rows = iter(embedder.embed_passages(windows) if windows else ())
        if windows:
            tokens = sum(same[0].tokens for same, windows in batch if windows)
            self._pace.note(embedder.identity.name, tokens, time.monotonic() - begun)
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
        with self._counting:
            self.changes += 1

    def _load(self, scope: Scope) -> _Matrix:
        with self._lock:
            held = self._matrix
            if held is None or held.scope != scope or held.change != self.changes:
                change = self.changes
                keys, _windows, rows = self._stored.matrix(self.embedder_id, scope.owners, scope.doc_ids)
                held = self._matrix = _Matrix(scope, change, keys, rows)
            return held

    def release(self) -> None:
        """Give back the memory of exact search, also of one that is being loaded."""
        with self._lock:
            self._matrix = None

    def _collection(self, owner: str) -> str:
        return collection_name(self.embedder_id, owner)


def _one_ahead(work: Callable[[Batch], Embedded], batches: Iterable[Batch]) -> Iterator[Embedded]:
    """Each batch worked on, in order, while the caller is busy with the one before."""
    with ThreadPoolExecutor(1, "embed") as worker:
        working: Future[Embedded] | None = None
        try:
            for batch in batches:
                before, working = working, worker.submit(work, batch)
                if before is not None:
                    yield before.result()
            if working is not None:
                yield working.result()
        finally:
            if working is not None:
                working.cancel()


def _batches(
    embedder: PassageEmbedder, passages: Sequence[Passage], known: Mapping[str, Vectors]
) -> Iterator[Batch]:
    """Equal passages with the windows that are to be embedded, about `BATCH_WINDOWS` at a time."""
    twins: dict[str, list[Passage]] = {}
    for passage in passages:
        twins.setdefault(passage.text_hash, []).append(passage)
    batch: Batch = []
    size = 0
    for text_hash, same in twins.items():
        windows = [] if text_hash in known else embedder.windows(same[0].text)
        batch.append((same, windows))
        # Known vectors cost a write all the same.
        size += max(len(windows), 1)
        if size >= BATCH_WINDOWS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
