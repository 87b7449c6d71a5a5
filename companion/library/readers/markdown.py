"""Markdown: sections under their headings, the text as it was written.

Knows headings, fences, front matter and comments, line by line. It does not parse what is inside
a line: models read Markdown well, and a line is never looked at twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from companion.domain import Section
from companion.library.readers.decoding import decode
from companion.library.readers.outline import Outline


def read(path: Path, name: str, notes: list[str]) -> Iterator[Section]:
    yield from sections(decode(path.read_bytes(), name, notes))


def sections(text: str) -> Iterator[Section]:
    outline = Outline()
    writer = _Writer(outline)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    matter = _front_matter(lines)
    outline.add("\n".join(lines[:matter][1:-1]))
    for line in lines[matter:]:
        writer.take(line)
        yield from outline.take()
    writer.end_block()
    yield from outline.finish()


def _front_matter(lines: list[str]) -> int:
    """How many lines at the start are front matter with its two rules."""
    if lines[0].rstrip() != "---":
        return 0
    for number, line in enumerate(lines[1:200], 1):
        if line.rstrip() in ("---", "..."):
            return number + 1
    return 0


class _Writer:
    """Turns lines into headings and blocks; remembers only an open fence or comment."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self._lines: list[str] = []
        self._fence = ""
        self._in_comment = False

    def take(self, line: str) -> None:
        if self._fence:
            self._continue_fence(line)
            return
        line = self._without_comments(line)
        if fence := _fence_of(line):
            self._fence = fence
            self._lines.append(line)
        elif heading := _atx(line):
            self._head(*heading, line.strip())
        elif (level := _underline(line)) and self._lines and _can_be_title(self._lines[-1]):
            title = self._lines.pop()
            self._head(level, title.strip(), "#" * level + " " + title.strip())
        else:
            self._lines.append(line)

    def end_block(self) -> None:
        self._outline.add("\n".join(self._lines))
        self._lines = []

    def _head(self, level: int, title: str, line: str) -> None:
        self.end_block()
        self._outline.head(level, title, line)

    def _continue_fence(self, line: str) -> None:
        self._lines.append(line)
        closing = line.strip()
        if closing.startswith(self._fence) and not closing.strip(self._fence[0]):
            self._fence = ""

    def _without_comments(self, line: str) -> str:
        """The line without what stands between `<!--` and `-->`, which no reader would see."""
        if not self._in_comment and "<!--" not in line:
            return line
        shown: list[str] = []
        while line:
            mark = "-->" if self._in_comment else "<!--"
            before, found, line = line.partition(mark)
            if not self._in_comment:
                shown.append(before)
            if found:
                self._in_comment = not self._in_comment
        return "".join(shown)


def _fence_of(line: str) -> str:
    stripped = line.lstrip()
    for mark in "`~":
        length = len(stripped) - len(stripped.lstrip(mark))
        if length >= 3 and mark not in stripped[length:]:
            return mark * length
    return ""


def _atx(line: str) -> tuple[int, str] | None:
    stripped = line.strip()
    level = len(stripped) - len(stripped.lstrip("#"))
    if not 1 <= level <= 6 or line.startswith("    ") or stripped[level : level + 1] not in (" ", "\t"):
        return None
    title = stripped[level:].strip()
    without_closing = title.rstrip("#")
    return level, without_closing.rstrip() if without_closing.endswith(" ") else title


def _underline(line: str) -> int:
    stripped = line.rstrip()
    if len(stripped) < 2 or stripped.strip(stripped[0]):
        return 0
    return {"=": 1, "-": 2}.get(stripped[0], 0)


def _can_be_title(line: str) -> bool:
    return bool(line.strip()) and len(line) < 300 and line.lstrip()[0] not in "|>-*+#"
