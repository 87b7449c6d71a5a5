"""The left side: the name of the app, a new chat, and the chats so far.

Knows how chats are listed, renamed and deleted. It does not know what is in them.
"""

from __future__ import annotations

from typing import Any

from companion.app import Companion
from companion.domain import Person, Session
from companion.ui.here import Update, html, now, piece, zone_of
from companion.ui.render.account import account
from companion.ui.render.sessions import session_list, undo_bar


class SessionList:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self.head = html(piece("side.html"), js="side.js", elem_id="lc-sidehead")
        self.list = html(js="sessions.js", elem_id="lc-sidelist")
        self.undo = html(js="undo.js", elem_id="lc-sideundo")
        self.account = html(elem_id="lc-account")

    @property
    def outputs(self) -> list[Any]:
        return [self.list]

    def show(self, owner: str, session_id: str | None, zone: str) -> Update:
        return {self.list: self.text(owner, session_id, zone)}

    def text(self, owner: str, session_id: str | None, zone: str) -> str:
        sessions = self._companion.store.sessions.list(owner)
        return session_list(sessions, session_id, self._busy, now(), zone_of(zone))

    def tell_who(self, person: Person) -> Update:
        """Who one is here, where there are several."""
        return {self.account: account(person, self._companion.settings)}

    def offer_undo(self, deleted: Session) -> Update:
        return {self.undo: undo_bar(deleted, now())}

    def _busy(self, session_id: str) -> bool:
        run = self._companion.runs.get(session_id)
        return run is not None and not run.done
