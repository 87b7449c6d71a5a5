"""Answers about the library itself, from its list: exact, at once, and without a model.

Knows documents, scopes and how a list is written. It does not know how such a question is recognised.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import TYPE_CHECKING

from companion.chat.citations import CitationStream
from companion.chat.days import Days
from companion.chat.list_question import ListQuestion, Wanted
from companion.chat.named import spellings
from companion.chat.turn import Turn, ms_since
from companion.chat.verbatim import touched, verbatim
from companion.domain import (
    LISTED,
    SAMPLE_OWNER,
    Document,
    DocumentState,
    Notice,
    Passage,
    Retrieved,
    Source,
    Token,
    TurnEvent,
)
from companion.library.fence import harmless

if TYPE_CHECKING:
    from companion.library.library import Library

LISTED_NOTICE = (
    "This comes from the list of your documents; no model was asked. To search what they say, ask about that."
)
NO_OWN = "\n\nYou have added no document of your own yet."
MOST_LISTED = 50
NEWEST = 5
MOST_HEADINGS = 20
BEGINNING = 300
"""Characters of a document without headings."""

_KINDS = {
    "pdf": "PDF",
    "docx": "Word",
    "html": "web page",
    "markdown": "Markdown",
    "transcript": "transcript",
    "csv": "table",
    "notebook": "notebook",
    "email": "e-mail",
    "xml": "XML",
    "text": "text",
}
_POSSESSIVE = re.compile(r"['’](?:s\b.*| .*)?$")
_SENDER = re.compile(r"^From: (.*)$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[ \t]+(\S.*?)[ \t#]*$", re.MULTILINE)
_COMMENTED = ("text", "notebook")
"""In programs a line may begin with the sign of a heading."""
_ALSO_THINGS = ("notebook", "transcript", "csv", "html")
"""Where none is kept, “how many notebooks do we have?” is about what the documents tell."""
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!~$&])")


@dataclass(frozen=True, slots=True)
class Listed:
    """An answer from the list."""

    text: str
    """Markdown; refers to `sources` by their numbers."""
    sources: tuple[Source, ...] = ()

    def events(self, turn: Turn) -> Iterator[TurnEvent]:
        """The whole answer of a turn."""
        turn.listed = True
        if self.sources:
            yield Retrieved(self.sources, (LISTED,), ms_since(turn.started))
            turn.citations = CitationStream([source.number for source in self.sources])
        yield Token(turn.citations.feed(self.text) + turn.citations.close() if self.sources else self.text)
        yield Notice(LISTED_NOTICE)


@dataclass(frozen=True, slots=True)
class Shelf:
    """The documents that a conversation is about."""

    documents: Sequence[Document]
    """Newest first."""
    words: str
    """How they are called: “your library”, …"""
    remark: str = ""
    """What is to be said of them at the end."""


class Inventory:
    """Tells what is in the library of an owner. Sync; called in threads."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def answer(
        self, asked: ListQuestion, owner: str, scope: Sequence[str] | None, zone: tzinfo | None
    ) -> Listed | None:
        """None if nothing of the name is there: the question is then one like all others."""
        shelf = self._shelf(owner, scope, by_day=asked.days is not None)
        match asked.wanted:
            case Wanted.OUTLINE | Wanted.FACTS:
                document = _named(shelf, asked.name or "")
                if document is None:
                    return None
                passages = self._library.passages(owner, document.doc_id)
                if asked.wanted is Wanted.FACTS:
                    return Listed(_facts(document, passages, zone))
                return _outline(document, passages, zone)
            case Wanted.BY_NAME:
                found = self._of_name(owner, shelf, asked)
                shown = f"{_count(found, 'document')} in {shelf.words}:\n\n{_table(found, zone)}"
                return Listed(shown + shelf.remark) if found else None
            case _:
                none = not any(_fits(each, asked, zone) for each in shelf.documents)
                if none and (asked.kind in _ALSO_THINGS or (asked.days and asked.impersonal)):
                    return None
                return Listed(_list(asked, shelf, zone) + shelf.remark)

    def _shelf(self, owner: str, scope: Sequence[str] | None, *, by_day: bool) -> Shelf:
        """`by_day`: of what a person added; the samples were there before them."""
        there = self._library.documents(owner)
        if scope is not None:
            return Shelf(
                [each for each in there if each.doc_id in scope], "the documents chosen for this chat"
            )
        own = [each for each in there if each.owner != SAMPLE_OWNER]
        if own or by_day:
            return Shelf(own, "your library")
        return Shelf(there, "the sample library", NO_OWN)

    def _of_name(self, owner: str, shelf: Shelf, asked: ListQuestion) -> list[Document]:
        """Those with all words in their name, or in the sender's if they are e-mails."""
        wanted = _words(_POSSESSIVE.sub("", asked.name or ""))
        mails = any(each.source_type == "email" for each in shelf.documents)
        openings = self._library.openings(owner, "email") if mails else {}
        found = []
        for document in shelf.documents:
            sender = _SENDER.search(openings.get(document.doc_id, ""))
            told = _words(document.name) | (_words(sender[1]) if sender else set())
            if wanted and wanted <= told and asked.kind in (None, document.source_type):
                found.append(document)
        return found


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", text.casefold()))


def _named(shelf: Shelf, name: str) -> Document | None:
    """The document of this name; its folder may be left out."""
    wanted = name.casefold()
    return next((document for document in shelf.documents if wanted in spellings(document)), None)


# --- several documents --------------------------------------------------------------------


def _list(asked: ListQuestion, shelf: Shelf, zone: tzinfo | None) -> str:
    found = [each for each in shelf.documents if _fits(each, asked, zone)]
    what = f"{_KINDS[asked.kind]} document" if asked.kind else "document"
    added = f" added {_said(asked.days)}" if asked.days else ""
    counted = f"{_count(found, what)}{added} in {shelf.words}"
    match asked.wanted:
        case Wanted.NUMBER if found:
            passages = sum(each.passages for each in found)
            size = _size(sum(each.size for each in found))
            return f"{counted}, with {_number(passages, 'passage')} and {size}."
        case Wanted.NEWEST:
            return (
                f"Added last in {shelf.words}:\n\n{_table(found[:NEWEST], zone)}" if found else f"{counted}."
            )
        case Wanted.OLDEST:
            chosen = sorted(found, key=lambda each: each.created_at)[:1]
        case Wanted.LARGEST:
            chosen = sorted(found, key=lambda each: each.size, reverse=True)[:1]
        case Wanted.SMALLEST:
            chosen = sorted(found, key=lambda each: each.size)[:1]
        case _:
            return f"{counted}:\n\n{_table(found, zone)}" if found else f"{counted}."
    return f"The {asked.wanted} in {shelf.words}:\n\n{_table(chosen, zone)}" if chosen else f"{counted}."


def _fits(document: Document, asked: ListQuestion, zone: tzinfo | None) -> bool:
    day = document.created_at.astimezone(zone).date()
    return (asked.kind is None or document.source_type == asked.kind) and (
        asked.days is None or asked.days.first <= day <= asked.days.last
    )


def _table(documents: Sequence[Document], zone: tzinfo | None) -> str:
    rows = [
        f"| {_name(each)} | {_kind(each)} | {_day(each.created_at, zone)} | {_state(each)} |"
        for each in documents[:MOST_LISTED]
    ]
    more = len(documents) - len(rows)
    rest = f"\n\nand {more:,} more; the Documents tab lists all." if more > 0 else ""
    return "\n".join(["| name | kind | added | passages |", "|---|---|---|---|", *rows]) + rest


def _state(document: Document) -> str:
    match document.state:
        case DocumentState.FAILED:
            return "could not be read"
        case DocumentState.READING if not document.passages:
            return "still being read"
        case _:
            return f"{document.passages:,}"


def _said(days: Days) -> str:
    if days.first == days.last:
        return f"{days.words} ({days.first:%Y-%m-%d})"
    return f"{days.words} ({days.first:%Y-%m-%d} to {days.last:%Y-%m-%d})"


# --- one document -------------------------------------------------------------------------


def _facts(document: Document, passages: Sequence[Passage], zone: tzinfo | None) -> str:
    pages = max((each.place.page or 0 for each in passages), default=0)
    parts = [
        _kind(document),
        _size(document.size),
        *([f"the last passage begins on page {pages:,}"] if pages else []),
        _number(len(passages), "passage") if passages else _state(document),
        f"added on {_day(document.created_at, zone)}",
    ]
    why = f"\n\n{_plain(document.error)}" if document.error else ""
    return f"{_name(document)}: {', '.join(parts)}.{why}"


def _outline(document: Document, passages: Sequence[Passage], zone: tzinfo | None) -> Listed:
    """Its headings, or its beginning where it has none, each with the passage where it stands."""
    facts = _facts(document, passages, zone)
    headed: dict[str, Passage] = {}
    for passage in passages:
        for heading in _headings(document, passage):
            headed.setdefault(heading, passage)
    shown = list(headed.items())[:MOST_HEADINGS]
    if not shown and passages:
        beginning = " ".join(passages[0].text[:BEGINNING].split())
        text = f"{facts}\n\nIt begins: “{_plain(beginning)}…” [1]"
        return Listed(text, (_source(1, document, passages[0]),))
    lines = [f"- {_plain(heading)} [{number}]" for number, (heading, _) in enumerate(shown, 1)]
    more = len(headed) - len(shown)
    rest = f"\n\nand {more:,} more headings." if more > 0 else ""
    sources = tuple(_source(number, document, passage) for number, (_, passage) in enumerate(shown, 1))
    return Listed("\n".join([f"{facts}\n", *lines]) + rest if lines else facts, sources)


def _headings(document: Document, passage: Passage) -> list[str]:
    """Those that stand in a passage; short sections share one. The one it stands under, if none does."""
    code = verbatim(passage.text)
    found = () if document.source_type in _COMMENTED else _HEADING.finditer(passage.text)
    inside = [each[1] for each in found if not touched(each.start(), each.end(), code)]
    above = (passage.place.heading or "").split(" > ")[-1]
    return [" ".join(each.split()) for each in inside or [above] if each.strip()]


def _source(number: int, document: Document, passage: Passage) -> Source:
    return Source(
        number=number,
        chunk_id=passage.chunk_id,
        doc_id=document.doc_id,
        document_name=document.name,
        text_hash=passage.text_hash,
        place=passage.place,
        score=1.0,
        layers=(LISTED,),
        cited=True,
    )


# --- words --------------------------------------------------------------------------------


def _name(document: Document) -> str:
    """As code: a name is shown as it is, whatever stands in it."""
    name = " ".join(document.name.split()).replace("`", "'").replace("|", "\\|")
    return f"`{name}`"


def _plain(text: str) -> str:
    """Text of a document that is only text, and no number of ours."""
    return _MARKUP.sub(r"\\\1", harmless(text))


def _kind(document: Document) -> str:
    return _KINDS.get(document.source_type, document.source_type or "file")


def _count(documents: Sequence[Document], what: str) -> str:
    return _number(len(documents), what) if documents else f"No {what}s"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _day(moment: datetime, zone: tzinfo | None) -> date:
    return moment.astimezone(zone).date()


def _size(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB" if count >= 100_000 else f"{count / 1000:.1f} kB"
