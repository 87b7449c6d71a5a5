"""Which documents a chat is answered from, in a few words, and as a list to choose from.

Knows their markup. It does not know how a search is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

from companion.domain import SAMPLE_OWNER, Document
from companion.library.search import ScopeSummary
from companion.ui.render.pieces import icon
from companion.ui.texts import html_text, text


def scope_button(scope: ScopeSummary, all_documents: int, only: str | None) -> str:
    """What is searched. `only` is the name of the document if exactly one is chosen and there."""
    gone = f' <b class="lc-gone">{html_text("scope.gone", n=scope.missing)}</b>' if scope.missing else ""
    nothing = scope.chosen and not scope.documents
    kind = " is-nothing" if nothing and scope.missing else " is-chosen" if scope.chosen else ""
    return (
        f'<button class="lc-scope{kind}" aria-haspopup="dialog" title="{html_text("scope.change")}">'
        f'{icon("files")}<span class="lc-unseen">{html_text("scope.label")}</span>'
        f"<span>{escape(_label(scope, all_documents, only))}</span>{gone}</button>"
    )


def _label(scope: ScopeSummary, all_documents: int, only: str | None) -> str:
    if not scope.chosen:
        return text("scope.samples" if scope.samples else "scope.all", n=scope.documents)
    if only:
        return only
    if not scope.documents:
        return text("scope.all_gone") if scope.missing else text("scope.not_ready")
    return text("scope.some", n=scope.documents, all=all_documents)


def scope_choice(
    documents: Sequence[Document], chosen: Sequence[str] | None, everything: ScopeSummary, now: datetime
) -> str:
    """The list; `everything` is what a chat without a choice searches. The time makes each opening new."""
    own = [one for one in documents if one.owner != SAMPLE_OWNER]
    samples = [one for one in documents if one.owner == SAMPLE_OWNER]
    rows = "".join(_row(one, chosen) for one in own)
    if samples:
        rows += f"<h3>{html_text('samples.title')}</h3>" + "".join(_row(one, chosen) for one in samples)
    close = f'class="lc-close" title="{html_text("scope.done")}" aria-label="{html_text("scope.done")}"'
    return (
        f'<div class="lc-choice" role="dialog" aria-label="{html_text("scope.title")}" '
        f'data-at="{now.timestamp()}">'
        f"<header><h2>{html_text('scope.title')}</h2><button {close}>{icon('close')}</button></header>"
        f"{_all(chosen is None, everything)}"
        f'<input class="lc-filter" type="search" data-filters=".lc-pick" autocomplete="off" '
        f'placeholder="{html_text("scope.search")}" aria-label="{html_text("scope.search")}">'
        f'<div class="lc-picks">{rows}</div></div>'
    )


def _all(checked: bool, everything: ScopeSummary) -> str:
    label = html_text("scope.every_sample" if everything.samples else "scope.every")
    counts = (text("count.document", n=everything.documents), text("count.passage", n=everything.passages))
    box = f'<input type="checkbox" class="lc-every"{" checked" if checked else ""}>'
    said = f"<span>{label}</span><small>{escape(', '.join(counts))}</small>"
    return f'<label class="lc-pickall">{box}{said}</label>'


def _row(document: Document, chosen: Sequence[str] | None) -> str:
    name = escape(document.name)
    checked = " checked" if chosen is not None and document.doc_id in chosen else ""
    return (
        f'<label class="lc-pick" data-filter="{name.lower()}" title="{name}">'
        f'<input type="checkbox" value="{escape(document.doc_id)}"{checked}><span>{name}</span>'
        f"<small>{html_text('count.passage', n=document.passages)}</small></label>"
    )
