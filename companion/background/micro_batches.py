"""Micro-batches: what is embedded next, before the rules are asked again.

Knows how much fits into a moment, and which documents are under suspicion. It does not know how anything
is embedded, or whether it may be.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from companion.domain import Passage
from companion.errors import EmbedderError

if TYPE_CHECKING:
    from companion.library.layers import Layers
    from companion.storage.store import Store

log = logging.getLogger(__name__)

FIRST_TOKENS = 1024
"""Of the first micro-batch; later ones take about `BATCH_S`."""
FEWEST_TOKENS, MOST_TOKENS = 256, 32_768
BATCH_S = 1.5


@dataclass(slots=True)
class Batch:
    """What is embedded before the rules are asked again."""

    owner: str = ""
    passages: list[Passage] = field(default_factory=list)

    @property
    def doc_ids(self) -> set[str]:
        return {passage.doc_id for passage in self.passages}


class MicroBatches:
    """Belongs to the worker's thread."""

    def __init__(self, store: Store, layers: Layers) -> None:
        self._store = store
        self._layers = layers
        self._queue: deque[tuple[str, str]] = deque()
        self._suspects: set[str] = set()
        self._tokens = FIRST_TOKENS

    def next(self, embedder_id: str) -> Batch:
        """Passages of one owner for about `BATCH_S`; empty when nothing waits any more."""
        batch = Batch()
        left = self._tokens
        fresh = False
        while left > 0:
            if not self._queue:
                if batch.passages or fresh:
                    break
                fresh = True
                self._queue.extend(self._layers.waiting(embedder_id))
                continue
            doc_id, owner = self._queue[0]
            if batch.passages and (batch.owner != owner or self._suspects & {doc_id, *batch.doc_ids}):
                break
            batch.owner = owner
            for passage in self._store.embeddings.missing(embedder_id, doc_id):
                batch.passages.append(passage)
                left -= max(passage.tokens, 1)
                if left <= 0:
                    return batch
            self._queue.popleft()
        return batch

    def done(self, embedder_id: str, batch: Batch, took_s: float) -> None:
        """It went well; the next one may be larger or smaller."""
        self._store.layers.forgive(embedder_id, batch.doc_ids)
        self._suspects -= batch.doc_ids
        if took_s < BATCH_S / 2:
            self._tokens = min(self._tokens * 2, MOST_TOKENS)
        elif took_s > BATCH_S * 2:
            self._tokens = max(self._tokens // 2, FEWEST_TOKENS)

    def blame(self, embedder_id: str, batch: Batch, error: EmbedderError) -> None:
        """A document that fails twice is set aside; the second try is without company."""
        doc_ids = batch.doc_ids
        again = self._store.layers.troubled(embedder_id)
        for doc_id in doc_ids:
            set_aside = len(doc_ids) == 1 and doc_id in again
            self._store.layers.note_trouble(doc_id, embedder_id, error.message, set_aside=set_aside)
            if set_aside:
                log.warning("a document is left out of the deep layer: %s", error.message)
        self._suspects |= doc_ids
        self._queue.clear()

    def forget(self) -> None:
        """What waits is asked for anew."""
        self._queue.clear()
