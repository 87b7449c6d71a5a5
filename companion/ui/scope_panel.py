"""Which documents a chat is answered from: said above the box, and chosen there.

Knows the scope of the chat that is looked at, also of one that has not begun. It does not know
how a search is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from companion.app import Companion
from companion.errors import NotFound
from companion.ui.here import AT_ONCE, EACH, Here, Update, html, now, owner_of, told
from companion.ui.render.scope import scope_button, scope_choice


class ScopePanel:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        with gr.Column(elem_id="lc-scopebar", min_width=0):
            self.choice = html(js="choice.js", elem_id="lc-choice")
            self.button = html(js="scope.js", elem_id="lc-scope")

    @property
    def outputs(self) -> list[Any]:
        return [self.button]

    def show(self, owner: str, chosen: Sequence[str] | None) -> Update:
        library = self._companion.library
        scope = library.scope_of(owner, chosen)
        only = self._name(owner, chosen[0]) if chosen and len(chosen) == 1 else None
        return {self.button: scope_button(scope, library.totals(owner).searchable, only)}

    def chosen(
        self, owner: str, session_id: str | None, here: Here, request: gr.Request
    ) -> Sequence[str] | None:
        """Of the chat, or of the one that is about to begin in this tab."""
        if session_id is None:
            return here.look_of(request).scope
        return self._companion.sessions.config(owner, session_id).scope

    def wire(self, here: Here) -> None:
        def open_choice(session_id: str | None, request: gr.Request) -> str:
            owner = owner_of(request)
            with told():
                chosen = self.chosen(owner, session_id, here, request)
            documents = self._companion.library.documents(owner)
            searchable = [one for one in documents if one.passages]
            return scope_choice(searchable, chosen, self._companion.library.scope_of(owner), now())

        async def choose(event: gr.EventData, session_id: str | None, request: gr.Request) -> Update:
            owner, ids = owner_of(request), event._data["ids"]
            scope = tuple(map(str, ids)) if ids else None
            with told():
                if session_id is None:
                    here.choose_scope(request, scope)
                else:
                    await self._companion.sessions.update_config(owner, session_id, {"scope": scope})
            return self.show(owner, scope)

        self.button.open(open_choice, here.session, self.choice, **AT_ONCE)
        self.choice.choose(choose, here.session, self.button, **AT_ONCE, **EACH)

    def _name(self, owner: str, doc_id: str) -> str | None:
        try:
            return self._companion.library.document(owner, doc_id).name
        except NotFound:
            return None
