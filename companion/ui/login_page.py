"""The page on which one signs in: one form, without a script, in our own look.

It does not know who may come in.
"""

from __future__ import annotations

from pathlib import Path

from companion.ui.texts import filled, html_text

_ASSETS = Path(__file__).parent / "assets"


def login_page(problem: str, name: str) -> str:
    """`problem`: why the last try did not succeed."""
    styles = _asset("page.css") + _asset("login.css")
    title = html_text("app.name")
    form = filled(_asset("login.html"), {"problem": problem, "name": name})
    return (
        f'<!doctype html><html lang="{html_text("app.language")}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{styles}</style></head><body>{form}</body></html>"
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
