"""The command `evaluate DIR`: its arguments, and the order of what it does with them.

Knows files, streams and signals. It does not know how anything is measured.
"""

from __future__ import annotations

import argparse
import signal
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from companion.config import Settings, quiet_libraries
from companion.domain import Embedder
from companion.errors import InvalidInput
from companion.inference.deep import DeepEmbedder
from companion.quality.evaluation import Setup, evaluate
from companion.quality.judged import JudgedSet, read_judged_set
from companion.quality.progress import ProgressLine
from companion.quality.report import as_json, check_run_file, table, write_run
from companion.quality.spans import read_answers
from companion.quality.throwaway import Method

OpenLight = Callable[[Settings], Embedder]
OpenDeep = Callable[[Settings], DeepEmbedder]

DEEP = {Method.DEEP, Method.DIRECT}
"""What needs deep vectors."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="folder with corpus.jsonl, queries.jsonl and qrels.tsv"
    )
    parser.add_argument(
        "--layers",
        default=",".join(method for method in Method if method not in DEEP),
        help="what to measure, of lexical, light, hybrid, feedback, deep and direct (default: "
        "%(default)s); the last two take minutes to hours at first",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="ask the first N questions only")
    parser.add_argument("--run", type=Path, metavar="FILE", help="write the rankings there as a TREC run")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")


def run(
    settings: Settings,
    arguments: dict[str, Any],
    light: OpenLight,
    deep: OpenDeep,
    reader: OpenLight,
) -> int:
    """In a library of its own, which is thrown away: the data folder is not touched."""
    quiet_libraries()
    methods, file = _methods(arguments["layers"]), arguments["run"]
    judged = _limited(read_judged_set(arguments["folder"]), arguments["limit"])
    if file:
        check_run_file(file, arguments["folder"], judged)
    answers = read_answers(arguments["folder"])
    with _interrupted_by_the_end(), ProgressLine(sys.stderr) as progress:
        setup = Setup(
            # Opened only if a method needs it.
            light=light(settings) if set(methods) - {Method.LEXICAL} else None,
            deep=deep(settings) if set(methods) & DEEP else None,
            reader=reader(settings) if Method.DIRECT in methods else None,
            cache=settings.weights_folder / "vectors",
            top_k=settings.top_k,
            progress=progress,
        )
        evaluation = evaluate(judged, methods, setup, answers)
    # Before the file: a full disk shall not take the figures of an hour with it.
    sys.stdout.write((as_json(evaluation) if arguments["json"] else table(evaluation)) + "\n")
    if file:
        write_run(file, evaluation.methods)
    return 0


def _methods(layers: str) -> list[Method]:
    try:
        return list(dict.fromkeys(Method(name.strip()) for name in layers.split(",")))
    except ValueError:
        raise InvalidInput(
            f"--layers cannot be {layers!r}: it names some of {', '.join(Method)}, with commas between them."
        ) from None


def _limited(judged: JudgedSet, limit: int | None) -> JudgedSet:
    if limit is not None and limit < 1:
        raise InvalidInput(f"--limit cannot be {limit}: it is a number of questions, at least 1.")
    return judged if limit is None else judged.first(limit)


@contextmanager
def _interrupted_by_the_end() -> Iterator[None]:
    """Being ended is like Ctrl-C: what was begun is cleared away."""

    def interrupt(_number: int, _frame: types.FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
