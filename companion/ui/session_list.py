"""The left side: the name of the app, a new chat, and the chats so far.

Knows how chats are listed, renamed and deleted. It does not know what is in them.
"""

from __future__ import annotations

from typing import Any

from companion.app import Companion
from companion.ui import render
from companion.ui.here import Update, asset, html, now, zone_of


class SessionList:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self.head = html(asset("side.html"), js="side.js", elem_id="lc-sidehead")
        self.list = html(js="sessions.js", elem_id="lc-sidelist")

    @property
    def outputs(self) -> list[Any]:
        return [self.list]

    def show(self, owner: str, session_id: str | None, zone: str) -> Update:
        return {self.list: self.text(owner, session_id, zone)}

    def text(self, owner: str, session_id: str | None, zone: str) -> str:
        sessions = self._companion.store.sessions.list(owner)
        return render.session_list(sessions, session_id, self._busy, now(), zone_of(zone))

    def _busy(self, session_id: str) -> bool:
        run = self._companion.runs.get(session_id)
        return run is not None and not run.done
