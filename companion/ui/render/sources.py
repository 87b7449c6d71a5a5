"""The panel on the right: the passages behind an answer, or those of a document.

Knows how a passage is shown, and what is to be said of it. It does not know how one is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from companion.domain import SAMPLE_OWNER, Document, Passage, Source
from companion.ui.render.passages import passage_text
from companion.ui.render.pieces import icon, original, quiet
from companion.ui.render.words import place, size
from companion.ui.texts import html_text, number, text

PASSAGES = 200
"""Of a document, shown at once, and with each wish for more."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A source with what the store says about it now."""

    source: Source
    passage: Passage | None
    """None: deleted since."""
    before: tuple[Passage, ...] = ()
    after: tuple[Passage, ...] = ()
    source_type: str = ""
    """Of its document; empty if that is gone."""
    quoted: tuple[str, ...] = ()
    """What the answer may have taken from it word by word."""
    remark: str = ""
    """What stands in place of its score."""

    @property
    def changed(self) -> bool:
        return self.passage is not None and self.passage.text_hash != self.source.text_hash


def source_cards(opened: Sequence[Opened], reference: str, chosen: int, title: str | None = None) -> str:
    """The panel of an answer's sources, the clicked one open."""
    cards = "".join(_card(one, one.source.number == chosen) for one in opened)
    count = text("count.passage", n=len(opened))
    return _panel(title or text("sources.title"), count, cards, f"{reference}-{chosen}")


def _card(one: Opened, chosen: bool) -> str:
    source = one.source
    where = place(source.place)
    badge = f'<span class="lc-n">{source.number}</span>'
    tags = "".join(_tag(word) for word in _remarks(one))
    tip = [text("sources.score")]
    tip += [text("sources.layers", layers=", ".join(source.layers))] if source.layers else []
    name = escape(source.document_name)
    opened = ' is-hit" open' if chosen else '"'
    found = one.remark or number(source.score, 2)
    score = f'title="{escape(" ".join(tip))}">{escape(found)}'
    return (
        f'<details data-n="{source.number}" class="lc-card{opened}>'
        f'<summary>{badge}<span class="lc-file" title="{name}">{name}</span>'
        f'<span class="lc-score" {score}</span></summary>'
        f'<p class="lc-place">{escape(where)}{tags}</p>{_quoted(one)}</details>'
    )


def _quoted(one: Opened) -> str:
    if one.passage is None:
        return quiet(text("sources.passage_gone"))
    parts = [_near(near, one, "before") for near in one.before]
    parts.append(_text(one.passage, one.source_type, one.quoted))
    parts += [_near(near, one, "after") for near in one.after]
    return f"{''.join(parts)}{_ways(one.source.doc_id)}"


def _text(passage: Passage, source_type: str, quoted: Sequence[str] = ()) -> str:
    return f'<div class="lc-text">{passage_text(passage.text, source_type, quoted)}</div>'


def _near(passage: Passage, one: Opened, side: str) -> str:
    """A neighbour: dimmed, and no more of it than fits beside what is meant."""
    name = f'role="group" aria-label="{html_text(f"sources.{side}")}"'
    return (
        f'<div class="lc-near is-{side}" tabindex="0" {name}>'
        f"<div>{passage_text(passage.text, one.source_type)}</div></div>"
    )


def _ways(doc_id: str) -> str:
    """From a passage to its document."""
    listed = f'<button data-act="listed" data-id="{escape(doc_id)}">{html_text("sources.listed")}</button>'
    return f'<p class="lc-ways">{listed}{original(doc_id, html_text("sources.original"))}</p>'


def _remarks(one: Opened) -> list[str]:
    """What is no longer so, or was never claimed."""
    gone = [text("sources.deleted")] if one.passage is None else []
    changed = [text("sources.changed")] if one.changed else []
    return gone + changed + ([text("sources.matched")] if one.source.matched else [])


def _tag(remark: str) -> str:
    return f' <span class="lc-tag">{escape(remark)}</span>'


def passage_cards(document: Document, passages: Sequence[Passage], most: int = PASSAGES) -> str:
    """The panel of a document's first `most` passages, as they were cut."""
    cards = "".join(
        f'<details class="lc-card" data-n="{passage.chunk_index + 1}" open><summary>'
        f'<span class="lc-n">{passage.chunk_index + 1}</span>'
        f'<span class="lc-file">{escape(place(passage.place) or text("passages.one"))}</span>'
        f'<span class="lc-score">{html_text("count.token", n=passage.tokens)}</span></summary>'
        f"{_text(passage, document.source_type)}</details>"
        for passage in passages[:most]
    )
    count = text("count.passage", n=len(passages))
    if len(passages) > most:
        count = text("passages.first", shown=number(most), all=count)
        cards += _more(document.doc_id, most, len(passages) - most)
    body = _about(document) + (cards or quiet(text("passages.none")))
    return _panel(document.name, count, body, document.doc_id)


def _more(doc_id: str, shown: int, rest: int) -> str:
    key = f'data-id="{escape(doc_id)}" data-most="{shown + PASSAGES}"'
    label = html_text("documents.more", n=min(rest, PASSAGES))
    return f'<button class="lc-more" data-act="more" {key}>{label}</button>'


def _about(document: Document) -> str:
    """What there is to know of a document, and to do with it."""
    facts = [size(document.size), text(f"state.{document.state}")]
    facts += [text("samples.title")] if document.owner == SAMPLE_OWNER else []
    only = f'<button data-act="ask" data-id="{escape(document.doc_id)}">{html_text("documents.ask")}</button>'
    ways = f"{only if document.passages else ''}{original(document.doc_id, html_text('sources.original'))}"
    notes = "".join(map(quiet, document.notes))
    trouble = f'<p class="lc-error">{escape(document.error)}</p>' if document.error else ""
    return (
        f'<div class="lc-about">{quiet(" · ".join(facts))}{notes}{trouble}<p class="lc-ways">{ways}</p></div>'
    )


def _panel(title: str, count: str, body: str, key: str) -> str:
    return (
        f'<aside class="lc-sources" aria-label="{escape(title)}" data-key="{escape(key)}">'
        f'<header><h2 tabindex="-1" title="{escape(title)}">{escape(title)}</h2>'
        f"<small>{escape(count)}</small>"
        f'<button class="lc-close" title="{html_text("sources.close_title")}">'
        f"<span>{html_text('sources.close')}</span>{icon('close')}</button></header>"
        f'<div class="lc-cards" tabindex="-1">{body}</div></aside>'
    )
