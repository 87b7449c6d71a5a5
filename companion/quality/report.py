"""An evaluation as a table for a person, as JSON, and as a TREC run that others can check.

Pure but for one file. It does not know how anything was measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path

from companion.errors import InvalidInput
from companion.quality.evaluation import Evaluation, Measured
from companion.quality.judged import FILES, JudgedSet
from companion.quality.spans import SPANS

COVERAGE = ("recall", "precision", "IoU")
FIGURES = ("nDCG@10", "recall@5", "recall@20", "MRR", "p50 ms", "p95 ms")


def table(evaluation: Evaluation) -> str:
    """One line for each method, under a line about the set."""
    lines = [_about(evaluation), "", _row("method", FIGURES)]
    for measured in evaluation.methods:
        shares = [f"{share:.4f}" for share in astuple(measured.quality)]
        lines.append(_row(measured.method, [*shares, f"{measured.p50_ms:.1f}", f"{measured.p95_ms:.1f}"]))
    return "\n".join(lines + _coverage_lines(evaluation))


def _coverage_lines(evaluation: Evaluation) -> list[str]:
    covered = [(measured.method, measured.coverage) for measured in evaluation.methods if measured.coverage]
    if not covered:
        return []
    about = f"exact answers, in characters, and the {evaluation.top_k} passages that the prompt would get"
    rows = [_row(method, [f"{share:.4f}" for share in astuple(coverage)]) for method, coverage in covered]
    return ["", about, "", _row("method", COVERAGE), *rows]


def as_json(evaluation: Evaluation) -> str:
    """The same for programs; times in milliseconds."""
    return json.dumps(
        {
            "set": evaluation.name,
            "documents": evaluation.documents,
            "passages": evaluation.passages,
            "questions": evaluation.questions,
            "skipped": evaluation.skipped,
            "missing": evaluation.missing,
            "light": evaluation.light,
            "deep": evaluation.deep,
            "methods": {str(measured.method): _figures(measured) for measured in evaluation.methods},
        },
        indent=2,
        ensure_ascii=False,
    )


def check_run_file(path: Path, folder: Path, judged: JudgedSet) -> None:
    """Raises `InvalidInput` now for what would fail after an hour's work, or write over the set."""
    if path.exists() and path.resolve() in {(folder / name).resolve() for name in (*FILES, SPANS)}:
        raise InvalidInput(f"{path} is a file of the judged set: name another one for the run.")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InvalidInput(f"{path} cannot be written: name a file in a folder that exists.")
    spaced = next((key for key in (*judged.questions, *judged.corpus) if len(key.split()) > 1), None)
    if spaced is not None:
        raise InvalidInput(f"The id {spaced!r} has a space, which a TREC run cannot hold: leave out --run.")


def write_run(path: Path, methods: Sequence[Measured]) -> None:
    """All rankings as a TREC run, the method as tag. Raises `InvalidInput` if it cannot be written."""
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(line for measured in methods for line in _run_lines(measured))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror or error}.") from error


def _about(evaluation: Evaluation) -> str:
    skipped = f" ({evaluation.skipped} without a relevant document left out)" if evaluation.skipped else ""
    missing = (
        f"; relevant, but not in the corpus, and so never found: {evaluation.missing}"
        if evaluation.missing
        else ""
    )
    embedders = "".join(
        f"; {kind}: {name}"
        for kind, name in (("light", evaluation.light), ("deep", evaluation.deep))
        if name is not None
    )
    return (
        f"{evaluation.name}: {evaluation.documents} documents, {evaluation.passages} passages, "
        f"{evaluation.questions} questions{skipped}{missing}{embedders}"
    )


def _row(method: str, cells: Sequence[str]) -> str:
    return f"{method:<10}" + "".join(f"{cell:>11}" for cell in cells)


def _figures(measured: Measured) -> dict[str, float]:
    quality, coverage = measured.quality, measured.coverage
    spans = (
        {
            "span_recall": round(coverage.recall, 6),
            "span_precision": round(coverage.precision, 6),
            "span_iou": round(coverage.iou, 6),
        }
        if coverage
        else {}
    )
    return {
        "ndcg@10": round(quality.ndcg_10, 6),
        "recall@5": round(quality.recall_5, 6),
        "recall@20": round(quality.recall_20, 6),
        "mrr": round(quality.mrr, 6),
        "latency_p50_ms": round(measured.p50_ms, 2),
        "latency_p95_ms": round(measured.p95_ms, 2),
        **spans,
    }


def _run_lines(measured: Measured) -> Iterator[str]:
    for question, ranking in measured.run.items():
        for rank, (document, score) in enumerate(ranking.items(), start=1):
            # All digits: whoever reads it back gets the same figures.
            yield f"{question} Q0 {document} {rank} {score!r} {measured.method}\n"
