"""The documents as a list, and what became of files that were added.

Knows their markup, and in which order they stand. It does not know how a file is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from html import escape
from typing import Any

from companion.domain import Document, DocumentState, Totals
from companion.library.intake import Progress
from companion.ui.render.pieces import act, icon, original, quiet, time
from companion.ui.render.words import size
from companion.ui.texts import html_text, number, text

PAGE = 100
"""Documents shown at once."""
_URGENCY = (DocumentState.FAILED, DocumentState.READING, DocumentState.SEARCHABLE, DocumentState.DEEP)
ORDERS: dict[str, Callable[[Document], Any]] = {
    "date": lambda document: -document.updated_at.timestamp(),
    "name": lambda document: document.name.casefold(),
    "size": lambda document: -document.size,
    "passages": lambda document: -document.passages,
    "state": lambda document: _URGENCY.index(document.state),
}
"""How a list can be ordered; what needs a person comes first."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What of the list a tab shows."""

    find: str = ""
    order: str = "date"
    """One of `ORDERS`."""
    most: int = PAGE


@dataclass(frozen=True, slots=True)
class Shelf:
    """What there is to list, at one moment."""

    own: Sequence[Document]
    samples: Sequence[Document]
    totals: Totals
    """Of one's own."""
    progress: Mapping[str, Progress | None]


def document_list(
    shelf: Shelf, now: datetime, zone: tzinfo | None, arranged: Arrangement = Arrangement()
) -> str:
    """One's own documents with what can be done to them, then the sample library."""
    own, samples = arrange(shelf.own, arranged), arrange(shelf.samples, arranged)
    rows = "".join(
        _document(document, shelf.progress.get(document.doc_id), True, now, zone)
        for document in own[: arranged.most]
    )
    title = f"<h2>{html_text('documents.own')} {_summary(shelf.totals) if shelf.own else ''}</h2>"
    more = _more(len(own) - arranged.most) if len(own) > arranged.most else ""
    first = f'<section>{title}<div class="lc-docs">{rows or _nothing(shelf)}</div>{more}</section>'
    return f"{first}{_samples(samples, bool(shelf.own), now, zone)}" if samples else first


def arrange(documents: Sequence[Document], arranged: Arrangement) -> list[Document]:
    """Those with all the words in their name, in order; equal ones by name."""
    words = arranged.find.casefold().split()
    found = [one for one in documents if all(word in one.name.casefold() for word in words)]
    by_name = sorted(found, key=ORDERS["name"])
    return sorted(by_name, key=ORDERS.get(arranged.order, ORDERS["date"]))


def _nothing(shelf: Shelf) -> str:
    why = html_text("documents.not_found") if shelf.own else html_text("documents.none")
    return f'<p class="lc-quiet lc-empty">{why}</p>'


def _more(rest: int) -> str:
    return f'<button class="lc-more" data-act="more">{html_text("documents.more", n=rest)}</button>'


def _summary(totals: Totals) -> str:
    documents = text("count.document", n=totals.documents)
    passages = text("count.passage", n=totals.passages)
    said = html_text("documents.summary", documents=documents, passages=passages, size=size(totals.size))
    return f"<small>{said}</small>"


def _samples(samples: Sequence[Document], left: bool, now: datetime, zone: tzinfo | None) -> str:
    rows = "".join(_document(document, None, False, now, zone) for document in samples)
    about = quiet(text("samples.left") if left else text("samples.searched"))
    title = f"{html_text('samples.title')} <small>{html_text('samples.readonly')}</small>"
    return f'<section class="lc-samples"><h2>{title}</h2>{about}<div class="lc-docs">{rows}</div></section>'


def _document(
    document: Document, reading: Progress | None, own: bool, now: datetime, zone: tzinfo | None
) -> str:
    name, key = escape(document.name), escape(document.doc_id)
    facts = [escape(document.source_type)] if document.source_type else []
    facts += [html_text("count.passage", n=document.passages)] if document.passages else []
    facts += [size(document.size), time(document.updated_at, now, zone)]
    return (
        f'<article class="lc-doc" data-id="{key}" data-name="{name}" aria-label="{name}">'
        f'<button class="lc-docname" data-act="open" title="{name}">{_name(document.name)}</button>'
        f'<span class="lc-facts">{" · ".join(facts)}</span>{_state(document, reading)}'
        f'<span class="lc-acts">{_acts(document, own)}</span>{_trouble(document, own)}</article>'
    )


def _name(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return f"<small>{escape(folder + slash)}</small>{escape(file)}" if slash else escape(file)


def _acts(document: Document, own: bool) -> str:
    name = document.name
    acts = act("open", "list", text("documents.passages", name=name))
    if document.passages:
        acts += act("ask", "chat", text("documents.ask_name", name=name))
    saved = f'{icon("save")}<span class="lc-unseen">{html_text("documents.original", name=name)}</span>'
    acts += original(document.doc_id, saved)
    if own:
        acts += act("replace", "swap", text("documents.replace", name=name))
        acts += act("delete", "bin", text("documents.delete", name=name))
    return acts


def _state(document: Document, reading: Progress | None) -> str:
    if document.state is not DocumentState.READING:
        return f'<span class="lc-state is-{document.state}">{html_text(f"state.{document.state}")}</span>'
    reading = reading or Progress("waiting")
    label, amount = text(f"stage.{reading.stage}"), ""
    if reading.total:
        label = text("stage.amount", stage=label, done=number(reading.done), total=number(reading.total))
        amount = f' max="{reading.total}" value="{reading.done}"'
    bar = f'<progress{amount} aria-label="{escape(label)}"></progress>'
    return f'<span class="lc-state is-reading">{escape(label)}</span>{bar}'


def _trouble(document: Document, own: bool) -> str:
    if not document.error:
        return "".join(map(quiet, document.notes))
    again = f'<button data-act="replace">{html_text("documents.choose")}</button>' if own else ""
    return f'<p class="lc-error">{escape(document.error)} {again}</p>'


Results = list[tuple[str, str | None]]
"""File names, each with the sentence why it was not taken in, or None."""


def upload_results(
    results: Results,
    known: Sequence[str] = (),
    unread: Sequence[str] = (),
    *,
    samples_left: bool = False,
    answered: Sequence[str] = (),
) -> str:
    """File by file: taken in, or why not.

    Of files that are `known` from before or `unread` only the names are said: the list has the rest.
    `answered` are the parts of the upload that this is about, for drop.js.
    """
    failed = [_refused(name, error) for name, error in results if error]
    lines = "".join(f"<li>{html_text('upload.known', name=name)}</li>" for name in known)
    failed += [text("upload.unread", names=", ".join(unread))] if unread else []
    lines += "".join(f'<li class="is-failed">{escape(sentence)}</li>' for sentence in failed)
    taken = sum(error is None for _, error in results)
    head = f"<li><b>{html_text('upload.taken', n=taken)}</b></li>" if taken else ""
    head += f"<li>{html_text('upload.samples_left')}</li>" if samples_left else ""
    listed = f'<ul class="lc-results">{head}{lines}</ul>'
    parts = escape(" ".join(answered))
    return f'<div role="status" data-answered="{parts}">{listed}</div>' if head or lines else ""


def _refused(name: str, error: str) -> str:
    return error if name in error else text("upload.refused", name=name, error=error)


def undo_bar(document: Document, now: datetime) -> str:
    """The time makes two deletions of one document two different bars."""
    key = f'data-id="{escape(document.doc_id)}" data-at="{now.timestamp()}"'
    said = f"{html_text('documents.deleted', name=document.name)} {html_text('documents.chats_stay')}"
    sentence = f"<span>{said}</span>"
    button = f"<button>{html_text('documents.undo')}</button>"
    return f'<div class="lc-undo" role="status" {key}>{sentence}{button}</div>'


def no_room(sentence: str | None) -> str:
    """Why nothing can be added at the moment."""
    return f'<p class="lc-noroom" role="status">{escape(sentence)}</p>' if sentence else ""
