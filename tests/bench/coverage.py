"""A partly deep library: random documents deep, against the same search without a deep layer.

The judged sets are those that `COMPANION_EVAL` names, with colons between them: none is part of the program.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from companion.config import Settings
from companion.domain import LOCAL_OWNER
from companion.embedding import load_embedder, open_deep
from companion.library.layers import Layers
from companion.library.ranking import top
from companion.library.retriever import Deep, HybridRetriever, PlainHybridRetriever
from companion.quality.evaluation import KEPT
from companion.quality.judged import JudgedSet, read_judged_set
from companion.quality.measures import Scorer
from companion.quality.throwaway import SCOPE, ThrowAwayLibrary
from companion.quality.vector_cache import CachedEmbedder, VectorCache

SEEDS = 6
SHARES = (0.25, 0.5, 0.75, 1.0)


class OwnSpace:
    """An embedder under another identity: each seed has a layer that begins empty."""

    def __init__(self, embedder, seed: int) -> None:
        self._embedder = embedder
        self.identity = replace(embedder.identity, name=f"seed {seed}", weight_hash=f"seed {seed}")
        self.windows = embedder.windows
        self.embed_passages = embedder.embed_passages


class Remembering:
    """Reads each question once."""

    def __init__(self, embedder) -> None:
        self.identity = embedder.identity
        self.embed_query = cache(embedder.embed_query)


class Measured:
    """One judged set in a library whose deep layer grows."""

    def __init__(self, judged: JudgedSet, library: ThrowAwayLibrary, settings: Settings) -> None:
        self._judged, self._library, self._scorer = judged, library, Scorer(judged.grades)
        library.take_in(judged.corpus)
        light = load_embedder(settings.embed_light, settings)
        vectors = settings.weights_folder / "vectors"
        # Not opened: stored vectors answer, exactly.
        self._layers = Layers(library._store, library._index, light)
        known = CachedEmbedder(light, VectorCache(vectors, light.identity))
        self._layers.light.fill(known, LOCAL_OWNER, library.all_passages, lambda _done: True)
        self._reader = Remembering(light)
        self._deep = open_deep(settings.embed_deep, settings, None)
        self._known_deep = CachedEmbedder(
            self._deep, VectorCache(vectors, self._deep.identity), self._deep.start
        )

    def close(self) -> None:
        self._deep.kill()

    def ndcg(self, way=HybridRetriever, *, deep: bool = False) -> float:
        found = self._layers.deep_for(SCOPE) if deep else None
        space = (Deep(*found),) if found else ()
        documents = self._library._store.documents
        run = {}
        for key, question in self._judged.questions.items():
            retriever = way(documents, SCOPE, 10, self._layers.light, self._reader, *space)
            retriever.retrieve(question)
            run[key] = top(self._library.by_document(retriever.ranking), KEPT)
        return self._scorer.quality(run).ndcg_10

    def deepened(self, seed: int) -> Iterator[float]:
        """nDCG@10 with each of `SHARES` of the documents deep, one after the other."""
        space = OwnSpace(self._known_deep, seed)
        names = np.random.default_rng(seed).permutation(sorted(self._library.passages))
        done = 0
        for share in SHARES:
            count = round(share * len(names))
            passages = [each for name in names[done:count] for each in self._library.passages[name]]
            self._layers.fill(space, LOCAL_OWNER, passages, lambda _done: True)
            self._layers.settle(space.identity.embedder_id, ())
            done = count
            yield self.ndcg(deep=True)


def lines_of(folder: Path, settings: Settings) -> Iterator[str]:
    judged = read_judged_set(folder)
    with ThrowAwayLibrary.open(settings.weights_folder / "vectors", lambda *_: None) as library:
        measured = Measured(judged, library, settings)
        try:
            hybrid, without = measured.ndcg(PlainHybridRetriever), measured.ndcg()
            yield f"partly deep, {judged.name}: hybrid {hybrid:.4f}, without a deep layer {without:.4f}"
            grown = np.array([list(measured.deepened(seed)) for seed in range(SEEDS)]) - without
        finally:
            measured.close()
    for share, differences in zip(SHARES, grown.T, strict=True):
        yield (
            f"partly deep, {judged.name}, {share:.0%} of the documents: {differences.mean():+.4f} "
            f"({differences.min():+.4f} to {differences.max():+.4f}) of {SEEDS} seeds; "
            "bar: mean -.003, worst -.008"
        )


def run() -> Iterator[str]:
    folders = os.environ.get("COMPANION_EVAL")
    if not folders:
        yield "partly deep: not measured, COMPANION_EVAL names no judged sets"
        return
    for folder in folders.split(":"):
        yield from lines_of(Path(folder), Settings())
