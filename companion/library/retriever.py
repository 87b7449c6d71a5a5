"""LlamaIndex retrievers over the layers: lexical, light, and both fused with feedback.

Knows how rankings are made and mixed. It does not know owners' rights: the scope it is given
is final. Imported late, because LlamaIndex takes more than a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from companion.domain import Passage
from companion.errors import EmbedderError
from companion.library import ranking

if TYPE_CHECKING:
    from companion.domain import Vectors
    from companion.library.layer import Layer, Scope
    from companion.storage.documents import DocumentStore


class PassageRetriever(BaseRetriever):
    """Ranks passage ids; texts come from SQLite for the best ones only.

    Chroma keeps no text, so LlamaIndex's own `ChromaVectorStore` would return empty nodes.
    """

    def __init__(self, documents: DocumentStore, scope: Scope, top_k: int) -> None:
        super().__init__()
        self._documents = documents
        self._scope = scope
        self._top_k = top_k
        self.found: dict[str, tuple[Passage, str]] = {}
        """Passages of the last retrieval with the names of their documents."""

    def rank(self, question: str) -> dict[str, float]:
        """Chunk id to score, higher is better."""
        raise NotImplementedError

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        ranked = self.rank(query_bundle.query_str)
        best = ranking.top(ranked, self._top_k)
        known = self._documents.passages_by_id(list(best))
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
        terms = ranking.search_terms(
            question, self._documents.term_frequency, self._documents.total_passages()
        )
        if not terms:
            return {}
        scope = self._scope
        return dict(self._documents.search_text(scope.owners, terms, ranking.DEPTH, scope.doc_ids))


class VectorRetriever(PassageRetriever):
    """Cosine in one layer. Raises `EmbedderError` while its embedder cannot embed a question."""

    def __init__(self, documents: DocumentStore, scope: Scope, top_k: int, layer: Layer) -> None:
        super().__init__(documents, scope, top_k)
        self._layer = layer
        self.question: Vectors | None = None
        """The last question's vector."""

    def rank(self, question: str) -> dict[str, float]:
        self.question = self._layer.embed_query(question)
        return self.rank_vector(self.question)

    def rank_vector(self, query: Vectors) -> dict[str, float]:
        # Deleted documents stay in the index until they are purged.
        hidden = self._documents.hidden()
        found = self._layer.rank(self._scope, query).items()
        return ranking.top({key: s for key, s in found if key.partition(":")[0] not in hidden}, ranking.DEPTH)

    def rank_feedback(self, hybrid: ranking.Ranking) -> dict[str, float]:
        """The ranking that the best passages of another ranking ask for; empty without vectors."""
        best = list(ranking.top(hybrid, ranking.FEEDBACK_PASSAGES))
        query = ranking.feedback_query(hybrid, self._layer.vectors(best))
        return {} if query is None else self.rank_vector(query)


class HybridRetriever(PassageRetriever):
    """Words and meanings, half and half, then feedback in the light space."""

    def __init__(self, documents: DocumentStore, scope: Scope, top_k: int, layer: Layer) -> None:
        super().__init__(documents, scope, top_k)
        self._lexical = LexicalRetriever(documents, scope, top_k)
        self._light = VectorRetriever(documents, scope, top_k, layer)
        self._layer = layer
        self.rankings: dict[str, dict[str, float]] = {}
        """The last rankings by name: `lexical`, `light`, `feedback`."""
        self.notices: list[str] = []

    def rank(self, question: str) -> dict[str, float]:
        lexical = self._lexical.rank(question)
        self.rankings = {"lexical": lexical}
        try:
            light = self._light.rank(question)
        except EmbedderError as error:
            self.notices.append(f"Only words were searched, not meanings: {error.message}")
            return ranking.min_max(lexical)
        hybrid = ranking.mix(light, lexical, 1 - ranking.LIGHT_SHARE)
        feedback = self._light.rank_feedback(hybrid)
        self.rankings = {"lexical": lexical, "light": light, "feedback": feedback}
        return ranking.mix(hybrid, feedback, ranking.LIGHT_FEEDBACK)

    def similarity(self, chunk_ids: list[str]) -> dict[str, float]:
        """Cosine of the best window to the last question, for passages that have vectors."""
        question = self._light.question
        if question is None:
            return {}
        return {key: float((rows @ question).max()) for key, rows in self._layer.vectors(chunk_ids).items()}
