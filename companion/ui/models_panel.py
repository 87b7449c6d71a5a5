"""The models: what is here, what is in memory, and downloads, which outlive the page.

Knows which click asks the app for what. It does not know engines, or how a model is loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr

from companion.app import Companion
from companion.errors import CompanionError
from companion.inference.catalog import RECOMMENDED
from companion.inference.ollama_json import full_name
from companion.inference.pulls import PullState, PullStatus
from companion.ui.here import (
    AT_ONCE,
    EACH,
    QUEUED,
    Here,
    Update,
    html,
    now,
    owner_of,
    piece,
    told,
    warn,
    zone_of,
)
from companion.ui.render.models import model_list, offers
from companion.ui.render.pieces import quiet
from companion.ui.texts import html_text

REFRESH_S = 0.5
ENDED_SHOWN = 3


class ModelsPanel:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self._busy: dict[str, str] = {}
        with gr.Column(elem_id="lc-modelpane"):
            self.list = html(js="models.js", elem_id="lc-modellist")
            html(f"<h2>{html_text('models.add')}</h2>", elem_id="lc-addtitle")
            forbidden = companion.pulls.forbidden
            self.form = html(
                quiet(forbidden) if forbidden else piece("pull.html", example=RECOMMENDED[0].name),
                js=None if forbidden else "pull.js",
                elem_id="lc-pullform",
            )
            self.offers = html(js="models.js", elem_id="lc-offers")
        self.clock = gr.Timer(REFRESH_S, active=False)

    @property
    def outputs(self) -> list[Any]:
        return [self.list, self.offers, self.clock]

    async def show(self, zone: str) -> Update:
        """Models and downloads as they are; the clock runs as long as something is on its way."""
        catalog, pulls = self._companion.catalog, self._companion.pulls
        situation = await catalog.situation()
        models = [*await catalog.models(), *await catalog.embedding_models()]
        models = list({model.name: model for model in models}.values())
        statuses = _shown([pull.now for pull in pulls.all()])
        may = pulls.forbidden is None and situation.state != "no_ollama"
        present = {full_name(model.name) for model in models}
        running = any(each.state is PullState.RUNNING for each in statuses)
        return {
            self.list: model_list(models, situation, catalog.show_cloud, self._busy, now(), zone_of(zone)),
            self.offers: offers(statuses, RECOMMENDED, present, may),
            self.clock: gr.Timer(active=running),
        }

    def wire(self, here: Here) -> None:
        chat, pulls = self._companion.chat, self._companion.pulls

        def require_admin(request: gr.Request) -> None:
            with told():
                self._companion.people.require_admin(owner_of(request))

        async def bring(event: gr.EventData, zone: str, request: gr.Request) -> Update:
            require_admin(request)
            return await self._work(event._data["name"], "loading", chat.preload, zone)

        async def free(event: gr.EventData, zone: str, request: gr.Request) -> Update:
            require_admin(request)
            return await self._work(event._data["name"], "unloading", chat.unload, zone)

        async def fetch(event: gr.EventData, zone: str, request: gr.Request) -> Update:
            require_admin(request)
            try:
                # In a thread: it may wait for the loop of the downloads to begin.
                await asyncio.to_thread(pulls.start, str(event._data["name"]))
            except CompanionError as error:
                warn(error.message)
            return await self.show(zone)

        async def cancel(event: gr.EventData, zone: str, request: gr.Request) -> Update:
            require_admin(request)
            pulls.cancel(str(event._data["name"]))
            return await self.show(zone)

        self.list.bring(bring, here.zone, self.outputs, **QUEUED, **EACH)
        self.list.free(free, here.zone, self.outputs, **QUEUED, **EACH)
        self.offers.cancel(cancel, here.zone, self.outputs, **AT_ONCE, **EACH)
        self.offers.fetch(fetch, here.zone, self.outputs, **QUEUED, **EACH)
        if pulls.forbidden is None:
            self.form.fetch(fetch, here.zone, self.outputs, **QUEUED, **EACH)
        self.clock.tick(self.show, here.zone, self.outputs, **AT_ONCE)

    async def _work(self, name: str, what: str, work: Callable[[str], Awaitable[None]], zone: str) -> Update:
        """What every tab sees being done, until it is."""
        self._companion.touch()
        self._busy[name] = what
        try:
            await work(name)
        except CompanionError as error:
            warn(error.message)
        finally:
            self._busy.pop(name, None)
        return await self.show(zone)


def _shown(pulls: list[PullStatus]) -> list[PullStatus]:
    """All that run, and the last that ended."""
    running = [each for each in pulls if each.state is PullState.RUNNING]
    return running + [each for each in pulls if each not in running][:ENDED_SHOWN]
