"""XML and feeds: the text of every element; each entry of a feed under its title.

Knows elements and CDATA. It does not know schemas, and no entity and no DTD is ever followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lxml import etree

from companion.domain import Section
from companion.errors import UnreadableDocument
from companion.library.readers import html
from companion.library.readers.decoding import decode
from companion.library.readers.outline import Outline

_ENTRIES = ("item", "entry")
_FEED_BYTES = 262_144


def read(path: Path, name: str, notes: list[str]) -> Iterator[Section]:
    data = path.read_bytes()
    text = decode(data, name, notes, html.declared_charset(data))
    document = _Document()
    parser = etree.XMLParser(
        target=document,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        recover=True,
        encoding="utf-8",
    )
    encoded = text.replace("\x00", "").encode("utf-8", "ignore")
    try:
        for start in range(0, len(encoded), _FEED_BYTES):
            parser.feed(encoded[start : start + _FEED_BYTES])
            yield from document.outline.take()
        parser.close()
    except etree.XMLSyntaxError as error:
        raise UnreadableDocument(f"{name} is not valid XML; save it again and add that.") from error
    yield from document.outline.finish()


class _Document:
    """Receives the parser's events; `outline` takes the text."""

    def __init__(self) -> None:
        self.outline = Outline()
        self._texts: list[str] = []
        self._title_due = False

    def start(self, tag: str, _attributes: Mapping[str, str]) -> None:
        self._flush()
        local = tag.rpartition("}")[2]
        if local in _ENTRIES:
            self.outline.head(1, "")
            self._title_due = True

    def end(self, tag: str) -> None:
        if tag.rpartition("}")[2] == "title" and self._title_due:
            self.outline.head(1, "".join(self._texts))
            self._texts, self._title_due = [], False
        self._flush()

    def data(self, text: str) -> None:
        self._texts.append(text)

    def close(self) -> None:
        self._flush()

    def _flush(self) -> None:
        text, self._texts = "".join(self._texts).strip(), []
        if "<" in text and ">" in text:
            # Feeds carry HTML as text.
            text = "\n\n".join(section.text for section in html.sections(text))
        self.outline.add(text)
