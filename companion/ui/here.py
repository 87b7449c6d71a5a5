"""Where a person is on the page: who they are, which chat they look at, what time it is there.

Knows Gradio's requests and events. It does not know what any panel shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from html import escape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import gradio as gr
from gradio.utils import get_upload_folder

from companion.domain import Person
from companion.errors import CompanionError, InvalidInput, NotSignedIn
from companion.people.arrivals import Arrivals
from companion.people.identity import person_of
from companion.ui.render.pieces import coded
from companion.ui.texts import filled, text

ASSETS = Path(__file__).parent / "assets"

Update = dict[Any, Any]
"""Component → its new value or settings, as Gradio takes it from a handler."""

QUEUED: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
"""For events that take long: any number at once."""
AT_ONCE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
"""For events that answer within milliseconds."""
EACH: dict[str, Any] = {"trigger_mode": "multiple"}
"""For events that tell something of their own: Gradio's page drops what is triggered while the same event is
pending, unless it is told otherwise."""


PAGE = 40
"""Messages shown at once: the browser draws all of them anew with each update."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a tab shows: the last `shown` messages of a chat."""

    session_id: str | None
    shown: int = PAGE
    scope: tuple[str, ...] | None = None
    """Documents chosen for a chat that has not begun."""


@dataclass(frozen=True, slots=True)
class Here:
    """The components that hold what is one tab's own."""

    session: gr.State
    """The chat that is looked at; None for a new one."""
    zone: gr.Textbox
    """The browser's time zone, such as `Europe/Berlin`."""
    _looks: dict[tuple[str, str], Look] = field(default_factory=dict)

    def turn(self, request: gr.Request, look: Look) -> None:
        """This tab looks at that from now on; an answer it followed is no longer shown.

        Kept here and not only in `session`, because a handler sees states as they were when it began.
        """
        self._looks[_tab_of(request)] = look

    def looks_at(self, request: gr.Request, session_id: str | None, shown: int | None = None) -> bool:
        """Whether the tab still looks at that chat, and at that many messages of it if `shown`."""
        look = self.look_of(request)
        return look.session_id == session_id and shown in (None, look.shown)

    def look_of(self, request: gr.Request) -> Look:
        return self._looks.get(_tab_of(request), Look(None))

    def choose_scope(self, request: gr.Request, scope: tuple[str, ...] | None) -> None:
        """The chat that begins in this tab will be answered from these documents."""
        self.turn(request, replace(self.look_of(request), scope=scope))

    def leave(self, request: gr.Request) -> None:
        """The tab was closed."""
        with suppress(NotSignedIn):
            self._looks.pop(_tab_of(request), None)


def who_asks(request: gr.Request) -> Person:
    """Whose page this is, as the gate found out. Raises NotSignedIn where it let nobody in."""
    return person_of(request.request.scope if request.request else {})


def owner_of(request: gr.Request) -> str:
    """To whom belongs what this page shows and changes."""
    return who_asks(request).owner


def _tab_of(request: gr.Request) -> tuple[str, str]:
    """The browser made the name of a tab up: alone it proves nothing."""
    return owner_of(request), str(request.session_hash)


def zone_of(name: str | None) -> tzinfo | None:
    """None, the server's own zone, for a name that nobody knows."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def now() -> datetime:
    return datetime.now(UTC)


def asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def piece(name: str, **values: str) -> str:
    """An HTML file of ours with the texts that it names."""
    return filled(asset(name), values)


def html(value: str = "", *, js: str | None = None, **looks: Any) -> gr.HTML:
    """Finished HTML, with a script of ours where it has something to tell the server."""
    return gr.HTML(value, js_on_load=asset(js) if js else None, apply_default_css=False, **looks)


@contextmanager
def told() -> Iterator[None]:
    """An error of the core becomes a toast with its sentence; the page stays as it was."""
    try:
        yield
    except CompanionError as error:
        raise gr.Error(coded(escape(error.message)), duration=10, print_exception=False, title="") from error


def warn(message: str) -> None:
    gr.Warning(coded(escape(message)), duration=10, title="")


def uploaded(arrivals: Arrivals, owner: str, path: str) -> Path:
    """The file that this person has just uploaded. Raises `InvalidInput` for any other path."""
    found = Path(path).resolve()
    inside = found.is_relative_to(Path(get_upload_folder()).resolve()) and found.is_file()
    if not inside or not arrivals.belongs(owner, found):
        raise InvalidInput(text("upload.lost"))
    return found
