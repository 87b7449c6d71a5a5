"""Quality: how well the search finds what stands in one's own documents, and whether the deep layer helps.

Knows how to ask the app, and what the one button presses. It does not know how questions are made, or
what a figure is worth.
"""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr

from companion.app import Companion
from companion.quality.overview import Miss, item_of, overview
from companion.ui.here import AT_ONCE, Here, Update, html, now, owner_of, told, zone_of
from companion.ui.render.quality import board, figures, missed, past
from companion.ui.sources_panel import SourcesPanel

INSTEAD = 3
"""Passages that are shown beside the one that was meant."""


class QualityPanel:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        with gr.Column(elem_id="lc-qualitypane"):
            self.board = html(js="quality.js", elem_id="lc-quality")
            self.figures = html(elem_id="lc-figures")
            self.misses = html(js="misses.js", elem_id="lc-misses")
            self.past = html(elem_id="lc-past")
        self.seen = gr.Textbox(visible="hidden")
        """Not empty: somebody looks at this tab."""

    @property
    def outputs(self) -> list[Any]:
        return [self.board, self.figures, self.misses, self.past]

    def show(self, owner: str, zone: str) -> Update:
        """Everything as it is at this moment."""
        seen = overview(self._companion.store, self._companion.work.study, owner)
        where, when = zone_of(zone), now()
        return {
            self.board: board(seen, when, where),
            self.figures: figures(seen, when, where),
            self.misses: missed(seen),
            self.past: past(seen, when, where),
        }

    def wire(self, here: Here, tab: gr.Tab, sources: SourcesPanel) -> None:
        def look(zone: str, request: gr.Request) -> Update:
            return self.show(owner_of(request), zone)

        async def measure(zone: str, request: gr.Request) -> Update:
            owner = owner_of(request)
            with told():
                self._companion.people.require_admin(owner)
                await asyncio.to_thread(self._companion.work.study.measure_now, owner)
            return await asyncio.to_thread(self.show, owner, zone)

        def open_miss(event: gr.EventData, request: gr.Request) -> str:
            with told():
                return self._miss(owner_of(request), int(event._data["id"]), sources)

        tab.select(look, here.zone, self.outputs, **AT_ONCE)
        self.board.measure(measure, here.zone, self.outputs, **AT_ONCE)
        self.misses.open(open_miss, None, sources.cards, **AT_ONCE)

    def _miss(self, owner: str, question_id: int, sources: SourcesPanel) -> str:
        """The panel of a question: the passage that was meant, and what comes instead now."""
        companion = self._companion
        item = item_of(companion.store, companion.work.study, owner, question_id)
        preferred = companion.sessions.preferences().embed_deep
        found = companion.library.search(owner, item.question, INSTEAD, embed_deep=preferred)
        latest = overview(companion.store, companion.work.study, owner).latest
        ranks = latest.ranks.get(question_id, {}) if latest else {}
        return sources.missed(owner, Miss(item, ranks), found.hits)
