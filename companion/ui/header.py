"""The line above the chat: which model, which thinking mode, and how the app is.

Knows the dropdowns, the status pill, what tells of deep work, and the notice of the moment. It does
not know the conversation, or what makes a state of the app.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from companion.app import Companion
from companion.conditions import Condition
from companion.domain import ThinkingMode
from companion.errors import NotFound
from companion.ui.here import AT_ONCE, Here, Update, html, owner_of, told
from companion.ui.render.deepening import indicator
from companion.ui.render.models import mode_choices
from companion.ui.render.pieces import icon
from companion.ui.render.status import banner, pill
from companion.ui.texts import html_text, text

ELSEWHERE = frozenset({"no_gpu"})
"""States that are said where they matter, and are no notice."""


class Header:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        with gr.Row(elem_id="lc-header"):
            html(_menu(), elem_id="lc-menu")
            self.model = gr.Dropdown([], label=text("header.model"), elem_id="lc-model", **_PLAIN)
            self.mode = gr.Dropdown(
                mode_choices(),
                label=text("header.mode"),
                elem_id="lc-mode",
                filterable=False,
                **_PLAIN,
            )
            self.indexing = html(js="act.js", elem_id="lc-indexing")
            self.pill = html(pill("warming", ()), js="pill.js", elem_id="lc-status")
        self.banner = html(js="banner.js", elem_id="lc-banner")

    @property
    def outputs(self) -> list[Any]:
        return [self.model, self.mode, self.indexing, self.pill, self.banner]

    def show(self, model: str | None, mode: ThinkingMode, choices: list[tuple[str, str]]) -> Update:
        return {self.model: gr.Dropdown(choices=choices, value=model), self.mode: str(mode)}

    def status(self, owner: str, session_id: str | None) -> Update:
        """How the app is for this person, and for the model of the chat they look at."""
        found = self._conditions(owner, session_id)
        state = self._companion.health().state
        if any(each.severity == "error" for each in found):
            state = "degraded"
        here = [each for each in found if each.code not in ELSEWHERE]
        return {
            self.indexing: indicator(self._companion.deep_status(owner)),
            self.pill: pill(state, found),
            self.banner: banner(here),
        }

    def wire(self, here: Here) -> None:
        def again(session_id: str | None, request: gr.Request) -> Update:
            with told():
                self._companion.people.require_admin(owner_of(request))
            self._companion.try_again()
            return self.status(owner_of(request), session_id)

        for place in (self.pill, self.banner):
            place.again(again, here.session, [self.indexing, self.pill, self.banner], **AT_ONCE)

    def _conditions(self, owner: str, session_id: str | None) -> tuple[Condition, ...]:
        try:
            return self._companion.conditions(owner, session_id)
        except NotFound:
            # The chat was deleted in another tab; the app is as it is.
            return self._companion.conditions(owner)


def _menu() -> str:
    names = f'title="{html_text("header.chats")}" aria-label="{html_text("header.show_chats")}"'
    return f'<button class="lc-menu" {names}>{icon("menu")}</button>'


_PLAIN: dict[str, Any] = {
    "show_label": False,
    "container": False,
    "interactive": True,
    "min_width": 0,
    "scale": 0,
}
