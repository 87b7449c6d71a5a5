"""Reads one file in this very process: recognises it, parses it, cleans and caps its text.

Knows all formats by name. It does not know limits of time and memory: it runs in the child.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from companion.domain import Reading, Section
from companion.errors import EmptyDocument
from companion.library.readers import docx, html, mail, markdown, notebook, pdf, subtitles, table, text, xml
from companion.library.readers.cleaning import clean_text
from companion.library.readers.formats import recognise

MAX_CHARACTERS = 20_000_000

Reader = Callable[[Path, str, list[str]], Iterator[Section]]
"""Path, name for sentences, and the list that takes notes for the person."""

READERS: Mapping[str, Reader] = {
    "csv": table.read,
    "docx": docx.read,
    "email": mail.read,
    "html": html.read,
    "markdown": markdown.read,
    "notebook": notebook.read,
    "pdf": pdf.read,
    "text": text.read,
    "transcript": subtitles.read,
    "xml": xml.read,
}


def read_file(path: Path, name: str) -> Reading:
    """Everything in the file that is text. Raises `DocumentError` with a sentence naming it."""
    with path.open("rb") as file:
        source_type = recognise(file.read(4096), name)
    notes: list[str] = []
    sections = tuple(_cleaned(READERS[source_type](path, name, notes), notes))
    if not sections:
        raise EmptyDocument(_nothing_in(name, source_type))
    return Reading(source_type, sections, tuple(dict.fromkeys(notes)))


def _cleaned(sections: Iterator[Section], notes: list[str]) -> Iterator[Section]:
    left = MAX_CHARACTERS
    for section in sections:
        text = clean_text(section.text)
        if len(text) > left:
            notes.append(f"Only the first {MAX_CHARACTERS // 1_000_000} million characters were read.")
        if kept := text[:left].strip("\n"):
            yield _with_clean_heading(section, kept)
        left -= len(text)
        if left <= 0:
            return


def _with_clean_heading(section: Section, text: str) -> Section:
    heading = section.place.heading
    shown = " ".join(clean_text(heading).split()) if heading else None
    return Section(text, replace(section.place, heading=shown or None))


def _nothing_in(name: str, source_type: str) -> str:
    if source_type == "pdf":
        return (
            f"{name} has no text that can be read; it looks like a scan. "
            "Run text recognition (OCR) on it first."
        )
    return f"{name} has no text in it; add a file that has."
