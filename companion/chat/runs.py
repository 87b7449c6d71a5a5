"""Turns in flight: start, follow, stop, and pick up again after a reload.

Knows the one thread on which turns run, and who reads along. It does not know what a turn does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING

from companion.chat.chat import Chat
from companion.chat.questions import Asked
from companion.domain import Finished, Message, ThinkingMode, Thought, TurnEvent
from companion.errors import CompanionError, Conflict, TooMany

if TYPE_CHECKING:
    from companion.storage.store import Store

logger = logging.getLogger(__name__)

KEPT_S = 60.0
"""How long a finished run can still be followed; after that the stored message tells."""
KEPT_RUNS = 100
CLOSING_S = 5.0
WAIT_S = 5.0
"""Told to whoever has too many answers at once: by then one may have ended."""

STILL_WRITING = "An answer is still being written in this conversation."
CLOSING = "LLM Companion is closing; ask again after the next start."


class Run:
    """One turn and what has happened in it so far. May be followed from any event loop."""

    def __init__(self, owner: str, session_id: str, asked: Asked) -> None:
        self.run_id = uuid.uuid4().hex
        self.owner = owner
        self.session_id = session_id
        self.question = asked.question
        self.replaces = asked.replaces
        """The stored answer that this one is to take the place of, when a question is answered again."""
        self.events: list[TurnEvent] = []
        self.answer: Message | None = None
        """The stored answer, once there is one; also after a stop. The one of `replaces`, with a
        notice why, if that stayed."""
        self.error: CompanionError | None = None
        """Why there is no stored answer, for example because the conversation was deleted."""
        self.thinking_since: datetime | None = None
        """When its first thought came."""
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._followers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._cancel: Callable[[], None] = lambda: None
        self._asked_to_stop = False

    @property
    def done(self) -> bool:
        return self._ended.is_set()

    @property
    def stopping(self) -> bool:
        """Asked to stop, and the engine has not let go yet; what was said is kept after that."""
        return self._asked_to_stop and not self.done

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the turn has ended; False if it has not within `timeout` seconds."""
        return self._ended.wait(timeout)

    def stop(self) -> None:
        """Ask the turn to end. Returns at once; followers see `Finished` with what was said."""
        self._asked_to_stop = True
        self._cancel()

    async def follow(self, after: int = 0) -> AsyncGenerator[tuple[int, TurnEvent]]:
        """Events from the beginning, numbered from 1, until the turn has ended.

        `after` is the number of the last event that the reader has. Leaving only detaches.
        """
        wake = asyncio.Event()
        follower = (asyncio.get_running_loop(), wake)
        with self._lock:
            self._followers.add(follower)
        seen = max(after, 0)
        try:
            while True:
                wake.clear()
                # Asked before reading on: what comes later sets `wake` again.
                ended = self.done
                while seen < len(self.events):
                    seen += 1
                    yield seen, self.events[seen - 1]
                if ended:
                    return
                await wake.wait()
        finally:
            with self._lock:
                self._followers.discard(follower)

    # Called by Runs only.

    def _begin(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel

    def _publish(self, event: TurnEvent) -> None:
        if self.thinking_since is None and isinstance(event, Thought):
            self.thinking_since = datetime.now(UTC)
        self.events.append(event)
        self._wake_followers()

    def _keep(self, message: Message) -> None:
        self.answer = message

    def _end(self, error: CompanionError | None = None) -> None:
        self.error = error
        self._ended.set()
        self._wake_followers()

    def _wake_followers(self) -> None:
        with self._lock:
            followers = list(self._followers)
        for loop, wake in followers:
            try:
                loop.call_soon_threadsafe(wake.set)
            except RuntimeError:
                # Its loop was closed without closing the generator.
                with self._lock:
                    self._followers.discard((loop, wake))


class Runs:
    """All turns in flight, at most one per conversation. Owns their thread and its event loop."""

    def __init__(
        self,
        chat: Chat,
        store: Store,
        *,
        on_activity: Callable[[], None] = lambda: None,
        admit: Callable[[str], None] = lambda _owner: None,
        at_once: int | None = None,
        kept_s: float = KEPT_S,
    ) -> None:
        """`admit` raises TooMany for an owner who has asked enough; `at_once`: most runs of one owner."""
        self._chat = chat
        self._store = store
        self._on_activity = on_activity
        self._admit = admit
        self._at_once = at_once
        self._kept_s = kept_s
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._asking: dict[str, str] = {}
        """Conversations whose question is being stored, and whose they are."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(
        self,
        owner: str,
        session_id: str,
        text: str,
        mode: ThinkingMode | None = None,
        *,
        zone: tzinfo | None = None,
    ) -> Run:
        """Keep the question and begin to answer it. `zone` is where the person is, for what they call
        today; without one, where this machine is.

        Raises NotFound, Conflict while an answer is being written, and InvalidInput for the text.
        """
        questions = self._chat.questions
        return self._begin(owner, session_id, zone, lambda: questions.ask(owner, session_id, text, mode))

    def retry(
        self,
        owner: str,
        session_id: str,
        mode: ThinkingMode | None = None,
        *,
        message_id: int | None = None,
        zone: tzinfo | None = None,
    ) -> Run:
        """Answer the last question again, in the mode in which it was asked if none is given.

        The earlier answer stays until the new one is kept, and for good if that fails or is stopped
        before it said anything. `message_id` is the question that the caller means. Raises NotFound,
        InvalidInput if that is no question, and Conflict if it is not the last one, if there is none,
        or while an answer is being written.
        """
        return self._begin(
            owner,
            session_id,
            zone,
            lambda: self._chat.questions.ask_again(owner, session_id, mode, message_id),
        )

    def resend(
        self,
        owner: str,
        session_id: str,
        message_id: int,
        text: str,
        mode: ThinkingMode | None = None,
        *,
        zone: tzinfo | None = None,
    ) -> Run:
        """Ask an earlier question in other words and answer it. Without branches: what was said after
        it goes for good, in one transaction with the new text.

        Raises NotFound, InvalidInput for the text or for a message that is no question, and Conflict
        while an answer is being written; nothing has changed then.
        """
        return self._begin(
            owner,
            session_id,
            zone,
            lambda: self._chat.questions.rephrase(owner, session_id, message_id, text, mode),
        )

    def answer_in_passing(self, owner: str, asked: Asked) -> Run:
        """Answer a question of a conversation that is kept nowhere. Raises Conflict at the end."""
        self._on_activity()
        return self._launched(owner, asked.question.session_id, lambda: asked)

    def _begin(self, owner: str, session_id: str, zone: tzinfo | None, ask: Callable[[], Asked]) -> Run:
        self._on_activity()
        # First of all: whether there is a conversation of somebody else is nobody's business.
        self._store.sessions.get(owner, session_id)
        return self._launched(owner, session_id, lambda: replace(ask(), zone=zone))

    def _launched(self, owner: str, session_id: str, ask: Callable[[], Asked]) -> Run:
        with self._one_at_a_time(owner, session_id):
            # Without the lock: it waits for the database, and others stop and follow meanwhile.
            return self._launch_asked(owner, session_id, ask())

    @contextmanager
    def _one_at_a_time(self, owner: str, session_id: str) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise Conflict(CLOSING)
            current = self._runs.get(session_id)
            if session_id in self._asking or (current is not None and not current.done):
                raise Conflict(STILL_WRITING)
            self._require_turn(owner)
            self._admit(owner)
            self._asking[session_id] = owner
        try:
            yield
        finally:
            with self._lock:
                del self._asking[session_id]

    def _launch_asked(self, owner: str, session_id: str, asked: Asked) -> Run:
        with self._lock:
            if self._closed:
                raise Conflict(CLOSING)
            run = Run(owner, session_id, asked)
            self._runs.pop(session_id, None)
            self._runs[session_id] = run
            self._drop_oldest()
            loop = self._running_loop()
            run._begin(lambda: _call(loop, self._cancel, run.run_id))
            # With the lock held: `close` must find every run that was launched.
            _call(loop, self._launch, run, asked)
        return run

    def _require_turn(self, owner: str) -> None:
        """With the lock held."""
        going_on = sum(run.owner == owner and not run.done for run in self._runs.values())
        going_on += list(self._asking.values()).count(owner)
        if self._at_once is not None and going_on >= self._at_once:
            raise TooMany(
                f"{going_on} of your answers are being written; wait for one of them, or stop one.", WAIT_S
            )

    def get(self, session_id: str) -> Run | None:
        """The run of a conversation, in flight or ended within the last minute."""
        with self._lock:
            return self._runs.get(session_id)

    def active(self) -> int:
        """Turns that run or wait."""
        with self._lock:
            return len(self._asking) + sum(not run.done for run in self._runs.values())

    def stop(self, owner: str, session_id: str) -> Run | None:
        """Ask the owner's run to end, and return it; None if nothing is in flight."""
        run = self.get(session_id)
        if run is None or run.owner != owner or run.done:
            return None
        run.stop()
        return run

    def end(self, owner: str, session_id: str) -> None:
        """Stop the owner's run and wait until its answer is stored, at most five seconds."""
        run = self.stop(owner, session_id)
        if run is not None and not run.wait(CLOSING_S):
            logger.warning("a turn did not stop within %.0f s", CLOSING_S)

    def loop(self) -> asyncio.AbstractEventLoop:
        """The turns' event loop, for other work that outlives a request. Raises Conflict at the end."""
        with self._lock:
            if self._closed:
                raise Conflict(CLOSING)
            return self._running_loop()

    def close(self) -> None:
        """Stop all runs, keep what was said, end the thread; at most five seconds. Callable twice."""
        with self._lock:
            self._closed = True
            loop, thread, self._thread = self._loop, self._thread, None
        if loop is None or thread is None:
            return
        _call(loop, self._cancel_all)
        thread.join(CLOSING_S)
        if thread.is_alive():
            logger.warning("turns did not stop within %.0f s", CLOSING_S)

    # --- on the thread of the runs ------------------------------------------------------------

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._serve, args=(self._loop,), name="runs", daemon=True)
            self._thread.start()
        return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def _launch(self, run: Run, asked: Asked) -> None:
        task = asyncio.get_running_loop().create_task(self._drive(run, asked))
        self._tasks[run.run_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(run.run_id, None))

    def _cancel(self, run_id: str) -> None:
        task = self._tasks.get(run_id)
        if task is not None:
            # A tick later: a task cancelled before its first step never runs its `finally`.
            asyncio.get_running_loop().call_soon(task.cancel)

    def _cancel_all(self) -> None:
        for run_id in self._tasks:
            self._cancel(run_id)
        self._ending = asyncio.get_running_loop().create_task(self._end_when_idle())

    async def _end_when_idle(self) -> None:
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=0.05)
        asyncio.get_running_loop().stop()

    async def _drive(self, run: Run, asked: Asked) -> None:
        error: CompanionError | None = None
        try:
            async with aclosing(self._chat.answer(run.owner, asked, run._keep)) as events:
                async for event in events:
                    run._publish(event)
        except asyncio.CancelledError:
            if run.answer is not None:
                run._publish(Finished(run.answer))
        except CompanionError as failure:
            logger.warning("an answer could not be kept: %s", failure.code)
            error = failure
        finally:
            run._end(error)
            asyncio.get_running_loop().call_later(self._kept_s, self._drop, run)

    def _drop(self, run: Run) -> None:
        with self._lock:
            if self._runs.get(run.session_id) is run:
                del self._runs[run.session_id]

    def _drop_oldest(self) -> None:
        """With the lock held. Runs are in the order of their start."""
        ended = [session_id for session_id, run in self._runs.items() if run.done]
        for session_id in ended[: max(len(self._runs) - KEPT_RUNS, 0)]:
            del self._runs[session_id]


def _call(loop: asyncio.AbstractEventLoop, work: Callable[..., None], *arguments: object) -> None:
    try:
        loop.call_soon_threadsafe(work, *arguments)
    except RuntimeError:
        # The loop has ended, and every turn with it.
        logger.debug("the runs have ended already")
