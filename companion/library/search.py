"""A search: whose documents and which, in which layers, and what became of it.

Knows scopes, and who embeds the question. It does not know how a ranking is made or mixed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from companion.domain import SAMPLE_OWNER, Embedder, Hit, SearchResult
from companion.library.layer import Layer, Scope
from companion.library.layers import Layers

if TYPE_CHECKING:
    from companion.library.retriever import HybridRetriever
    from companion.storage.store import Store


@dataclass(frozen=True, slots=True)
class ScopeSummary:
    """What a search looks through, counted."""

    documents: int
    """Those that have passages."""
    passages: int
    samples: bool
    """The sample library or a part of it: chosen, or for want of anything of one's own."""
    chosen: bool
    """Chosen documents only; else everything of one's own."""
    missing: int
    """Chosen documents that are gone."""


class Search:
    """Asks the documents of all owners, each for themselves."""

    def __init__(self, store: Store, layers: Layers, deep_reader: Callable[[], Embedder | None]) -> None:
        """`deep_reader` is who reads questions in a deep space, if anybody does just now."""
        self._store = store
        self._layers = layers
        self._deep_reader = deep_reader

    def find(
        self, owner: str, query: str, top_k: int, doc_ids: Sequence[str] | None, embed_deep: str | None
    ) -> SearchResult:
        started = time.perf_counter()
        # A tokenizer refuses half a surrogate pair.
        query = query.encode("utf-8", "replace").decode()
        retriever = self._retriever(self.scope(owner, doc_ids), top_k, embed_deep)
        hits = _hits(retriever, query)
        took_ms = (time.perf_counter() - started) * 1000
        return SearchResult(tuple(hits), tuple(retriever.rankings), took_ms, tuple(retriever.notices))

    def scope(self, owner: str, doc_ids: Sequence[str] | None) -> Scope:
        if doc_ids is not None:
            return Scope((owner, SAMPLE_OWNER), tuple(doc_ids))
        return Scope((SAMPLE_OWNER if self.uses_samples(owner) else owner,))

    def uses_samples(self, owner: str) -> bool:
        return not self._store.passages.has_any(owner)

    def summary(self, owner: str, doc_ids: Sequence[str] | None) -> ScopeSummary:
        own = self._store.documents.totals((owner,), doc_ids)
        samples = self._store.documents.totals((SAMPLE_OWNER,), doc_ids)
        if doc_ids is None:
            searched = own if own.passages else samples
            return ScopeSummary(searched.searchable, searched.passages, not own.passages, False, 0)
        return ScopeSummary(
            documents=own.searchable + samples.searchable,
            passages=own.passages + samples.passages,
            samples=samples.documents > 0,
            chosen=True,
            missing=len(set(doc_ids)) - own.documents - samples.documents,
        )

    def _retriever(self, scope: Scope, top_k: int, embed_deep: str | None) -> HybridRetriever:
        from companion.library.retriever import Deep, HybridRetriever

        light, deep = self._layers.serving, self._layers.deep_for(scope, embed_deep)
        return HybridRetriever(
            self._store,
            scope,
            top_k,
            light.layer,
            light.embedder,
            Deep(*deep, self._reader_for(deep[0])) if deep else None,
        )

    def _reader_for(self, layer: Layer) -> Embedder | None:
        reader = self._deep_reader()
        return reader if reader and reader.identity.embedder_id == layer.embedder_id else None


def _hits(retriever: HybridRetriever, query: str) -> list[Hit]:
    nodes = retriever.retrieve(query)
    cosines = retriever.similarity([node.node.node_id for node in nodes])
    hits = []
    for node in nodes:
        key = node.node.node_id
        passage, name = retriever.found[key]
        layers = tuple(layer for layer, ranking in retriever.rankings.items() if key in ranking)
        hits.append(Hit(passage, name, node.score or 0.0, layers, cosines.get(key)))
    return hits
