"""The catalog: all chat models of all engines, and which of them answers.

Knows the engines by their role only. It does not know what they speak, nor what is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from companion.domain import ChatEngine, ChatRequest, EnginePiece, ModelInfo, PullProgress
from companion.errors import EngineError, EngineUnavailable, ModelMissing

CACHE_S = 5.0
STALE_S = 30.0
"""How long the last list of an engine stands in while it is there but does not tell."""
PATIENCE_S = 3.0
NO_MODEL = "There is no chat model; pull one with `ollama pull llama3.2`."
GET_OLLAMA = "Get Ollama at ollama.com/download and start it; it is noticed within ten seconds."
PULL_ONE = "Ollama is there and has no chat model yet; download one."


@dataclass(frozen=True, slots=True)
class Recommended:
    """A model for somebody who has none yet."""

    name: str
    size: int
    """Bytes to download, about."""
    about: str


RECOMMENDED = (
    Recommended("llama3.2:3b", 2_000_000_000, "Small and quick; runs on most machines with 8 GB of memory."),
    Recommended("qwen3:4b", 2_500_000_000, "Thinks before it answers: better at hard questions, slower."),
    Recommended(
        "gemma3:4b", 3_300_000_000, "Writes well in many languages; needs the most memory of the three."
    ),
)


@dataclass(frozen=True, slots=True)
class Situation:
    """Whether there is somebody to answer, and what the person could do about it."""

    state: Literal["no_ollama", "ollama_without_models", "ok"]
    answers: str | None
    """Who answers where nobody was chosen, the built-in model among them; None: nobody can."""
    sentence: str = ""
    """What is the matter; empty if nothing is."""
    action: str = ""


@runtime_checkable
class PullingEngine(Protocol):
    """An engine that can download models."""

    def pull(self, model: str) -> AsyncIterator[PullProgress]: ...


class Catalog:
    """One list over several engines, at most five seconds old. Safe to use from several loops."""

    def __init__(
        self,
        engines: Sequence[ChatEngine],
        *,
        show_cloud: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engines = {engine.name: engine for engine in sorted(engines, key=lambda e: e.name != "ollama")}
        self.show_cloud = show_cloud
        """May be switched while the program runs; holds for the next look at the list."""
        self._clock = clock
        self._lists: dict[str, tuple[float, list[ModelInfo]]] = {}
        self._checked_at: float | None = None
        self._refreshing: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = (
            WeakKeyDictionary()
        )
        self.away: dict[str, str] = {}
        """Engine name to the sentence that says why it does not tell its models."""

    async def models(self, *, refresh: bool = False) -> list[ModelInfo]:
        """Chat models, Ollama's first; cloud models only where they are switched on."""
        return [model for model in await self._visible(refresh=refresh) if model.can_chat]

    async def embedding_models(self) -> list[ModelInfo]:
        return [model for model in await self._visible() if "embedding" in model.capabilities]

    async def default(self) -> ModelInfo:
        """The first local chat model of Ollama, else the built-in one, else `EngineUnavailable`."""
        for model in await self.models():
            if not model.remote:
                return model
        raise EngineUnavailable(" ".join(self.away.values()) or NO_MODEL)

    async def resolve(self, name: str | None) -> tuple[ModelInfo, str | None]:
        """The model to use, and a sentence for the person when it is not the one they chose."""
        if name is None:
            return await self.default(), None
        model = _find(await self.models(), name) or _find(await self.models(refresh=True), name)
        if model is not None:
            return model, None
        default = await self.default()
        return default, f"The model {name} is no longer there; {default.name} answers instead."

    async def info(self, name: str) -> ModelInfo:
        """A chat or embedding model by its name. Raises `ModelMissing`."""
        model = _find(await self._visible(), name) or _find(await self._visible(refresh=True), name)
        if model is None:
            raise ModelMissing(f"There is no model named {name}; choose one from the list.")
        return model

    def known(self) -> list[ModelInfo]:
        """All models by the lists as they are: no engine is asked, however old they may be."""
        return list(self._listed())

    def last_known(self, name: str | None) -> ModelInfo | None:
        """The chat model that would answer, by the lists as they are: no engine is asked, however old
        they may be. None while no engine has told one.
        """
        models = [model for model in self._listed() if model.can_chat]
        return _find(models, name or "") or next((model for model in models if not model.remote), None)

    async def situation(self) -> Situation:
        """From the list as it is known, at most five seconds old."""
        models = await self.models()
        answers = next((model.name for model in models if not model.remote), None)
        if any(model.engine == "ollama" for model in models):
            return Situation("ok", answers)
        if "ollama" in self._engines and "ollama" not in self.away:
            return Situation("ollama_without_models", answers, NO_MODEL.partition(";")[0], PULL_ONE)
        return Situation(
            "no_ollama", answers, self.away.get("ollama", "Ollama is not used here."), GET_OLLAMA
        )

    def engine(self, model: ModelInfo) -> ChatEngine:
        """Who runs this model."""
        return self._engines[model.engine]

    async def stream(self, request: ChatRequest) -> AsyncGenerator[EnginePiece, None]:
        """Pieces from the engine that has the model; errors and cancelling as in `ChatEngine.stream`."""
        pieces = self.engine(await self.info(request.model)).stream(request)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await _close(pieces)

    async def load(self, name: str, num_ctx: int) -> None:
        """Bring a model into memory; a cloud model has none here. Raises `ModelMissing`."""
        model = await self.info(name)
        if model.remote:
            return
        try:
            await self.engine(model).load(model.name, num_ctx)
        finally:
            self._checked_at = None

    async def unload(self, name: str) -> None:
        """Give a model's memory back. Raises `ModelMissing`."""
        model = await self.info(name)
        if model.remote:
            return
        try:
            await self.engine(model).unload(model.name)
        finally:
            self._checked_at = None

    async def pull(self, name: str) -> AsyncGenerator[PullProgress, None]:
        """Download a model with the first engine that can. Raises `EngineError`s."""
        for engine in self._engines.values():
            if isinstance(engine, PullingEngine):
                steps = engine.pull(name)
                try:
                    async for step in steps:
                        yield step
                finally:
                    await _close(steps)
                    self._checked_at = None
                return
        raise EngineUnavailable("No engine here can download models; start Ollama with `ollama serve`.")

    async def close(self) -> None:
        for engine in self._engines.values():
            await engine.close()

    async def _visible(self, *, refresh: bool = False) -> list[ModelInfo]:
        if refresh or self._checked_at is None or self._clock() - self._checked_at > CACHE_S:
            await self._refresh_once()
        return self._listed()

    def _listed(self) -> list[ModelInfo]:
        listed = (model for name in self._engines for model in self._list_of(name))
        return _first_of_each_name(model for model in listed if self.show_cloud or not model.remote)

    def _list_of(self, engine_name: str) -> list[ModelInfo]:
        return self._lists.get(engine_name, (0.0, []))[1]

    async def _refresh_once(self) -> None:
        """Callers of one loop share one refresh; one who leaves does not take it from the others."""
        loop = asyncio.get_running_loop()
        task = self._refreshing.get(loop)
        if task is None:
            task = loop.create_task(self._refresh())
            self._refreshing[loop] = task
            # The task refers to its loop: left here it would keep the loop alive.
            task.add_done_callback(lambda _: self._refreshing.pop(loop, None))
        await asyncio.shield(task)

    async def _refresh(self) -> None:
        await asyncio.gather(*(self._ask(engine) for engine in self._engines.values()))
        self._checked_at = self._clock()

    async def _ask(self, engine: ChatEngine) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                models = await engine.models()
        except EngineUnavailable as error:
            self._lists.pop(engine.name, None)
            self.away[engine.name] = error.message
        except EngineError as error:
            self._keep_while_fresh(engine.name, error.message)
        except TimeoutError:
            self._keep_while_fresh(engine.name, f"{_title(engine.name)} does not tell its models.")
        else:
            self._lists[engine.name] = (self._clock(), models)
            self.away.pop(engine.name, None)

    def _keep_while_fresh(self, engine_name: str, sentence: str) -> None:
        """Busy is not gone: the last list stands in for a while."""
        self.away[engine_name] = sentence
        told_at, _ = self._lists.get(engine_name, (0.0, []))
        if self._clock() - told_at > STALE_S:
            self._lists.pop(engine_name, None)


async def _close(pieces: AsyncIterator[object]) -> None:
    """Leaving a loop does not close a generator; until it is closed, the model goes on."""
    if isinstance(pieces, AsyncGenerator):
        await pieces.aclose()


def _find(models: Iterable[ModelInfo], name: str) -> ModelInfo | None:
    """By its full name, or without `:latest` as Ollama's own commands allow."""
    by_name = {model.name: model for model in models}
    return by_name.get(name) or by_name.get(f"{name}:latest")


def _first_of_each_name(models: Iterable[ModelInfo]) -> list[ModelInfo]:
    by_name: dict[str, ModelInfo] = {}
    for model in models:
        by_name.setdefault(model.name, model)
    return list(by_name.values())


def _title(engine_name: str) -> str:
    return {"ollama": "Ollama", "builtin": "The built-in model"}.get(engine_name, engine_name)
