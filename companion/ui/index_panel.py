"""The index: what the deep work does, how the machine is, how much the layers hold, and what was done.

Knows how to ask the app, and what the two buttons press. It does not know when deep work may run.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import gradio as gr

from companion.app import Companion
from companion.background.deep_status import DeepStatus
from companion.domain import SAMPLE_OWNER, LayerInfo, SetAside, WorkState
from companion.ui.here import AT_ONCE, Here, Update, html, now, owner_of, told, zone_of
from companion.ui.render.deepening import indicator, work
from companion.ui.render.index import history, index_layers
from companion.ui.render.machine import last_hour, machine

RUNS = 10
PATIENCE_S = 2.0
"""So long a button waits to show what it did; the clock shows what takes longer."""
LOOK_S = 0.05


class IndexPanel:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        with gr.Column(elem_id="lc-indexpane"):
            self.work = html(js="index.js", elem_id="lc-work")
            self.hour = html(elem_id="lc-hour")
            self.layers = html(elem_id="lc-layers")
            self.runs = html(elem_id="lc-history")
            self.machine = html(js="act.js", elem_id="lc-gpu")
        self.seen = gr.Textbox(visible="hidden")
        """Not empty: somebody looks at this tab."""

    @property
    def outputs(self) -> list[Any]:
        return [self.work, self.hour, self.layers, self.runs, self.machine]

    def show(self, owner: str, zone: str) -> Update:
        """Everything as it is at this moment."""
        status = self._companion.deep_status(owner)
        # They count everybody's passages.
        runs = self._companion.store.index_runs.latest(RUNS) if self._companion.people.is_admin(owner) else []
        light = self._companion.library.status(owner)
        deep, aside = self._deep(owner, status)
        where, when = zone_of(zone), now()
        return {
            **self._at_work(status),
            self.layers: index_layers(light, deep, aside, now=when, zone=where),
            self.runs: history(runs, when, where),
            self.machine: machine(status.load),
        }

    def wire(self, here: Here, tab: gr.Tab, indexing: gr.HTML) -> None:
        """`indexing`: what the header says about it."""

        def look(zone: str, request: gr.Request) -> Update:
            return self.show(owner_of(request), zone)

        async def start(zone: str, request: gr.Request) -> Update:
            with told():
                self._companion.people.require_admin(owner_of(request))
            await self._press("start", WorkState.DEEPENING)
            return await shown(zone, request)

        async def stop(zone: str, request: gr.Request) -> Update:
            with told():
                self._companion.people.require_admin(owner_of(request))
            await self._press("stop", WorkState.PAUSED)
            return await shown(zone, request)

        async def shown(zone: str, request: gr.Request) -> Update:
            owner = owner_of(request)
            news = await asyncio.to_thread(self.show, owner, zone)
            return {**news, indexing: indicator(self._companion.deep_status(owner))}

        outputs = [*self.outputs, indexing]
        tab.select(look, here.zone, self.outputs, **AT_ONCE)
        self.work.start(start, here.zone, outputs, **AT_ONCE)
        self.work.stop(stop, here.zone, outputs, **AT_ONCE)

    def _at_work(self, status: DeepStatus) -> Update:
        limit = self._companion.sessions.preferences().gpu_idle_percent
        return {self.work: work(status, limit), self.hour: last_hour(status, limit)}

    def _deep(self, owner: str, status: DeepStatus) -> tuple[list[LayerInfo], list[SetAside]]:
        """Layers that are or were whole, and the one that grows; and what that one leaves out."""
        store, library = self._companion.store, self._companion.library
        whose = SAMPLE_OWNER if library.uses_samples(owner) else owner
        found, growing = library.deep_layers(owner), status.embedder_id
        if growing is None:
            return found, []
        if growing not in {layer.embedder_id for layer in found}:
            counts = store.layers.coverage(growing, whose)
            found.append(LayerInfo("deep", growing, status.embedder, whose, *counts, in_force=False))
        return found, store.layers.set_aside(growing, whose)

    async def _press(self, button: Literal["start", "stop"], wanted: WorkState) -> None:
        deepening = self._companion.work.deepening
        deepening.press(button)
        for _ in range(round(PATIENCE_S / LOOK_S)):
            if deepening.status().state is wanted:
                return
            await asyncio.sleep(LOOK_S)
