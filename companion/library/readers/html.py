"""HTML: text under its headings, tables as rows; nothing that the page would not show.

Knows lxml's parser, used as a stream of events: no tree, so no depth can hurt. It does not know
CSS beyond `display:none` written on the element itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from lxml import etree

from companion.domain import Section
from companion.library.readers.decoding import decode
from companion.library.readers.outline import Outline

_DROPPED = frozenset(
    "script style noscript template nav svg iframe object canvas audio video select datalist".split()
)
_BLOCKS = frozenset(
    "address article aside blockquote body br caption dd details div dl dt fieldset figcaption figure footer "
    "form header hr li main ol p pre section summary table tbody tfoot thead title tr ul".split()
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_HIDING_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_CHARSET = re.compile(
    rb"""<(?:meta|\?xml)[^>]{0,300}?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]{2,40})""", re.IGNORECASE
)
_BLANKS = re.compile(r"\s+")
_ROWS = frozenset("table tbody tfoot thead tr pre li".split())
_LONG_ROW = 400
_FEED_CHARACTERS = 65_536


def read(path: Path, name: str, notes: list[str]) -> Iterator[Section]:
    data = path.read_bytes()
    yield from sections(decode(data, name, notes, declared_charset(data)))


def declared_charset(data: bytes) -> str | None:
    found = _CHARSET.search(data[:4096])
    return found.group(1).decode("ascii") if found else None


def sections(markup: str) -> Iterator[Section]:
    """The text of a page or of a fragment of one."""
    page = _Page()
    parser = etree.HTMLParser(target=page, huge_tree=True, recover=True)
    for start in range(0, len(markup), _FEED_CHARACTERS):
        # libxml2 takes NUL for the end, and UTF-8 has no lone surrogates.
        piece = markup[start : start + _FEED_CHARACTERS].replace("\x00", "")
        parser.feed(piece.encode("utf-8", "ignore").decode("utf-8"))
        yield from page.outline.take()
    parser.close()
    yield from page.outline.finish()


class _Page:
    """Receives the parser's events; `outline` takes the text."""

    def __init__(self) -> None:
        self.outline = Outline()
        self._line: list[str] = []
        self._lines: list[str] = []
        self._hidden_depth = 0
        self._pre_depth = 0
        self._cells = 0
        self._cell_depth = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if self._hidden_depth or _is_hidden(tag, attributes):
            self._hidden_depth += 1
        elif tag in _HEADINGS or tag == "title":
            self._end_block()
        elif tag in ("td", "th"):
            self._begin_cell()
        elif tag in _BLOCKS:
            self._begin(tag)

    def end(self, tag: str) -> None:
        if self._hidden_depth:
            self._hidden_depth -= 1
        elif tag in ("td", "th"):
            self._cell_depth = max(0, self._cell_depth - 1)
        elif tag in _HEADINGS or tag == "title":
            self._head(_HEADINGS.get(tag, 1))
        elif tag in _BLOCKS:
            self._end(tag)

    def data(self, text: str) -> None:
        if not self._hidden_depth:
            self._line.append(text if self._pre_depth else _BLANKS.sub(" ", text))

    def close(self) -> None:
        self._end_block()

    def _begin(self, tag: str) -> None:
        if self._stays_in_row(tag):
            return
        self._end_line()
        if tag in ("p", "table", "ul", "ol", "pre", "div", "section", "blockquote"):
            self._end_block()
        if tag == "li":
            self._line.append("- ")
        self._pre_depth += tag == "pre"
        self._cells = 0

    def _end(self, tag: str) -> None:
        if self._stays_in_row(tag):
            return
        self._end_line()
        if tag in ("p", "table", "pre"):
            self._end_block()
        if tag == "pre":
            self._pre_depth = max(0, self._pre_depth - 1)

    def _begin_cell(self) -> None:
        if self._cells:
            self._line.append(" | ")
        self._cells += 1
        self._cell_depth += 1

    def _stays_in_row(self, tag: str) -> bool:
        """A paragraph in a cell of figures stays in its row; a page laid out as a table does not."""
        if not self._cell_depth or tag in _ROWS or sum(map(len, self._line)) > _LONG_ROW:
            return False
        self._line.append(" ")
        return True

    def _head(self, level: int) -> None:
        self._end_line()
        title, self._lines = " ".join(self._lines), []
        if title:
            self.outline.head(level, title)

    def _end_line(self) -> None:
        line = "".join(self._line)
        self._line = []
        if not self._pre_depth:
            line = _BLANKS.sub(" ", line).strip()
            line = "" if not line.strip("-| ") else line
        if line:
            self._lines.append(line)

    def _end_block(self) -> None:
        self._end_line()
        if self._lines:
            self.outline.add("\n".join(self._lines))
            self._lines = []


def _is_hidden(tag: str, attributes: Mapping[str, str]) -> bool:
    if tag in _DROPPED or "hidden" in attributes:
        return True
    style = attributes.get("style")
    return bool(style and _HIDING_STYLE.search(style))
