"""PDF: a section for each page with its number, and the entry of the outline it stands under.

Knows pypdf. It does not know pictures: a page without a text layer is empty to it.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pypdf import PdfReader
from pypdf.errors import DependencyError, PyPdfError

from companion.domain import Place, Section
from companion.errors import EncryptedDocument, UnreadableDocument

MAX_PAGES = 3000
_MAX_ENTRIES = 5000
# What pypdf lets through for damaged files, beside its own errors.
_FAULTS = (
    PyPdfError, DependencyError, ArithmeticError, AssertionError, AttributeError, LookupError,
    NotImplementedError, RecursionError, TypeError, ValueError, OSError, struct.error, zlib.error,
)  # fmt: skip
_HYPHEN = re.compile(r"(?<=[a-zà-öø-ÿ])-\n(?=[a-zà-öø-ÿ])")


def read(path: Path, name: str, notes: list[str]) -> Iterator[Section]:
    with path.open("rb") as file:
        document, count = _open(file, name)
        headings = _headings(document)
        yield from _pages(document, count, headings, notes)
        yield from _filled_fields(document)


def _open(file: Any, name: str) -> tuple[PdfReader, int]:
    try:
        document = PdfReader(file)
        if document.is_encrypted and not document.decrypt(""):
            raise EncryptedDocument(
                f"{name} is protected with a password; save a copy without one and add that."
            )
        return document, len(document.pages)
    except _FAULTS as error:
        raise UnreadableDocument(
            f"{name} is damaged and cannot be read; open it in a viewer, save it as a new PDF and add that."
        ) from error


def _pages(document: PdfReader, count: int, headings: dict[int, str], notes: list[str]) -> Iterator[Section]:
    broken: list[int] = []
    empty: list[int] = []
    heading = None
    for number in range(1, min(count, MAX_PAGES) + 1):
        heading = headings.get(number, heading)
        try:
            text = document.pages[number - 1].extract_text()
        except _FAULTS:
            broken.append(number)
            continue
        if not text.strip():
            empty.append(number)
        yield Section(_HYPHEN.sub("", text), Place(page=number, heading=heading))
    _note_pages(notes, broken, "could not be read and {were} left out")
    _note_pages(notes, empty, "{have} no text")
    if count > MAX_PAGES:
        notes.append(f"Only the first {MAX_PAGES} of {count} pages were read.")


def _note_pages(notes: list[str], pages: list[int], fate: str) -> None:
    if len(pages) == 1:
        notes.append(f"Page {pages[0]} {fate.format(were='was', have='has')}.")
    elif pages:
        shown = ", ".join(map(str, pages[:10])) + (" and more" if len(pages) > 10 else "")
        notes.append(f"Pages {shown} {fate.format(were='were', have='have')}.")


def _headings(document: PdfReader) -> dict[int, str]:
    """Page to the path of the first entry of the outline that begins there."""
    headings: dict[int, str] = {}
    try:
        for page, path in _entries(document, document.outline, ()):
            headings.setdefault(page, path)
            if len(headings) >= _MAX_ENTRIES:
                break
    except _FAULTS:
        # A broken outline costs only headings.
        pass
    return headings


def _entries(document: PdfReader, outline: list[Any], above: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    title = ""
    for entry in outline:
        if isinstance(entry, list):
            yield from _entries(document, entry, (*above, title) if title else above)
            continue
        title = " ".join(str(entry.title or "").split())[:120]
        page = document.get_destination_page_number(entry)
        if title and page is not None and page >= 0:
            yield page + 1, " > ".join((*above, title))


def _filled_fields(document: PdfReader) -> Iterator[Section]:
    try:
        fields = document.get_form_text_fields()
    except _FAULTS:
        return
    lines = [f"{name}: {value}" for name, value in fields.items() if value]
    if lines:
        yield Section("\n".join(lines), Place(heading="Form fields"))
