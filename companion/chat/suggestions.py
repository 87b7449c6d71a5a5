"""Questions that might come next, from the headings around what was found for the last answer.

Pure: sources and the passages beside them in, questions out. It does not know models, and asks
nothing that the conversation has asked already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from companion.domain import Passage, Source

MOST = 3
NEARBY = 2
"""So many passages before and after a source may give their headings, too."""
LONGEST_HEADING = 80
"""Characters; more than this is a paragraph that was taken for a heading."""

QUESTION_MARKS = ("?", "\uff1f", "\u061f")

_NUMBERING = re.compile(r"^(?:\d+(?:\.\d+)*[.)]?|[§#*]+)\s+")
_MARKS = re.compile(r"[`*_]{1,3}(?=\w)|(?<=[\w.?!])[`*_]{1,3}")


def suggest(
    sources: Sequence[Source], near: Mapping[str, Sequence[Passage]], asked: Sequence[str]
) -> list[str]:
    """At most three questions: about what was found and not used, then about what stands beside it.

    `near` maps the chunk ids of the sources that are still there to their neighbours.
    """
    there = [source for source in sources if source.chunk_id in near]
    taken = {_plain(question) for question in asked}
    # What an answer cites it has spoken about.
    taken |= {_plain(_question(*each)) for source in there if source.cited for each in _of_source(source)}
    found: list[str] = []
    for heading, name in _headings(there, near):
        question = _question(heading, name)
        if _plain(question) not in taken:
            taken.add(_plain(question))
            found.append(question)
    return found[:MOST]


def _headings(sources: Sequence[Source], near: Mapping[str, Sequence[Passage]]) -> Iterator[tuple[str, str]]:
    """Headings with the names of their documents, the most promising first."""
    for source in sources:
        yield from _of_source(source)
    for source in sorted(sources, key=lambda source: source.cited):
        for passage in near[source.chunk_id]:
            yield from _usable(passage.place.heading, source.document_name)


def _of_source(source: Source) -> Iterator[tuple[str, str]]:
    return _usable(source.place.heading, source.document_name)


def _usable(path: str | None, name: str) -> Iterator[tuple[str, str]]:
    """The last part of a path of headings, if it can be asked about."""
    heading = _MARKS.sub("", "".join(filter(str.isprintable, (path or "").split(" > ")[-1])))
    heading = _NUMBERING.sub("", " ".join(heading.split())).rstrip(":.… ")
    letters = sum(map(str.isalpha, heading))
    if letters >= 2 and len(heading) <= LONGEST_HEADING and _plain(heading) != _plain(PurePath(name).stem):
        yield heading, " ".join(name.split())


def _question(heading: str, name: str) -> str:
    return heading if heading.endswith(QUESTION_MARKS) else f"What does {name} say about “{heading}”?"


def _plain(text: str) -> str:
    """For comparing: words only, whatever their case."""
    return " ".join(re.findall(r"\w+", text.casefold()))
