"""A library for one measurement: filled as the real one is, asked as the real one is, then gone.

Knows the parts of the product that a text passes from the corpus to a ranking. It does not know
judgements, scores or clocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from companion.domain import LOCAL_OWNER, Document, DocumentState, Embedder, Passage, Reading, Section
from companion.errors import EmbedderError
from companion.inference.deep import DeepEmbedder
from companion.library.chunking import cut
from companion.library.intake import identified
from companion.library.layer import Scope
from companion.library.layers import Layers
from companion.library.vectors import VectorIndex
from companion.quality.vector_cache import CachedEmbedder, VectorCache
from companion.storage.store import Store

if TYPE_CHECKING:
    from companion.library.retriever import PassageRetriever

SCOPE = Scope((LOCAL_OWNER,))
PREFIX = "companion-evaluate-"

Progress = Callable[[str, int, int], None]
"""Hears what is done, how much of it, and how much there is."""


class Method(StrEnum):
    """A way to rank; also its tag in a TREC run."""

    LEXICAL = "lexical"
    """Words alone."""
    LIGHT = "light"
    """Light vectors alone."""
    HYBRID = "hybrid"
    """Both, without feedback."""
    FEEDBACK = "feedback"
    """Both, with feedback in the light space: the product before deepening."""
    DEEP = "deep"
    """Both, with feedback in the deep space: the product after deepening."""
    DIRECT = "direct"
    """As `deep`, with the question embedded by the deep embedder, too."""


class ThrowAwayLibrary:
    """Store, index and layers in a temporary folder; `open` is the way in."""

    def __init__(self, folder: Path, cache: Path, progress: Progress) -> None:
        self._store = Store.open(folder / "companion.db")
        self._index = VectorIndex(folder / "index")
        self._cache = cache
        self._progress = progress
        self.passages: dict[str, list[Passage]] = {}
        """Of each document, by its name."""
        self._names: dict[str, str] = {}
        self._retrievers: dict[Method, Callable[[int], PassageRetriever]] = {}

    @classmethod
    @contextmanager
    def open(cls, cache: Path, progress: Progress) -> Iterator[ThrowAwayLibrary]:
        """`cache`: folder of vectors from earlier runs."""
        with TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder:
            library = cls(Path(folder), cache, progress)
            try:
                yield library
            finally:
                library.close()

    @property
    def all_passages(self) -> list[Passage]:
        return [passage for passages in self.passages.values() for passage in passages]

    def close(self) -> None:
        self._index.close()
        self._store.close()

    # --- filling --------------------------------------------------------------------------

    def take_in(self, corpus: Mapping[str, str]) -> None:
        """Texts by name become documents and passages; from then on words find them."""
        from companion.library.retriever import LexicalRetriever

        for done, (name, text) in enumerate(corpus.items()):
            self._progress("documents read", done, len(corpus))
            self._add(name, text)
        self._progress("documents read", len(corpus), len(corpus))
        self._retrievers[Method.LEXICAL] = lambda top_k: LexicalRetriever(self._store, SCOPE, top_k)

    def embed(self, light: Embedder, deep: DeepEmbedder | None, reader: Embedder | None = None) -> None:
        """Fill the light layer, and the deep one if there is an embedder for it. `reader`: who reads
        questions for the deep one. Raises `EmbedderError`."""
        from companion.library.retriever import (
            Deep,
            HybridRetriever,
            PlainHybridRetriever,
            VectorRetriever,
        )

        store, layers = self._store, Layers(self._store, self._index, light)
        # Open meanwhile, as in the app.
        layers.open(lambda: True)
        known = CachedEmbedder(light, VectorCache(self._cache, light.identity))
        layers.light.fill(known, LOCAL_OWNER, self.all_passages, self._heard("passages in the light layer"))
        self._retrievers |= {
            Method.LIGHT: lambda top_k: VectorRetriever(store, SCOPE, top_k, layers.light, light),
            Method.HYBRID: lambda top_k: PlainHybridRetriever(store, SCOPE, top_k, layers.light, light),
            Method.FEEDBACK: lambda top_k: HybridRetriever(store, SCOPE, top_k, layers.light, light),
        }
        if deep is not None:
            self._deepen(layers, deep)
            found = layers.deep_for(SCOPE, deep.identity.name)

            def over(space: Deep | None) -> Callable[[int], PassageRetriever]:
                return lambda top_k: HybridRetriever(store, SCOPE, top_k, layers.light, light, space)

            self._retrievers[Method.DEEP] = over(Deep(*found) if found else None)
            self._retrievers[Method.DIRECT] = over(Deep(*found, reader) if found else None)

    def _deepen(self, layers: Layers, embedder: DeepEmbedder) -> None:
        known = CachedEmbedder(embedder, VectorCache(self._cache, embedder.identity), embedder.start)
        try:
            layers.fill(known, LOCAL_OWNER, self.all_passages, self._heard("passages in the deep layer"))
        finally:
            embedder.kill()
        layers.settle(embedder.identity.embedder_id, ())

    def _add(self, name: str, text: str) -> None:
        # Not a random one: equal scores are put in the order of ids, and a second run must agree.
        doc_id = hashlib.sha256(name.encode()).hexdigest()[:32]
        now = datetime.now(UTC)
        self._names[doc_id] = name
        document = Document(
            doc_id=doc_id, owner=LOCAL_OWNER, name=name, source_type="text", source_path=None,
            content_hash=doc_id, size=len(text), state=DocumentState.READING,
            created_at=now, updated_at=now,
        )  # fmt: skip
        self._store.documents.add(document)
        passages = identified(doc_id, cut(Reading("text", (Section(text),))))
        self._store.passages.write(document, "text", (), passages)
        self._store.documents.finish(document)
        self.passages[name] = passages

    def _heard(self, what: str) -> Callable[[int], bool]:
        total = len(self.all_passages)

        def proceed(done: int) -> bool:
            self._progress(what, done, total)
            return True

        return proceed

    # --- asking ---------------------------------------------------------------------------

    def rank(self, method: Method, question: str, top_k: int) -> dict[str, float]:
        """Passage id to score, by the product's own retriever. Raises `EmbedderError`."""
        retriever = self._retrievers[method](top_k)
        retriever.retrieve(question)
        if notices := getattr(retriever, "notices", ()):
            # Else words alone would be measured under another name.
            raise EmbedderError(notices[0])
        return retriever.ranking

    def by_document(self, ranking: Mapping[str, float]) -> dict[str, float]:
        """Document name to the score of its best passage."""
        best: dict[str, float] = {}
        for chunk_id, score in ranking.items():
            name = self._names[chunk_id.partition(":")[0]]
            best[name] = max(float(score), best.get(name, score))
        return best
