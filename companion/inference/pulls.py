"""Downloads of models: start, follow, cancel; they outlive the request and the page that began them.

Knows how far each is, how fast, and why it ended. It does not know what engines speak, whose
event loop it borrows, or who reads along.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum

from companion.domain import PullProgress
from companion.errors import CompanionError, Conflict, EngineError, InvalidInput, Refused
from companion.inference.catalog import Catalog
from companion.inference.ollama_json import full_name, is_cloud_name

log = logging.getLogger(__name__)

FOLLOW_S = 0.1
"""Between two looks of a follower: ten updates a second are all that anybody sees."""
RATE_WINDOW_S = 5.0
LEAST_RATE_TIME_S = 0.5
KEPT_PULLS = 50
CLOSING_S = 3.0
LONGEST_NAME = 200

LOOKING = "Looking for the model"
DOWNLOADING = "Downloading"
CHECKING = "Checking what came"
FINISHING = "Putting it in its place"
HERE = "Downloaded"
CANCELLED = "Cancelled; what came is kept, and the next download goes on from there."
BROKEN_INSIDE = "The download broke off for a reason that the log tells; start it again."
OFFLINE = "LLM Companion was started to stay offline; start it without that setting to download models."
CLOUD = "{name} is a cloud model; switch cloud models on in the settings first."
CLOSING = "LLM Companion is closing; start the download again after the next start."
BAD_NAME = "This is not a name of a model; write it as Ollama's library does, for example qwen3:4b."

# [host[:port]/][namespace/]model[:tag], each part as Ollama allows it.
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_NAME = re.compile(rf"(?:{_PART}(?::\d{{1,5}})?/{_PART}/|{_PART}/)?{_PART}(?::{_PART})?")


class PullState(StrEnum):
    """How far a download came."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class PullStatus:
    """A download at one moment, over all its layers known by then."""

    name: str
    state: PullState
    status: str
    """What is being done, or how it ended, as words for the person."""
    completed: int = 0
    """Bytes. Never goes back."""
    total: int | None = None
    """Bytes of the layers that the engine has named so far. Never goes back."""
    percent: float = 0.0
    """0 to 100, 100 only when done. Never goes back, also when another layer turns up."""
    rate: float | None = None
    """Bytes a second over the last seconds; None while there is nothing to tell."""
    seconds_left: float | None = None
    error: str | None = None
    """The code of what went wrong; only when `state` is failed."""


class Pull:
    """One download. May be followed from any event loop."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.now = PullStatus(name, PullState.RUNNING, LOOKING)
        """Replaced as a whole, so any thread may read it."""
        self.failure: CompanionError | None = None
        self._clock = clock
        self._layers: dict[str, tuple[int, int]] = {}
        self._arrived = 0
        self._arrivals: deque[tuple[float, int]] = deque()
        self._cancel: Callable[[], None] = lambda: None

    @property
    def done(self) -> bool:
        """It has ended, in one way or another."""
        return self.now.state is not PullState.RUNNING

    def cancel(self) -> None:
        """Ask it to end. Returns at once; followers see how it ended."""
        self._cancel()

    async def follow(self) -> AsyncGenerator[PullStatus]:
        """How far it is, now and after each change, at most ten times a second, until it has ended.
        Leaving only detaches.
        """
        seen: PullStatus | None = None
        while True:
            now = self.now
            if now != seen:
                seen = now
                yield now
            if now.state is not PullState.RUNNING:
                return
            await asyncio.sleep(FOLLOW_S)

    # Called by Pulls only, on the loop of the downloads.

    def _begin(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel

    def _take(self, step: PullProgress) -> None:
        if step.total:
            self._take_layer(step.layer or "", step.completed or 0, step.total)
        completed = sum(done for done, _ in self._layers.values())
        total = sum(size for _, size in self._layers.values()) or None
        rate = self._rate()
        percent = min(100 * completed / total, 99.9) if total else 0.0
        self.now = replace(
            self.now,
            status=_words(step),
            completed=completed,
            total=total,
            percent=max(self.now.percent, percent),
            rate=rate,
            seconds_left=(total - completed) / rate if total and rate else None,
        )

    def _take_layer(self, layer: str, completed: int, total: int) -> None:
        """What lies there from an earlier download has not arrived now: it makes no speed."""
        before, size = self._layers.get(layer, (completed, total))
        completed = min(max(before, completed), max(size, total))
        self._layers[layer] = (completed, max(size, total))
        self._arrived += completed - before
        now = self._clock()
        self._arrivals.append((now, self._arrived))
        while now - self._arrivals[0][0] > RATE_WINDOW_S and len(self._arrivals) > 2:
            self._arrivals.popleft()

    def _rate(self) -> float | None:
        if not self._arrivals:
            return None
        (begun, before), (ended, after) = self._arrivals[0], self._arrivals[-1]
        return (after - before) / (ended - begun) if ended - begun >= LEAST_RATE_TIME_S else None

    def _end(self, state: PullState, words: str, failure: CompanionError | None = None) -> None:
        self.failure = failure
        whole = state is PullState.DONE
        self.now = replace(
            self.now,
            state=state,
            status=words,
            percent=100.0 if whole else self.now.percent,
            rate=None,
            seconds_left=None,
            error=failure.code if failure else None,
        )


class Pulls:
    """All downloads since the start, at most one at a time for each model."""

    def __init__(
        self,
        catalog: Catalog,
        loop: Callable[[], asyncio.AbstractEventLoop],
        *,
        offline: bool = False,
    ) -> None:
        """`loop` gives an event loop that runs as long as the app, and raises when it is closing."""
        self._catalog = catalog
        self._loop = loop
        self._offline = offline
        self._lock = threading.Lock()
        self._pulls: dict[str, Pull] = {}
        self._tasks: dict[Pull, asyncio.Task[None]] = {}
        self._closed = False

    @property
    def forbidden(self) -> str | None:
        """Why nothing may be downloaded at all, as a sentence; None if it may."""
        return OFFLINE if self._offline else None

    def start(self, name: str) -> Pull:
        """Begin a download, or join the one that runs.

        Raises InvalidInput for a name that is none, Refused where downloads are not allowed, and
        Conflict while the app is closing.
        """
        name = self._checked(name)
        key = full_name(name)
        loop = self._loop()
        with self._lock:
            if self._closed:
                raise Conflict(CLOSING)
            current = self._pulls.get(key)
            if current is not None and not current.done:
                return current
            pull = Pull(name)
            pull._begin(lambda: _call(loop, self._cancel, pull))
            # Put last: the order is that of the starts.
            self._pulls.pop(key, None)
            self._pulls[key] = pull
            self._drop_oldest()
            _call(loop, self._launch, pull)
        return pull

    def get(self, name: str) -> Pull | None:
        """The download of a model, running or ended."""
        with self._lock:
            return self._pulls.get(full_name(name.strip()))

    def all(self) -> list[Pull]:
        """Newest first."""
        with self._lock:
            return list(reversed(self._pulls.values()))

    def cancel(self, name: str) -> Pull | None:
        """Ask a download to end, and return it; None if it does not run. What came is kept."""
        pull = self.get(name)
        if pull is None or pull.done:
            return None
        pull.cancel()
        return pull

    def close(self) -> None:
        """End all downloads; at most three seconds. Before the loop ends. May be called twice."""
        with self._lock:
            self._closed = True
            running = [pull for pull in self._pulls.values() if not pull.done]
        for pull in running:
            pull.cancel()
        end = time.monotonic() + CLOSING_S
        while any(not pull.done for pull in running):
            if time.monotonic() > end:
                log.warning("downloads did not end within %.0f s", CLOSING_S)
                return
            time.sleep(0.01)

    def _checked(self, name: str) -> str:
        name = name.strip()
        if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
            raise InvalidInput(BAD_NAME, field="name")
        if self.forbidden:
            raise Refused(self.forbidden)
        if is_cloud_name(name) and not self._catalog.show_cloud:
            raise Refused(CLOUD.format(name=name))
        return name

    def _drop_oldest(self) -> None:
        """With the lock held."""
        ended = [key for key, pull in self._pulls.items() if pull.done]
        for key in ended[: max(len(self._pulls) - KEPT_PULLS, 0)]:
            del self._pulls[key]

    # --- on the borrowed loop -----------------------------------------------------------------

    def _launch(self, pull: Pull) -> None:
        task = asyncio.get_running_loop().create_task(self._drive(pull))
        self._tasks[pull] = task
        task.add_done_callback(lambda _: self._tasks.pop(pull, None))

    def _cancel(self, pull: Pull) -> None:
        task = self._tasks.get(pull)
        if task is not None:
            # A tick later: a task cancelled before its first step never runs its `finally`.
            asyncio.get_running_loop().call_soon(task.cancel)

    async def _drive(self, pull: Pull) -> None:
        try:
            # Closing the stream is what ends the download in the engine.
            async with aclosing(self._catalog.pull(pull.name)) as steps:
                async for step in steps:
                    pull._take(step)
            pull._end(PullState.DONE, HERE)
        except asyncio.CancelledError:
            pull._end(PullState.CANCELLED, CANCELLED)
        except EngineError as error:
            log.warning("a download failed: %s", error.code)
            pull._end(PullState.FAILED, error.message, error)
        finally:
            if not pull.done:
                pull._end(PullState.FAILED, BROKEN_INSIDE, EngineError(BROKEN_INSIDE))


def _words(step: PullProgress) -> str:
    """Ollama's own words are for those who know what a manifest is."""
    match step.status.split(" ", 1)[0]:
        case "verifying":
            return CHECKING
        case "writing" | "removing" | "success":
            return FINISHING
    return DOWNLOADING if step.total else LOOKING


def _call(loop: asyncio.AbstractEventLoop, work: Callable[..., None], *arguments: object) -> None:
    try:
        loop.call_soon_threadsafe(work, *arguments)
    except RuntimeError:
        # The loop has ended, and every download with it.
        log.debug("the loop of the downloads has ended already")
