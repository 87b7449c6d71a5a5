"""One evaluation: a judged set through the product's search, scored and timed for each method.

Knows the order of steps and the clock. It does not know how a ranking is made, or how figures are
shown.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from companion.domain import Embedder
from companion.inference.deep import DeepEmbedder
from companion.library.ranking import top
from companion.quality.judged import JudgedSet
from companion.quality.measures import Quality, Scorer
from companion.quality.spans import Answers, Coverage, coverage_of, located
from companion.quality.throwaway import Method, Progress, ThrowAwayLibrary

KEPT = 100
"""Documents of each ranking that are scored and written down."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One method: how good it is, and how long a question takes with its embedding."""

    method: Method
    quality: Quality
    p50_ms: float
    p95_ms: float
    run: dict[str, dict[str, float]]
    """Question id to document id to score, best first."""
    coverage: Coverage | None = None
    """Of exact answers by the passages for the prompt, where the set knows such."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured, and on what."""

    name: str
    documents: int
    passages: int
    questions: int
    skipped: int
    """Questions for which nothing is judged relevant."""
    missing: int
    """Relevant documents that are not in the corpus."""
    light: str | None
    """Name of the light embedder; None if only words were searched."""
    deep: str | None
    top_k: int
    methods: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Setup:
    """What each part of an evaluation needs beside its texts."""

    light: Embedder | None
    """None: only words are searched."""
    deep: DeepEmbedder | None
    reader: Embedder | None
    """The deep embedder for questions; None: none goes to it."""
    cache: Path
    """Folder of vectors from earlier runs."""
    top_k: int
    """Passages for the prompt."""
    progress: Progress


def evaluate(
    judged: JudgedSet, methods: Sequence[Method], setup: Setup, answers: Answers | None = None
) -> Evaluation:
    """Fill a library that is thrown away afterwards, and ask it every question by every method.

    The same once more with the documents of `answers`, if there are any. Raises `EmbedderError`.
    """
    scorer = Scorer(judged.grades)
    with _filled(judged.corpus, setup) as library:
        passages = len(library.all_passages)
        measured = [_measure(library, judged, scorer, method, setup) for method in methods]
    if answers is not None:
        with _filled(answers.documents, setup) as library:
            measured = [_with_coverage(library, judged, answers, each, setup) for each in measured]
    light, deep = setup.light, setup.deep
    return Evaluation(
        name=judged.name,
        documents=len(judged.corpus),
        passages=passages,
        questions=len(judged.questions),
        skipped=judged.skipped,
        missing=judged.missing,
        light=light.identity.name if light else None,
        deep=deep.identity.name if deep else None,
        top_k=setup.top_k,
        methods=tuple(measured),
    )


@contextmanager
def _filled(texts: Mapping[str, str], setup: Setup) -> Iterator[ThrowAwayLibrary]:
    with ThrowAwayLibrary.open(setup.cache, setup.progress) as library:
        library.take_in(texts)
        if setup.light is not None:
            library.embed(setup.light, setup.deep, setup.reader)
        yield library


def _measure(
    library: ThrowAwayLibrary, judged: JudgedSet, scorer: Scorer, method: Method, setup: Setup
) -> Measured:
    top_k = setup.top_k
    # Not counted: the first one reads from the disk what the others find in memory.
    library.rank(method, next(iter(judged.questions.values())), top_k)
    times, run = [], {}
    for done, (key, question) in enumerate(judged.questions.items(), start=1):
        started = time.perf_counter()
        ranking = library.rank(method, question, top_k)
        times.append((time.perf_counter() - started) * 1000)
        run[key] = top(library.by_document(ranking), KEPT)
        setup.progress(f"questions asked, {method}", done, len(judged.questions))
    p50, p95 = np.percentile(times, (50, 95))
    return Measured(method, scorer.quality(run), float(p50), float(p95), run)


def _with_coverage(
    library: ThrowAwayLibrary, judged: JudgedSet, answers: Answers, measured: Measured, setup: Setup
) -> Measured:
    places = located(answers.documents, library.passages)
    found = {}
    for key in judged.questions.keys() & answers.spans.keys():
        ranking = library.rank(measured.method, judged.questions[key], setup.top_k)
        found[key] = [places[chunk_id] for chunk_id in top(ranking, setup.top_k)]
    return replace(measured, coverage=coverage_of(answers.spans, found) if found else None)
