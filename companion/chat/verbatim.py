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

LEAD = r"(?:[ \t>]|(?:[-*+]|\d{1,9}[.)])[ \t])*"
"""What may stand before a fence: blanks, the marks of quotations and of items."""
_LEAD = re.compile(LEAD)
_LINE = re.compile(rf"(?P<lead>{LEAD})(?P<ticks>`{{3,}}|~{{3,}})[ \t]*(?P<info>[^`\n]*)")
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


def _blocks(text: str) -> list[Span]:
    found: list[Span] = []
    opened: Fence | None = None
    lines, here, start = IndentedCode(), 0, 0
    for line in text.splitlines(keepends=True):
        end, fence = here + len(line), fence_of(line.rstrip("\r\n"))
        if opened and opened.is_left_by(line):
            found.append((start, here))
            opened = None
        if opened is None and fence:
            opened, start = fence, here
        elif opened and fence and fence.closes(opened):
            found.append((start, end))
            opened = None
        elif opened is None and lines.takes(line):
            found.append((here, end))
        here = end
    return [*found, (start, here)] if opened else found
