"""Asks the live library its questions in every way there is, and notes where the passage stood.

Knows layers and retrievers. It does not know who made a question, or when there is time for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from companion.domain import Figures, KnownItem
from companion.errors import EmbedderError
from companion.library.layer import Scope
from companion.library.ranking import top
from companion.quality.measures import Scorer
from companion.quality.throwaway import Method

if TYPE_CHECKING:
    from companion.library.library import Library
    from companion.library.retriever import PassageRetriever
    from companion.storage.store import Store

TOP_K = 5
"""Texts that a retriever fetches; all that it ranked counts."""

Ranks = dict[str, int | None]
"""Method to rank, 1-based; None: not found."""


class Asker:
    """The methods as they are at this moment; made anew for each measurement."""

    def __init__(
        self, store: Store, library: Library, owner: str, items: Sequence[KnownItem], embed_deep: str
    ) -> None:
        """`embed_deep`: the deep embedder to prefer, as in a search."""
        self._retrievers = _retrievers(store, library, Scope((owner,)), embed_deep)
        self._twins = store.quality.twins(owner, [item.chunk_id for item in items])

    @property
    def methods(self) -> tuple[Method, ...]:
        return tuple(self._retrievers)

    def ranks(self, item: KnownItem) -> Ranks:
        """Where each method has the passage. Raises `EmbedderError` where meanings cannot be searched."""
        meant = self._twins.get(item.chunk_id, {item.chunk_id})
        return {str(method): self._rank(method, item.question, meant) for method in self._retrievers}

    def _rank(self, method: Method, question: str, meant: set[str]) -> int | None:
        retriever = self._retrievers[method]
        retriever.retrieve(question)
        if notices := getattr(retriever, "notices", ()):
            # Else words alone would be measured under another name.
            raise EmbedderError(notices[0])
        ranking = retriever.ranking
        order = top(ranking, len(ranking))
        return next((place for place, key in enumerate(order, start=1) if key in meant), None)


def _retrievers(
    store: Store, library: Library, scope: Scope, embed_deep: str
) -> dict[Method, PassageRetriever]:
    """As searches use them; the deep one only where there is a deep layer."""
    from companion.library.retriever import (
        Deep,
        HybridRetriever,
        LexicalRetriever,
        PlainHybridRetriever,
        VectorRetriever,
    )

    light = library.layers.serving
    deep = library.layers.deep_for(scope, embed_deep)
    parts = (store, scope, TOP_K, light.layer, light.embedder)
    found: dict[Method, PassageRetriever] = {
        Method.LEXICAL: LexicalRetriever(store, scope, TOP_K),
        Method.LIGHT: VectorRetriever(*parts),
        Method.HYBRID: PlainHybridRetriever(*parts),
        Method.FEEDBACK: HybridRetriever(*parts),
    }
    if deep is not None:
        found[Method.DEEP] = HybridRetriever(*parts, Deep(*deep))
    return found


def figures_of(ranks: Mapping[int, Ranks]) -> dict[str, Figures]:
    """Means over all questions, by method; by the same scorer as on judged sets."""
    scorer = Scorer({str(key): {"meant": 1} for key in ranks})
    methods = dict.fromkeys(method for each in ranks.values() for method in each)
    return {
        method: _figures(scorer, {key: each[method] for key, each in ranks.items()}) for method in methods
    }


def _figures(scorer: Scorer, ranks: Mapping[int, int | None]) -> Figures:
    run = {str(key): _as_run(rank) for key, rank in ranks.items() if rank is not None}
    quality = scorer.quality(run)
    return Figures(quality.recall_5, quality.mrr, quality.ndcg_10)


def _as_run(rank: int) -> dict[str, float]:
    """A ranking in which the passage that was meant has this rank."""
    others = {f"other {place}": 1 / place for place in range(1, rank)}
    return {**others, "meant": 1 / rank}
