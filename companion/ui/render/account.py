"""Who one is on the page, and the way out.

It does not know how somebody came in.
"""

from __future__ import annotations

from html import escape

from companion.config import Settings
from companion.domain import Person
from companion.ui.texts import html_text


def account(person: Person, settings: Settings) -> str:
    """Nothing on one's own machine. The class `lc-guest` hides what is for admins."""
    rights = "" if person.admin else " lc-guest"
    match settings.mode:
        case "local":
            return ""
        case "shared":
            name = escape(person.name or person.owner)
            leave = f"<button>{html_text('login.leave')}</button>"
            form = f'<form method="post" action="logout">{leave}</form>'
            return f'<div class="lc-account{rights}"><b title="{name}">{name}</b>{form}</div>'
        case "demo":
            about = html_text("demo.about", hours=settings.demo_hours)
            return f'<div class="lc-account{rights}">{about}</div>'


def admins_only() -> str:
    """Said where something is hidden from everybody else."""
    return f'<p class="lc-adminonly">{html_text("login.admins_only")}</p>'
