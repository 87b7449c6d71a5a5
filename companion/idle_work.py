"""What the app does of its own accord: deepening, questions of its own, another embedder, upkeep.

Knows who needs whom for that, and in which order it ends. It does not know how any of it is done.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from companion.background.deep_choice import Opener
from companion.background.deepening import Deepening, Quiet
from companion.background.light_change import LightChange, Loader
from companion.background.machine_load import LoadReader
from companion.background.residency import Residency
from companion.background.upkeep import Upkeep
from companion.background.worker import Worker
from companion.chat.chat import Chat
from companion.chat.runs import Runs
from companion.chat.sessions import Sessions
from companion.config import Settings
from companion.direct import DirectQuestions
from companion.domain import LOCAL_OWNER, DeepQuery, ModelInfo
from companion.embedding import Embedding, load_for_questions
from companion.errors import Conflict
from companion.inference.catalog import Catalog
from companion.library.library import Library
from companion.quality.inventor import Inventor
from companion.quality.study import Study
from companion.storage.store import Store
from companion.threads import Threads


@dataclass(frozen=True, slots=True)
class StandIns:
    """What tests bring for what a real machine has; None is the real one."""

    load_light: Loader | None = None
    open_deep: Opener | None = None
    load_direct: Loader | None = None
    reader: LoadReader | None = None


@dataclass(frozen=True, slots=True)
class Rooms:
    """What all of the work is about."""

    settings: Settings
    store: Store
    library: Library
    catalog: Catalog
    sessions: Sessions
    chat: Chat
    runs: Runs


class IdleWork:
    """One thread, the worker's, and everything it looks after."""

    def __init__(
        self,
        rooms: Rooms,
        stand_ins: StandIns,
        threads: Threads,
        *,
        purge: Callable[[], object],
        loading: Callable[[], bool],
        closing: threading.Event,
    ) -> None:
        """`purge` removes what people deleted; `loading`: the embedder of the start is on its way."""
        self._rooms = rooms
        self._threads = threads
        self._closing = closing
        self.worker = Worker(self._tick)
        self.embedding = Embedding(
            rooms.settings,
            rooms.catalog,
            rooms.store.embeddings,
            rooms.library.layers.pace,
            lambda: self.deepening.load,
        )
        self.residency = self._make_residency()
        self.deepening = self._make_deepening(stand_ins)
        self.study = self._make_study()
        self.light_change = self._make_light_change(stand_ins.load_light)
        self.direct = self._make_direct(stand_ins.load_direct)
        self.upkeep = Upkeep(
            rooms.store,
            rooms.library,
            purge=purge,
            loading=loading,
            closing=closing,
            change=self.light_change.tick,
            deepen=self.deepening.tick,
            study=self.study.tick,
        )

    def touch(self) -> None:
        """A sign of the user: all of it steps aside."""
        self.deepening.touch()
        self.study.touch()

    def close(self) -> None:
        """End what could hold up an end; the worker goes on with upkeep."""
        self.deepening.close()
        self.study.close()

    def stop(self) -> None:
        """End all of it, and let go of the machine."""
        self.worker.stop()
        self.deepening.let_go()

    # --- who needs whom -------------------------------------------------------------------

    def _make_residency(self) -> Residency:
        rooms = self._rooms
        return Residency(
            rooms.catalog,
            busy=lambda: rooms.runs.active() > 0,
            window_for=self._window_for,
            free_bytes=lambda: self.deepening.memory_free,
            preload_chosen=self._preload_chosen,
        )

    def _make_deepening(self, stand_ins: StandIns) -> Deepening:
        rooms = self._rooms
        return Deepening(
            rooms.store,
            rooms.library.layers,
            self.residency,
            stand_ins.open_deep or self.embedding.open_deep,
            wanted=lambda: rooms.sessions.preferences().embed_deep,
            quiet=self._quiet,
            turns=rooms.runs.active,
            reclaimable=self._reclaimable,
            on_loop=self._on_loop,
            in_thread=asyncio.to_thread,
            wake=self.worker.wake,
            borrowed=lambda: self.study.works_elsewhere,
            reader=stand_ins.reader,
        )

    def _make_study(self) -> Study:
        rooms = self._rooms
        inventor = Inventor(
            rooms.catalog,
            chosen=lambda: rooms.sessions.in_use(LOCAL_OWNER).model_name,
            window_for=self._window_for,
        )
        return Study(
            rooms.store,
            rooms.library,
            inventor.invent,
            wanted=lambda: rooms.sessions.preferences().quality_questions,
            embed_deep=lambda: rooms.sessions.preferences().embed_deep,
            spare=lambda: self.deepening.spare,
            turns=rooms.runs.active,
            crowded=lambda: self.deepening.status().is_indexing,
            on_loop=self._on_loop,
            wake=self.worker.wake,
        )

    def _make_light_change(self, load: Loader | None) -> LightChange:
        rooms = self._rooms
        return LightChange(
            rooms.store,
            rooms.library,
            load,
            wanted=lambda: rooms.sessions.preferences().embed_light,
            usual=rooms.settings.embed_light,
            in_background=partial(self._threads.begin, "next embedder"),
            proceed=lambda: not rooms.runs.active() and not self._closing.is_set(),
            wake=self.worker.wake,
        )

    def _make_direct(self, load: Loader | None) -> DirectQuestions:
        rooms = self._rooms
        direct = DirectQuestions(
            load or (lambda name: load_for_questions(name, rooms.settings)),
            wanted=self._asked_directly,
            in_background=partial(self._threads.begin, "deep questions"),
        )
        rooms.library.deep_reader = lambda: direct.embedder
        rooms.sessions.after_save(lambda values: self._follow_direct() if "deep_query" in values else None)
        return direct

    # --- what is wanted at the moment -----------------------------------------------------

    def _tick(self) -> float:
        # Not before the light embedder is there: that one is needed by everybody.
        if self.upkeep.stage is None and not self._rooms.store.damaged:
            self.direct.follow()
        return self.upkeep.tick()

    def _follow_direct(self) -> None:
        if not self._closing.is_set():
            self.direct.follow(again=True)

    def _asked_directly(self) -> str | None:
        """The deep embedder that reads questions: the one whose layer answers."""
        rooms = self._rooms
        if rooms.sessions.preferences().deep_query is not DeepQuery.DIRECT:
            return None
        layers = rooms.library.deep_layers(LOCAL_OWNER)
        return next((layer.embedder for layer in layers if layer.in_force), None)

    def _quiet(self) -> Quiet:
        """As the last active conversation says."""
        sessions = self._rooms.sessions
        return Quiet(sessions.in_use(LOCAL_OWNER).idle_threshold_s, sessions.preferences().gpu_idle_percent)

    def _window_for(self, model: ModelInfo) -> int:
        return self._rooms.chat.window_for(model, self._rooms.sessions.preferences())

    def _reclaimable(self) -> int:
        """Bytes that the chat models in memory take, as last known."""
        loaded = [model for model in self._rooms.catalog.known() if model.loaded]
        return sum((model.vram if self.embedding.card else model.memory) or 0 for model in loaded)

    async def _preload_chosen(self) -> None:
        """The model of the last active conversation."""
        rooms = self._rooms
        in_use = await asyncio.to_thread(rooms.sessions.in_use, LOCAL_OWNER)
        model, _notice = await rooms.catalog.resolve(in_use.model_name)
        await rooms.chat.preload(model.name)

    def _on_loop(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._rooms.runs.loop())
        except Conflict:
            # The app is closing.
            work.close()
            raise
