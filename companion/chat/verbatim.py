"""What stands in a text word for word: code in fences, set in or within a line, and formulas.

Pure: knows Markdown, in which a fence may also stand under an item or in a quotation. It does not know
what is done with code, or with the rest.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from operator import itemgetter

from companion.chat.indented import IndentedCode

Span = tuple[int, int]
"""Where something begins and ends in a text."""

MATH = (
    r"\$\$.+?\$\$"
    r"|\\\((?:(?!(?<!\\)\\\().)+?\\\)"
    r"|\\\[(?:(?!(?<!\\)\\\[).)+?\\\]"
)
"""A formula ends before the next begins: else a hostile text is looked through again from each opening."""
_WITHIN_LINES = re.compile(rf"`[^`\n]+`|(?<!\\)(?:{MATH})", re.DOTALL)

LEADING = r"(?:[ \t>]|(?:[-*+]|\d{1,9}[.)])[ \t])"
"""What may stand before a fence: a blank, the mark of a quotation or of an item."""
_LEAD = re.compile(rf"{LEADING}*")
_LINE = re.compile(rf"(?P<lead>{LEADING}*)(?P<ticks>`{{3,}}|~{{3,}})[ \t]*(?P<info>[^`\n]*)")
_SLACK = 3
"""Blanks by which the closing fence may be set in further than the opening one."""


@dataclass(frozen=True, slots=True)
class Fence:
    lead: str
    ticks: str
    info: str = ""

    def closes(self, opened: Fence) -> bool:
        plain = not self.lead.strip(" \t>") and not self.info.strip()
        return plain and self.ticks.startswith(opened.ticks) and self._indent <= opened._indent + _SLACK

    def is_left_by(self, line: str) -> bool:
        """Whether a quotation, and the code in it, has ended before this line."""
        return ">" in self.lead and not line.lstrip().startswith(">")

    def within(self, line: str) -> str:
        """A line of the code, without what stands before all of it."""
        for _ in range(self.lead.count(">")):
            line = re.sub(r"^[ \t]*> ?", "", line)
        blanks = len(line) - len(line.lstrip(" \t"))
        return line[min(blanks, self._indent) :]

    @property
    def item(self) -> str:
        """The marks of items before it, which are no code."""
        return self.lead.replace(">", "").strip()

    @property
    def _indent(self) -> int:
        """Columns behind the last mark of a quotation, which takes one blank."""
        _, mark, rest = self.lead.rpartition(">")
        return len((rest.removeprefix(" ") if mark else rest).expandtabs(4))


@dataclass(frozen=True, slots=True)
class Block:
    """Code in a fence, and where it stands in its text, fences included."""

    start: int
    stop: int
    fence: Fence
    code: str


def fence_of(line: str) -> Fence | None:
    """The fence that a whole line is, if it is one."""
    found = _LINE.fullmatch(line)
    return Fence(found["lead"], found["ticks"], found["info"]) if found else None


def fence_behind(lead: str, ticks: str) -> Fence | None:
    """The fence that a run of ticks is behind this beginning of its line, if it is one."""
    return Fence(lead, ticks) if len(ticks) >= 3 and _LEAD.fullmatch(lead) else None


def verbatim(text: str) -> list[Span]:
    """Where code and formulas begin and end, in order."""
    found: list[Span] = []
    here = 0
    for block in [*_blocks(text), (len(text), len(text))]:
        found += [within.span() for within in _WITHIN_LINES.finditer(text, here, block[0])]
        found.append(block)
        here = block[1]
    return found[:-1]


def touched(start: int, stop: int, spans: Sequence[Span]) -> list[Span]:
    """Those of the spans, which are in order, that share something with a stretch."""
    first = bisect_right(spans, start, key=itemgetter(1))
    return list(takewhile(lambda span: span[0] < stop, islice(spans, first, None)))


def fenced(text: str) -> list[Block]:
    """Code in fences, in order; the last block may not be closed."""
    found: list[Block] = []
    opened: Fence | None = None
    code: list[str] = []
    here = start = 0
    for line in text.splitlines(keepends=True):
        end, bare = here + len(line), line.splitlines()[0]
        fence = fence_of(bare)
        if opened and opened.is_left_by(bare):
            found.append(Block(start, here, opened, "\n".join(code)))
            opened = None
        if opened is None and fence:
            opened, start, code = fence, here, []
        elif opened and fence and fence.closes(opened):
            found.append(Block(start, end, opened, "\n".join(code)))
            opened = None
        elif opened:
            code.append(opened.within(bare))
        here = end
    return [*found, Block(start, here, opened, "\n".join(code))] if opened else found


def _blocks(text: str) -> list[Span]:
    """Code in fences and code that is set in, in order."""
    found: list[Span] = []
    lines, here = IndentedCode(), 0
    for start, stop in [*((each.start, each.stop) for each in fenced(text)), (len(text), len(text))]:
        for line in text[here:start].splitlines(keepends=True):
            end = here + len(line)
            if lines.takes(line):
                found.append((here, end))
            here = end
        found.append((start, stop))
        here = stop
    return found[:-1]
