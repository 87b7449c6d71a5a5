"""The line above the chat: which model, which thinking mode, and how the app is.

Knows the dropdowns and the status pill. It does not know the conversation.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from companion.app import Companion
from companion.domain import ThinkingMode
from companion.ui import render
from companion.ui.here import Update, html


class Header:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        with gr.Row(elem_id="lc-header"):
            html(_MENU, elem_id="lc-menu")
            self.model = gr.Dropdown([], label="Model", elem_id="lc-model", **_PLAIN)
            self.mode = gr.Dropdown(
                [(label, str(mode)) for label, mode in render.MODES],
                label="How to answer",
                elem_id="lc-mode",
                filterable=False,
                **_PLAIN,
            )
            self.pill = html(render.pill("warming", ()), elem_id="lc-status")

    @property
    def outputs(self) -> list[Any]:
        return [self.model, self.mode, self.pill]

    def show(self, model: str | None, mode: ThinkingMode, choices: list[tuple[str, str]]) -> Update:
        return {self.model: gr.Dropdown(choices=choices, value=model), self.mode: str(mode)}

    def status(self, owner: str) -> str:
        health = self._companion.health()
        return render.pill(health.state, health.reasons)


_MENU = f'<button class="lc-menu" title="Chats" aria-label="Show the chats">{render.icon("menu")}</button>'
_PLAIN: dict[str, Any] = {
    "show_label": False,
    "container": False,
    "interactive": True,
    "min_width": 0,
    "scale": 0,
}
