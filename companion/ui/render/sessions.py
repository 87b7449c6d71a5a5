"""The list of chats, under the days they were last used.

Knows their markup. It does not know what is in a chat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, tzinfo
from html import escape
from itertools import groupby

from companion.domain import Session
from companion.ui.render.pieces import act, quiet
from companion.ui.render.words import day_group
from companion.ui.texts import html_text, text


def session_list(
    sessions: Sequence[Session],
    current: str | None,
    busy: Callable[[str], bool],
    now: datetime,
    zone: tzinfo | None,
) -> str:
    """Sessions, latest first, under the day they were last used."""
    groups = groupby(sessions, lambda session: day_group(session.updated_at, now, zone))
    body = "".join(
        f'<section class="lc-group"><h3>{escape(label)}</h3>'
        + "".join(
            _session(session, session.session_id == current, busy(session.session_id)) for session in members
        )
        + "</section>"
        for label, members in groups
    )
    empty = quiet(text("sessions.none"))
    missed = f'<p class="lc-quiet lc-missed" role="status" hidden>{html_text("sessions.not_found")}</p>'
    names = f'aria-label="{html_text("sessions.all")}" data-current="{escape(current or "")}"'
    return f'<nav class="lc-sessions" {names}>{body or empty}{missed}</nav>'


def undo_bar(deleted: Session, now: datetime) -> str:
    """The time makes two deletions of one chat two different bars."""
    key = f'data-id="{escape(deleted.session_id)}" data-at="{now.timestamp()}"'
    name = deleted.title or text("sessions.untitled")
    sentence = f"<span>{html_text('sessions.deleted', title=name)}</span>"
    button = f"<button>{html_text('sessions.undo')}</button>"
    return f'<div class="lc-undo" role="status" {key}>{sentence}{button}</div>'


def _session(session: Session, current: bool, busy: bool) -> str:
    name = session.title or text("sessions.untitled")
    title = escape(name)
    key = escape(session.session_id)
    here = ' aria-current="page"' if current else ""
    classes = "lc-session" + (" is-current" if current else "") + (" is-busy" if busy else "")
    acts = act("rename", "pen", text("sessions.rename", title=name))
    acts += act("delete", "bin", text("sessions.delete", title=name))
    return (
        f'<div class="{classes}" data-id="{key}" data-filter="{title.lower()}">'
        f'<a class="lc-open" href="?session={key}" title="{title}"{here}>{title}</a>'
        f"{acts}</div>"
    )
