"""Text under headings, as it comes out of a structured document.

Knows levels and titles. It does not know the format they came from.
"""

from __future__ import annotations

from collections.abc import Iterator

from companion.domain import Place, Section

_LONGEST_TITLE = 120


class Outline:
    """Collects blocks of text; every heading begins a new section with its path."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._blocks: list[str] = []
        self._sections: list[Section] = []

    def head(self, level: int, title: str, line: str | None = None) -> None:
        """Begin a section; `line` is how the heading reads in the text, by default the title."""
        self._close()
        shown = " ".join(title.split())
        self._path = [entry for entry in self._path if entry[0] < level]
        if shown:
            self._path.append((level, _shorten(shown)))
            self._blocks.append(line or shown)

    def add(self, block: str) -> None:
        if block.strip():
            self._blocks.append(block)

    def take(self) -> Iterator[Section]:
        """Sections that are complete so far, each once."""
        sections, self._sections = self._sections, []
        yield from sections

    def finish(self) -> Iterator[Section]:
        self._close()
        yield from self.take()

    def _close(self) -> None:
        if self._blocks:
            heading = " > ".join(title for _, title in self._path) or None
            self._sections.append(Section("\n\n".join(self._blocks), Place(heading=heading)))
            self._blocks = []


def _shorten(title: str) -> str:
    return title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "…"
