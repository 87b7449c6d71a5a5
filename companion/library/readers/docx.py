"""Word: paragraphs and tables in document order, under their headings; footnotes at the end.

Knows the zip and the XML in it, read as a stream of events within limits. It does not know
pages: Word computes them when it shows the document.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree

from companion.domain import Section
from companion.errors import DocumentTooLarge, EncryptedDocument, UnreadableDocument
from companion.library.readers.outline import Outline

MAX_ENTRIES = 5000
MAX_UNPACKED = 300_000_000
MAX_RATIO = 200
_RATIO_FROM = 10_000_000
_PIECE = 262_144
_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
_FAULTS = (zipfile.BadZipFile, zlib.error, etree.XMLSyntaxError, EOFError, KeyError, NotImplementedError)
_OFF = ("0", "false", "off")


def read(path: Path, name: str, notes: list[str]) -> Iterator[Section]:
    try:
        with zipfile.ZipFile(path) as archive:
            package = _Package(archive, name)
            body = _Body(_levels(package))
            for piece in package.pieces(package.main_part()):
                body.parser.feed(piece)
                yield from body.outline.take()
            body.parser.close()
            _add_notes(package, body)
            yield from body.outline.finish()
    except _FAULTS as error:
        raise UnreadableDocument(
            f"{name} is damaged and cannot be read; open it in Word, save it as a new file and add that."
        ) from error


class _Package:
    """The parts of the zip, unpacked piece by piece while real bytes are counted."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._archive = archive
        self._name = name
        self._unpacked = 0
        if len(archive.infolist()) > MAX_ENTRIES:
            raise self._too_large()

    def has(self, part: str) -> bool:
        return part in self._archive.NameToInfo

    def main_part(self) -> str:
        """Usually `word/document.xml`; the relations of the package have the last word."""
        if self.has("word/document.xml"):
            return "word/document.xml"
        relations = b"".join(self.pieces("_rels/.rels"))
        for relation in _parse(relations):
            if str(relation.get("Type", "")).endswith("/officeDocument"):
                return str(relation.get("Target", "")).lstrip("/")
        raise KeyError("officeDocument")

    def pieces(self, part: str) -> Iterator[bytes]:
        info = self._archive.getinfo(part)
        if info.flag_bits & 1:
            raise EncryptedDocument(
                f"{self._name} is protected with a password; save a copy without one and add that."
            )
        with self._archive.open(info) as stream:
            while piece := stream.read(_PIECE):
                self._unpacked += len(piece)
                self._check(info.compress_size)
                yield piece

    def _check(self, packed: int) -> None:
        bomb = self._unpacked > _RATIO_FROM and self._unpacked > MAX_RATIO * max(packed, 1)
        if bomb or self._unpacked > MAX_UNPACKED:
            raise self._too_large()

    def _too_large(self) -> DocumentTooLarge:
        return DocumentTooLarge(
            f"{self._name} unpacks to far more than a document holds; it was given up for safety. "
            "Save it again from Word and add that."
        )


def _parser(target: object | None = None) -> etree.XMLParser:
    return etree.XMLParser(target=target, resolve_entities=False, no_network=True, load_dtd=False)


def _parse(data: bytes) -> etree._Element:
    return etree.fromstring(data, _parser())


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _value(attributes: Mapping[str, str]) -> str:
    return next((value for key, value in attributes.items() if _local(key) == "val"), "")


def _levels(package: _Package) -> dict[str, int]:
    """Style id to level of heading: 0 for the title, 1 to 9; other styles are missing."""
    if not package.has("word/styles.xml"):
        return {}
    own: dict[str, int] = {}
    based_on: dict[str, str] = {}
    for style in _parse(b"".join(package.pieces("word/styles.xml"))):
        style_id = next((value for key, value in style.attrib.items() if _local(key) == "styleId"), "")
        for entry in style.iter("{*}name", "{*}basedOn", "{*}outlineLvl"):
            value = _value(entry.attrib)
            if _local(entry.tag) == "basedOn":
                based_on[style_id] = value
            elif (level := _level(_local(entry.tag), value)) is not None:
                own.setdefault(style_id, level)
    inherited = {style: _inherited(style, own, based_on) for style in based_on}
    return own | {style: level for style, level in inherited.items() if level is not None}


def _level(tag: str, value: str) -> int | None:
    if tag == "outlineLvl":
        return int(value) + 1 if value.isascii() and value.isdigit() and int(value) < 9 else None
    if value.lower() == "title":
        return 0
    found = _HEADING.fullmatch(value)
    return int(found.group(1)) if found else None


def _inherited(style: str, own: Mapping[str, int], based_on: Mapping[str, str]) -> int | None:
    for _ in range(10):
        if style in own:
            return own[style]
        style = based_on.get(style, "")
    return None


def _add_notes(package: _Package, body: _Body) -> None:
    for part, title in (("word/footnotes.xml", "Footnotes"), ("word/endnotes.xml", "Endnotes")):
        if not package.has(part):
            continue
        notes = _Body({})
        for piece in package.pieces(part):
            notes.parser.feed(piece)
        notes.parser.close()
        texts = [section.text for section in notes.outline.finish()]
        if texts:
            body.outline.head(0, title)
            body.outline.add("\n\n".join(texts))


@dataclass(slots=True)
class _Paragraph:
    parts: list[str] = field(default_factory=list)
    level: int | None = None
    listed: bool = False


@dataclass(slots=True)
class _Table:
    rows: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)
    """Of the cell that is open."""


class _Body:
    """Receives the parser's events; `outline` takes the text."""

    def __init__(self, levels: Mapping[str, int]) -> None:
        self.outline = Outline()
        self.parser = _parser(self)
        self._levels = levels
        self._paragraphs: list[_Paragraph] = []
        self._tables: list[_Table] = []
        self._skipped_depth = 0
        self._in_text = False
        self._in_run = False
        self._run_hidden = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        local = _local(tag)
        if self._skipped_depth or local in ("del", "moveFrom", "Fallback"):
            self._skipped_depth += 1
        elif local == "p":
            self._paragraphs.append(_Paragraph())
        elif local == "tbl":
            self._tables.append(_Table())
        elif local == "r":
            self._in_run, self._run_hidden = True, False
        elif local == "t":
            self._in_text = not self._run_hidden
        elif self._paragraphs:
            self._mark(self._paragraphs[-1], local, attributes)

    def _mark(self, paragraph: _Paragraph, local: str, attributes: Mapping[str, str]) -> None:
        if local == "pStyle":
            paragraph.level = self._levels.get(_value(attributes), paragraph.level)
        elif local == "outlineLvl":
            paragraph.level = _level(local, _value(attributes))
        elif local == "numPr":
            paragraph.listed = True
        elif local == "vanish" and self._in_run:
            self._run_hidden = _value(attributes).lower() not in _OFF
        elif local == "tab" and self._in_run:
            paragraph.parts.append("\t")
        elif local in ("br", "cr"):
            paragraph.parts.append("\n")
        elif local == "noBreakHyphen":
            paragraph.parts.append("-")

    def data(self, text: str) -> None:
        if self._in_text and self._paragraphs and not self._skipped_depth:
            self._paragraphs[-1].parts.append(text)

    def end(self, tag: str) -> None:
        if self._skipped_depth:
            self._skipped_depth -= 1
            return
        local = _local(tag)
        if local == "t":
            self._in_text = False
        elif local == "r":
            self._in_run = False
        elif local == "p" and self._paragraphs:
            self._end_paragraph(self._paragraphs.pop())
        elif self._tables:
            self._end_in_table(local)

    def _end_paragraph(self, paragraph: _Paragraph) -> None:
        text = "".join(paragraph.parts).strip()
        if not text:
            return
        if self._tables:
            self._tables[-1].blocks.append(" ".join(text.split()))
        elif paragraph.level is not None:
            self.outline.head(paragraph.level, text)
        else:
            self.outline.add(f"- {text}" if paragraph.listed else text)

    def _end_in_table(self, local: str) -> None:
        table = self._tables[-1]
        if local == "tc":
            table.cells.append(" ".join(table.blocks))
            table.blocks = []
        elif local == "tr":
            if any(table.cells):
                table.rows.append(" | ".join(table.cells))
            table.cells = []
        elif local == "tbl":
            self._end_table(self._tables.pop())

    def _end_table(self, table: _Table) -> None:
        if self._tables:
            self._tables[-1].blocks.append("; ".join(table.rows))
        else:
            self.outline.add("\n".join(table.rows))

    def close(self) -> None:
        """Asked for by lxml; the outline is closed by the reader."""
