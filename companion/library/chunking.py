"""Text becomes passages of about 500 tokens, along the structure the reader found.

Pure: same reading, same passages. It does not know embedders. It counts with one tokenizer of its
own, because passages are cut once and must stay when the embedder changes: word pieces of up to six
characters, one for each character of a script without spaces, one for each mark. On English this
is within about a tenth of what WordPiece vocabularies count, and it needs no download.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from companion.domain import Cut, Place, Reading, Section
from companion.tuning import (
    LONGEST_PASSAGE,
    OVERLAP_SENTENCES,
    OVERLAP_TOKENS,
    SMALL_TOKENS,
    STRETCHED_TOKENS,
    TITLE_TOKENS,
)

CHUNKER_VERSION = 1

_DENSE = "\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
_PIECE = re.compile(rf"[^\W{_DENSE}]{{1,6}}|[{_DENSE}]|[^\w\s]")
_BORDER = re.compile(
    r"""
      \n[^\S\n]*\n\s*                                # an empty line
    | \n(?=[^a-z])                                   # a line that does not go on in the middle of a sentence
    # The end of a sentence, also in Arabic, Urdu and Hindi, but not “e.g. this” or “No. 5”.
    | (?<=[.!?…\u061f\u06d4\u0964])["'”’»)\]]{0,3}\s+(?=[^\sa-z0-9])
    | [。\uff01\uff1f][」』”’]{0,2}\s*             # the same in Chinese and Japanese
    """,
    re.VERBOSE,
)
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_WORD = re.compile(r"\S+\s*|\s+")


def count_tokens(text: str) -> int:
    """How large a text is, in the tokens of this module; independent of every model.

    >>> count_tokens("Searching, finding.")
    6
    """
    return len(_PIECE.findall(text))


def cut(reading: Reading) -> list[Cut]:
    """All passages in order. Every word is in one; none is empty or above 600 tokens."""
    return [passage for group in _groups(reading.sections) for passage in _passages(group)]


# --- which sections go together ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    section: Section
    tokens: int


def _groups(sections: Iterable[Section]) -> Iterator[list[_Part]]:
    """Sections that are cut as one: small ones with their neighbours, cues with all cues."""
    group: list[_Part] = []
    tokens = 0
    for section in sections:
        part = _Part(section, count_tokens(section.text))
        if not section.text.strip():
            continue
        if group and not _join(group, tokens, part):
            yield group
            group, tokens = [], 0
        group.append(part)
        tokens += part.tokens
    if group:
        yield group


def _join(group: Sequence[_Part], tokens: int, part: _Part) -> bool:
    last, following = group[-1].section.place, part.section.place
    if last.start_s is not None or following.start_s is not None:
        return last.start_s is not None and following.start_s is not None
    if last.page != following.page:
        return _fits(tokens, part.tokens, TITLE_TOKENS)
    return _related(group[0].section.place, following) and _fits(tokens, part.tokens, SMALL_TOKENS)


def _fits(tokens: int, more: int, small: int) -> bool:
    if tokens < TITLE_TOKENS:
        # A title alone is no passage, however long what follows.
        return True
    return (more < small or tokens < small) and tokens + more <= LONGEST_PASSAGE


def _related(first: Place, second: Place) -> bool:
    """Under the same parent, or one under the other."""
    one, other = _path(first), _path(second)
    shared = len(_common([one, other]))
    return shared >= min(len(one), len(other)) or shared >= max(len(one), len(other)) - 1


def _path(place: Place) -> list[str]:
    return place.heading.split(" > ") if place.heading else []


def _common(paths: Sequence[Sequence[str]]) -> list[str]:
    shared = []
    for titles in zip(*paths, strict=False):
        if len(set(titles)) > 1:
            break
        shared.append(titles[0])
    return shared


# --- one group becomes passages ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is never cut in two: a sentence, or a piece of one that is too long."""

    text: str
    tokens: int
    part: int
    """Which section of the group it belongs to."""


def _passages(group: Sequence[_Part]) -> Iterator[Cut]:
    units = [unit for index, part in enumerate(group) for unit in _units(part.section.text, index)]
    timed = group[0].section.place.start_s is not None
    separator = "\n" if timed else "\n\n"
    for overlap, end in _spans(units, across_parts=timed):
        text = _joined(units[overlap:end], separator)
        parts = [group[index] for index in dict.fromkeys(unit.part for unit in units[overlap:end])]
        if text:
            yield Cut(text, _place(parts), sum(unit.tokens for unit in units[overlap:end]))


def _joined(units: Sequence[_Unit], separator: str) -> str:
    texts: list[str] = []
    for before, unit in zip([None, *units], units, strict=False):
        if before is not None and before.part != unit.part:
            texts.append(separator)
        texts.append(unit.text)
    return "".join(texts).strip()


def _place(parts: Sequence[_Part]) -> Place:
    first, last = parts[0].section.place, parts[-1].section.place
    telling = [part for part in parts if part.tokens >= TITLE_TOKENS] or parts
    shared = _common([_path(part.section.place) for part in telling])
    own = (part.section.place.heading for part in (*telling, *parts))
    heading = " > ".join(shared) or next(filter(None, own), None)
    return Place(first.page, heading, first.start_s, last.end_s)


def _spans(units: Sequence[_Unit], *, across_parts: bool) -> Iterator[tuple[int, int]]:
    """Where each passage begins, with what it repeats of the one before, and where it ends.

    All passages of a group are about equally long, so that none is a leftover.
    """
    before = [0, *accumulate(unit.tokens for unit in units)]
    total = before[-1]
    count = -(-max(total - OVERLAP_TOKENS, 1) // (LONGEST_PASSAGE - OVERLAP_TOKENS))
    budget = min(LONGEST_PASSAGE, -(-total // count) + OVERLAP_TOKENS)
    if total <= LONGEST_PASSAGE:
        budget = LONGEST_PASSAGE
    start = 0
    while start < len(units):
        overlap = _overlap_from(units, start, across_parts=across_parts)
        end = start + 1
        if before[end] - before[overlap] > LONGEST_PASSAGE:
            overlap = start
        while end < len(units) and before[end + 1] - before[overlap] <= budget:
            end += 1
        if total - before[end] < TITLE_TOKENS and total - before[overlap] <= STRETCHED_TOKENS:
            end = len(units)
        yield overlap, end
        start = end


def _overlap_from(units: Sequence[_Unit], start: int, *, across_parts: bool) -> int:
    """The last sentence or two before `start`, if they are short and of the same section."""
    first, tokens = start, 0
    while first > 0 and start - first < OVERLAP_SENTENCES:
        unit = units[first - 1]
        tokens += unit.tokens
        if tokens > OVERLAP_TOKENS or not (
            across_parts or start == len(units) or unit.part == units[start].part
        ):
            break
        first -= 1
    return first


# --- sentences --------------------------------------------------------------------------


def _units(text: str, part: int) -> Iterator[_Unit]:
    for sentence in _split(text):
        tokens = count_tokens(sentence)
        if tokens <= LONGEST_PASSAGE:
            yield _Unit(sentence, tokens, part)
        else:
            yield from _pieces(sentence, part)


def _split(text: str) -> Iterator[str]:
    start = 0
    for border in _BORDER.finditer(text):
        yield text[start : border.end()]
        start = border.end()
    if start < len(text):
        yield text[start:]


def _pieces(sentence: str, part: int) -> Iterator[_Unit]:
    """Too long for a passage: its lines, else its words, else cut hard."""
    for line in _LINE.findall(sentence):
        tokens = count_tokens(line)
        if tokens <= LONGEST_PASSAGE:
            yield _Unit(line, tokens, part)
            continue
        for word in _WORD.findall(line):
            yield from _hard(word, part)


def _hard(word: str, part: int) -> Iterator[_Unit]:
    ends = [match.end() for match in _PIECE.finditer(word)]
    if len(ends) <= LONGEST_PASSAGE:
        yield _Unit(word, len(ends), part)
        return
    start = 0
    for index in range(LONGEST_PASSAGE, len(ends) + LONGEST_PASSAGE, LONGEST_PASSAGE):
        end = ends[index - 1] if index < len(ends) else len(word)
        yield _Unit(word[start:end], min(index, len(ends)) - (index - LONGEST_PASSAGE), part)
        start = end
