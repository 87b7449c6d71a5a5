"""Residency: which chat models are in memory; makes room for deepening, and brings them back.

Knows what was loaded, with which window, and when memory is really free. It does not know why room
is needed, how memory is read, or what a turn is: callables tell.

What was unloaded is remembered in this process only. If it dies before it brings a model back,
nothing has to be healed: engines load on demand, and the next question costs a load.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from companion.domain import ModelInfo
from companion.errors import CompanionError

if TYPE_CHECKING:
    from companion.inference.catalog import Catalog

log = logging.getLogger(__name__)

POLL_S = 0.05
ENOUGH = 0.8
"""Of a model's memory; as in Ollama itself, since a driver keeps a little for a while."""

IN_USE = "A question is being answered, so the chat model stays."
CALLED_BACK = "The chat model is wanted again."
NOT_GONE = "{name} was not unloaded in time."
NOT_FREE = "{name} was unloaded, but its memory did not become free in time."


@dataclass(frozen=True, slots=True)
class Freed:
    """What came of making room."""

    models: tuple[str, ...]
    """Asked to go, in this order."""
    freed_bytes: int | None
    """More free memory on the card than before; None: it cannot be read."""
    problem: str | None
    """Why there is not the room that there should be, one sentence; None: all is well."""


class Residency:
    """Makes room and gives it back. One thread frees; any thread or event loop brings back."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        busy: Callable[[], bool],
        window_for: Callable[[ModelInfo], int],
        free_bytes: Callable[[], int | None],
        preload_chosen: Callable[[], Awaitable[None]],
        patience_s: float = 20.0,
    ) -> None:
        """`busy`: a turn runs or waits. `window_for`: what a turn would ask for, where an engine
        does not tell the window in use. `free_bytes`: of the card that deepening will use, None
        without one or if unknown. `preload_chosen` loads the model of the person's conversation.
        """
        self._catalog = catalog
        self._busy = busy
        self._window_for = window_for
        self._free_bytes = free_bytes
        self._preload_chosen = preload_chosen
        self._patience_s = patience_s
        self._guard = threading.Lock()
        self._away: dict[str, int] = {}
        self._freeing = False
        self._returning = False

    @property
    def away(self) -> Mapping[str, int]:
        """Models that were unloaded and are to come back, each with its window in tokens."""
        with self._guard:
            return dict(self._away)

    async def free(self, wanted: Callable[[], bool] = lambda: True) -> Freed:
        """Unload the chat models in memory and wait until it is free; bounded, and given up as soon
        as `wanted` says no. Never while a turn runs or waits. What fails is in the answer.
        """
        self._freeing = True
        try:
            return await self._free(wanted)
        finally:
            self._freeing = False

    async def restore(self) -> None:
        """Load what was unloaded, each with its window. Whoever calls meanwhile has nothing to do."""
        with self._guard:
            if self._returning:
                return
            self._returning = True
        try:
            # Else a model could be unloaded right after it came back.
            while self._freeing:
                await asyncio.sleep(POLL_S)
            for name, num_ctx in self.away.items():
                await self._quietly(self._catalog.load(name, num_ctx))
                with self._guard:
                    self._away.pop(name, None)
        finally:
            self._returning = False

    async def preload(self) -> None:
        """At a sign of the person: bring back what was unloaded; if nothing was, what the
        conversation will need."""
        if self._freeing or self._returning or self.away:
            await self.restore()
        else:
            await self._quietly(self._preload_chosen())

    async def _free(self, wanted: Callable[[], bool]) -> Freed:
        until = time.monotonic() + self._patience_s
        before = self._free_bytes()
        asked: list[str] = []
        problem: str | None = None
        for model in await self._in_memory():
            problem = self._objection(wanted) or await self._unload(model, wanted, until, asked)
            if problem:
                break
        return Freed(tuple(asked), self._risen(before), problem)

    async def _in_memory(self) -> list[ModelInfo]:
        models = await self._catalog.models(refresh=True)
        return [model for model in models if model.loaded and not model.remote]

    def _objection(self, wanted: Callable[[], bool]) -> str | None:
        return IN_USE if self._busy() else None if wanted() else CALLED_BACK

    async def _unload(
        self, model: ModelInfo, wanted: Callable[[], bool], until: float, asked: list[str]
    ) -> str | None:
        """What was in the way, if anything."""
        free = self._free_bytes()
        with self._guard:
            self._away[model.name] = model.loaded_window or self._window_for(model)
        asked.append(model.name)
        # Waits for the engine's own list; the card comes after.
        unloading = asyncio.ensure_future(self._catalog.unload(model.name))
        try:
            problem = await _until(unloading.done, wanted, until, NOT_GONE.format(name=model.name))
            if problem is None:
                await unloading
        except CompanionError as error:
            return error.message
        finally:
            unloading.cancel()
        return problem or await _until(
            lambda: self._is_back(model, free), wanted, until, NOT_FREE.format(name=model.name)
        )

    def _is_back(self, model: ModelInfo, before: int | None) -> bool:
        risen = self._risen(before)
        return risen is None or risen >= ENOUGH * (model.vram or 0)

    def _risen(self, before: int | None) -> int | None:
        now = self._free_bytes()
        return None if now is None or before is None else max(0, now - before)

    async def _quietly(self, loading: Awaitable[None]) -> None:
        """A model that does not come now is loaded by the next question, which says what is wrong."""
        try:
            await loading
        except CompanionError as error:
            log.info("a chat model was not loaded: %s", error.message)


async def _until(
    condition: Callable[[], bool], wanted: Callable[[], bool], until: float, late: str
) -> str | None:
    """Wait; None when the condition holds, else why the waiting ended."""
    while not condition():
        if not wanted():
            return CALLED_BACK
        if time.monotonic() > until:
            return late
        await asyncio.sleep(POLL_S)
    return None
