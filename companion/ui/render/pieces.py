"""Small pieces of HTML that several panels share: an icon, a button for an action, a time.

Knows their markup. It does not know what they stand beside.
"""

from __future__ import annotations

import re
from datetime import datetime, tzinfo
from html import escape
from urllib.parse import quote

from companion.ui.render import words

_TO_TYPE = re.compile(r"`([^`]+)`")


def icon(name: str) -> str:
    return f'<svg class="lc-icon" aria-hidden="true"><use href="#lc-i-{name}"></use></svg>'


def act(what: str, symbol: str, title: str) -> str:
    """A button that asks its panel's script for `what`."""
    names = f'title="{escape(title)}" aria-label="{escape(title)}"'
    return f'<button class="lc-act" data-act="{what}" {names}>{icon(symbol)}</button>'


def coded(escaped: str) -> str:
    """Escaped text in which backticks stand around something to type."""
    return _TO_TYPE.sub(r"<code>\1</code>", escaped)


def quiet(sentence: str) -> str:
    return f'<p class="lc-quiet">{escape(sentence)}</p>'


def time(when: datetime, now: datetime, zone: tzinfo | None) -> str:
    """Short, and whole as its tooltip."""
    full = escape(words.full_moment(when, zone))
    return f'<span title="{full}">{escape(words.moment(when, now, zone))}</span>'


def original(doc_id: str, label: str) -> str:
    """A link to the file as it was given; the browser keeps it and opens nothing. `label` is HTML."""
    return f'<a href="/api/documents/{quote(doc_id, safe="")}/original" download>{label}</a>'
