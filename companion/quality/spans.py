"""Exact answers in long documents: how much of them reaches the prompt, and how much else.

Knows where answers stand, in characters, and where passages were cut. It does not know how they
were found.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from companion.domain import Passage
from companion.errors import InvalidInput
from companion.quality.judged import read_lines

SPANS, DOCUMENTS = "spans.jsonl", "documents"
FURTHEST_BACK = 2000
"""Characters that a passage may begin before the end of the one before."""

Span = tuple[str, int, int]
"""Document, and its characters from … to."""

Spans = Mapping[str, Sequence[Sequence[Span]]]
"""By question: each part of the answer, with all places where it stands."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Long documents, and where in them the answers stand."""

    documents: dict[str, str]
    spans: Spans


@dataclass(frozen=True, slots=True)
class Coverage:
    """Means over questions, 0 to 1, in characters of answers and of the passages that were found."""

    recall: float
    """Of the answer, what is in the passages."""
    precision: float
    """Of the passages, what is answer."""
    iou: float
    """What is both, of what is either."""


def read_answers(folder: Path) -> Answers | None:
    """None where the folder has no such files. Raises `InvalidInput` with the file and the line."""
    if not (folder / SPANS).is_file() or not (folder / DOCUMENTS).is_dir():
        return None
    documents = {path.stem: _exactly(path) for path in sorted((folder / DOCUMENTS).iterdir())}
    spans: dict[str, list[list[Span]]] = {}
    for where, line in read_lines(folder / SPANS):
        try:
            entry = json.loads(line)
            name = str(entry["doc"])
            places = [(entry["start"], entry["end"]), *entry.get("also", ())]
            part = [(name, int(start), int(end)) for start, end in places]
            question = str(entry["query_id"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InvalidInput(f"{where} is not a span; it takes query_id, doc, start and end.") from None
        if any(not 0 <= start < end <= len(documents.get(name, "")) for _name, start, end in part):
            raise InvalidInput(f"{where} is not within a document of {DOCUMENTS}.")
        spans.setdefault(question, []).append(part)
    return Answers(documents, spans)


def located(texts: Mapping[str, str], passages: Mapping[str, Iterable[Passage]]) -> dict[str, Span]:
    """Where passages stand in the texts they were cut from, by passage id; both are given by name."""
    found: dict[str, Span] = {}
    for name, text in texts.items():
        start = end = 0
        for passage in passages[name]:
            # Not from the beginning: a document may repeat itself.
            start = text.index(passage.text, max(start, end - FURTHEST_BACK))
            # A passage may repeat all of a short one before it, but goes further.
            while start + len(passage.text) <= end:
                start = text.index(passage.text, start + 1)
            end = start + len(passage.text)
            found[passage.chunk_id] = (name, start, end)
    return found


def coverage_of(
    spans: Mapping[str, Sequence[Sequence[Span]]], found: Mapping[str, Sequence[Span]]
) -> Coverage:
    """`found`: the passages of each question. What stands in two passages is read twice."""
    each = [_coverage(spans[question], passages) for question, passages in found.items()]
    recall, precision, iou = (sum(column) / len(each) for column in zip(*each, strict=True))
    return Coverage(recall, precision, iou)


def _coverage(parts: Sequence[Sequence[Span]], passages: Sequence[Span]) -> tuple[float, float, float]:
    wanted = sum(end - start for _name, start, end in (places[0] for places in parts))
    read = sum(end - start for _name, start, end in passages)
    both = sum(max(_covered(place, passages) for place in places) for places in parts)
    return both / wanted, both / read if read else 0.0, both / (wanted + read - both)


def _covered(place: Span, passages: Sequence[Span]) -> int:
    """Characters of a place that stand in any of the passages."""
    name, first, last = place
    covered, reached = 0, first
    for _name, start, end in sorted(passage for passage in passages if passage[0] == name):
        begin, stop = max(start, reached), min(end, last)
        if stop > begin:
            covered, reached = covered + stop - begin, stop
    return covered


def _exactly(path: Path) -> str:
    """With its line ends as they are: spans count characters."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read as UTF-8 text.") from error
