"""LlamaIndex retrievers over the layers: lexical, light, and both fused with feedback, deep or light.

Knows how rankings are made and mixed. It does not know owners' rights: the scope it is given
is final. Imported late, because LlamaIndex takes more than a second.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from companion import tuning
from companion.domain import Embedder, Passage
from companion.errors import EmbedderError
from companion.library import ranking

if TYPE_CHECKING:
    from companion.domain import Vectors
    from companion.library.layer import Layer, Scope
    from companion.storage.store import Store

log = logging.getLogger(__name__)


class PassageRetriever(BaseRetriever):
    """Ranks passage ids; texts come from SQLite for the best ones only.

    Chroma keeps no text, so LlamaIndex's own `ChromaVectorStore` would return empty nodes.
    """

    def __init__(self, store: Store, scope: Scope, top_k: int) -> None:
        super().__init__()
        self._store = store
        self._scope = scope
        self._top_k = top_k
        self.found: dict[str, tuple[Passage, str]] = {}
        """Passages of the last retrieval with the names of their documents."""
        self.ranking: dict[str, float] = {}
        """All that the last retrieval ranked, not only the best."""

    def rank(self, question: str) -> dict[str, float]:
        """Chunk id to score, higher is better."""
        raise NotImplementedError

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.ranking = self.rank(query_bundle.query_str)
        best = ranking.top(self.ranking, self._top_k)
        known = self._store.passages.by_id(list(best))
        # A passage may have gone since it was ranked.
        kept = [key for key in best if key in known]
        self.found = {key: known[key] for key in kept}
        return [
            NodeWithScore(
                node=TextNode(id_=key, text=known[key][0].text), score=max(0.0, min(1.0, best[key]))
            )
            for key in kept
        ]


class LexicalRetriever(PassageRetriever):
    """BM25 over stemmed words (SQLite FTS5)."""

    def rank(self, question: str) -> dict[str, float]:
        words, scope = self._store.words, self._scope
        total = words.passages(scope.owners)
        most = int(max(tuning.COMMON_SHARE * total, tuning.COMMON_FLOOR))
        terms = ranking.search_terms(question, lambda term: words.frequency(term, scope.owners, most), total)
        if not terms:
            return {}
        return dict(words.search(scope.owners, terms, tuning.DEPTH, scope.doc_ids))


class VectorRetriever(PassageRetriever):
    """Cosine in one layer. Raises `EmbedderError` while its embedder cannot embed a question."""

    def __init__(
        self, store: Store, scope: Scope, top_k: int, layer: Layer, embedder: Embedder | None
    ) -> None:
        """`embedder` None: of a space that never sees a question, only feedback."""
        super().__init__(store, scope, top_k)
        self._layer = layer
        self._embedder = embedder
        # Deleted documents stay in the index until they are purged.
        self._hidden = store.documents.hidden()
        self.question: Vectors | None = None
        """The last question's vector."""

    def rank(self, question: str) -> dict[str, float]:
        if self._embedder is None:
            raise EmbedderError("Questions are not embedded in this layer.")
        self.question = self._embedder.embed_query(question)
        return self.rank_vector(self.question)

    def rank_vector(self, query: Vectors) -> dict[str, float]:
        found = self._layer.rank(self._scope, query)
        if self._hidden:
            found = {key: s for key, s in found.items() if key.partition(":")[0] not in self._hidden}
        return ranking.top(found, tuning.DEPTH)

    def feedback_query(self, hybrid: ranking.Ranking, *, all_of_them: bool = False) -> Vectors | None:
        """What the best passages of another ranking ask for here; None where they have no vectors.

        `all_of_them`: not one of them may lack its vectors.
        """
        best = list(ranking.top(hybrid, tuning.FEEDBACK_PASSAGES))
        vectors = self._layer.vectors(best)
        if all_of_them and len(vectors) < len(best):
            return None
        return ranking.feedback_query(hybrid, vectors)

    def similarity(self, query: Vectors, chunk_ids: list[str]) -> dict[str, float]:
        """Cosine of the best window, for passages that have vectors here."""
        return ranking.cosines(query, self._layer.vectors(chunk_ids))


@dataclass(frozen=True, slots=True)
class Deep:
    """The deep layer of a search."""

    layer: Layer
    whole: bool
    """Every passage of the scope is in it."""
    embedder: Embedder | None = None
    """Reads questions for it, where that is switched on."""


class HybridRetriever(PassageRetriever):
    """Words and meanings, half and half, then feedback in the deep space, else in the light one.

    Where the deep embedder reads questions, its own ranking comes in before the feedback.
    """

    def __init__(
        self,
        store: Store,
        scope: Scope,
        top_k: int,
        layer: Layer,
        embedder: Embedder,
        deep: Deep | None = None,
    ) -> None:
        super().__init__(store, scope, top_k)
        self._lexical = LexicalRetriever(store, scope, top_k)
        self._light = VectorRetriever(store, scope, top_k, layer, embedder)
        self._deep = VectorRetriever(store, scope, top_k, deep.layer, deep.embedder) if deep else None
        # In a partly deep library a direct question loses up to .011 on nq-utd; feedback does not.
        self._direct = self._deep if deep and deep.whole and deep.embedder else None
        self._whole = deep is not None and deep.whole
        self.rankings: dict[str, dict[str, float]] = {}
        """The last rankings by name: `lexical`, `light`, and `deep` or `feedback`."""
        self.notices: list[str] = []

    def rank(self, question: str) -> dict[str, float]:
        lexical = self._lexical.rank(question)
        self.rankings = {"lexical": lexical}
        try:
            light = self._light.rank(question)
        except EmbedderError as error:
            self.notices.append(f"Only words were searched, not meanings: {error.message}")
            return ranking.min_max(lexical)
        self.rankings["light"] = light
        hybrid = ranking.fuse(light, lexical)
        return self.refine(self._with_direct_question(question, hybrid))

    def refine(self, hybrid: ranking.Ranking) -> dict[str, float]:
        """The ranking with what its best passages ask for."""
        return self._with_deep_feedback(hybrid) or self._with_light_feedback(hybrid)

    def similarity(self, chunk_ids: list[str]) -> dict[str, float]:
        """Cosine to the last question, for passages that have light vectors."""
        question, ranked = self._light.question, self.rankings.get("light", {})
        if question is None:
            return {}
        known = {key: ranked[key] for key in chunk_ids if key in ranked}
        # Found by words or by feedback alone: their vectors have to be read.
        unknown = [key for key in chunk_ids if key not in ranked]
        return {**known, **(self._light.similarity(question, unknown) if unknown else {})}

    def _with_direct_question(self, question: str, hybrid: dict[str, float]) -> dict[str, float]:
        """The deep embedder asked itself, as a third ranking."""
        if self._direct is None:
            return hybrid
        try:
            self.rankings["deep"] = self._direct.rank(question)
        except EmbedderError as error:
            # Found all the same: by feedback.
            log.warning("a question did not go to the deep embedder: %s", error.message)
            return hybrid
        return ranking.mix(hybrid, self.rankings["deep"], tuning.DIRECT_SHARE)

    def _with_light_feedback(self, hybrid: ranking.Ranking) -> dict[str, float]:
        query = self._light.feedback_query(hybrid)
        feedback = {} if query is None else self._light.rank_vector(query)
        self.rankings["feedback"] = feedback
        return ranking.mix(hybrid, feedback, tuning.LIGHT_FEEDBACK)

    def _with_deep_feedback(self, hybrid: ranking.Ranking) -> dict[str, float] | None:
        """None where the deep layer cannot serve this question."""
        query = self._deep.feedback_query(hybrid, all_of_them=True) if self._deep else None
        if self._deep is None or query is None:
            return None
        deep = self._deep.rank_vector(query)
        feedback = deep if self._whole else self._partly_deep(hybrid, self._deep, query, deep)
        if feedback is None:
            return None
        self.rankings["deep"] = self.rankings.get("deep", {}) | deep
        return ranking.mix(hybrid, feedback, tuning.DEEP_FEEDBACK)

    def _partly_deep(
        self, hybrid: ranking.Ranking, space: VectorRetriever, query: Vectors, deep: dict[str, float]
    ) -> dict[str, float] | None:
        """Deep similarities among light ones, each candidate with the best that it has."""
        light_query = self._light.feedback_query(hybrid)
        if light_query is None:
            return None
        light = self._light.rank_vector(light_query)
        deep = {**space.similarity(query, [key for key in light if key not in deep]), **deep}
        light |= self._light.similarity(light_query, [key for key in deep if key not in light])
        return ranking.on_one_scale(deep, light)


class PlainHybridRetriever(HybridRetriever):
    """Words and meanings without feedback: to measure what feedback is worth."""

    def refine(self, hybrid: ranking.Ranking) -> dict[str, float]:
        return dict(hybrid)
