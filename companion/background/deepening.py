"""Deepening: reads the library again with a stronger embedder while nobody needs the machine.

Knows the order of steps: rules, room, child, one micro-batch after the other, and back. It does
not know the rules themselves, how memory is freed, or what a search makes of the vectors.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from companion.background import idle
from companion.background.deep_choice import DeepChoice, Opener
from companion.background.deep_status import DeepStatus, Sample
from companion.background.idle import Command, Signs, Step, Watch
from companion.background.machine_load import LoadReader
from companion.background.micro_batches import Batch, MicroBatches
from companion.background.residency import CALLED_BACK, IN_USE, Freed, Residency
from companion.domain import MachineLoad, Reason, RunOutcome, Why, WorkState
from companion.errors import CompanionError, EmbedderError, EmbedderHindered, StorageError
from companion.inference.deep import DeepEmbedder, Interrupted

if TYPE_CHECKING:
    from companion.library.layers import Layers
    from companion.storage.store import Store

log = logging.getLogger(__name__)

FREEING_S = 60.0
"""Residency gives up by itself before that."""
TIDY_S = 3600.0
ORDINARY = "The lamp of the lighthouse is lit every evening, and the keeper writes down at what time."
"""A text that every embedder reads, unless it is broken."""
HISTORY = 360
"""Samples kept for the page: an hour."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """What counts as nobody being here."""

    idle_threshold_s: float
    gpu_idle_percent: int


def steady_clock() -> float:
    """Seconds that never go back, and count the machine's sleep where the system tells it."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class Deepening:
    """`tick` belongs to the worker's thread; `touch`, `press`, `status` and `close` to anybody."""

    def __init__(
        self,
        store: Store,
        layers: Layers,
        residency: Residency,
        open_embedder: Opener,
        *,
        wanted: Callable[[], str],
        quiet: Callable[[], Quiet],
        turns: Callable[[], int],
        reclaimable: Callable[[], int],
        on_loop: Callable[[Coroutine[Any, Any, Any]], Future[Any]],
        in_thread: Callable[[Callable[[], None]], Coroutine[Any, Any, None]],
        wake: Callable[[], None],
        borrowed: Callable[[], bool] = lambda: False,
        reader: LoadReader | None = None,
        clock: Callable[[], float] = steady_clock,
    ) -> None:
        """`wanted`: name of the deep embedder. `reclaimable`: bytes that unloading chat models
        would free. `on_loop` runs a coroutine beside this thread, `in_thread` makes one of a
        blocking call. `borrowed`: in spare time another program works for us."""
        self._store = store
        self._layers = layers
        self._residency = residency
        self._quiet = quiet
        self._turns = turns
        self._reclaimable = reclaimable
        self._on_loop = on_loop
        self._in_thread = in_thread
        self._wake = wake
        self._borrowed = borrowed
        self._reader = reader or LoadReader()
        self._clock = clock
        self._choice = DeepChoice(open_embedder, wanted, clock)
        self._batches = MicroBatches(store, layers)

        self._watch = Watch()
        self._nobody = False
        self._last_sign: float | None = None
        self._pressed: Literal["start", "stop"] | None = None
        self._closed = False
        self._called_off = threading.Event()
        self._at_work = False
        self._resting = False
        self._failure: str | None = None
        self._work_left = True
        # Nothing is quiet enough before that was asked for once.
        self._calm = Quiet(math.inf, 0)
        self._restoring: Future[None] | None = None
        self._step_due = self._tidy_at = 0.0
        self._load: MachineLoad | None = None
        self._reason = Reason(Why.QUIET)
        self._freed: Freed | None = None
        self._history: deque[Sample] = deque(maxlen=HISTORY)
        self._run = _Run()
        self._done = self._total = 0
        # A disk without room keeps nobody from starting; the next run closes them, too.
        with suppress(StorageError):
            store.index_runs.end_broken()

    # --- anybody's ------------------------------------------------------------------------

    def touch(self) -> None:
        """A sign of the user: the machine is theirs from now on."""
        self._last_sign = self._clock()
        if self._at_work and not self._called_off.is_set():
            self._called_off.set()
            with suppress(CompanionError, RuntimeError):
                self._on_loop(self._come_back())
            self._wake()

    def press(self, button: Literal["start", "stop"]) -> None:
        """A person wants the deep work to start now, or to stop until they start it again."""
        self._pressed = button
        if button == "stop" and self._at_work:
            self._called_off.set()
            with suppress(CompanionError, RuntimeError):
                self._on_loop(self._give_back())
        self._wake()

    def status(self) -> DeepStatus:
        embedder = self._choice.embedder
        reason = self._reason
        if self._choice.unable and self._watch.state is not WorkState.PAUSED:
            reason = Reason(Why.FAILED, text=self._choice.unable)
        return DeepStatus(
            state=self._watch.state,
            reason=reason,
            embedder=self._choice.name,
            embedder_id=embedder.identity.embedder_id if embedder else None,
            done=self._done,
            total=self._total,
            rate=self._run.rate,
            load=self._load,
            freed=self._freed,
            history=tuple(self._history),
            asked=self._watch.asked if self._pressed is None else self._pressed == "start",
        )

    @property
    def spare(self) -> bool:
        """Nobody needs the machine, and nothing can be deepened: time for other work. Since the last
        look there was no sign of anybody."""
        seen_at, signed_at = self._watch.seen_at, self._last_sign
        unseen = signed_at is not None and (seen_at is None or signed_at > seen_at)
        return self._nobody and not (unseen or self._closed or self._pressed or self._turns())

    @property
    def load(self) -> MachineLoad | None:
        """The machine as it was looked at last; None before the first look."""
        return self._load

    @property
    def memory_free(self) -> int | None:
        """Bytes on the card that deep work would use; None without one, or if unknown."""
        load = self._load
        return self._reader.free_on(load.watched) if load is not None and load.watched else None

    def close(self) -> None:
        """End the child; what is stored stays, and the next start goes on from there."""
        self._closed = True
        self._called_off.set()
        self._choice.kill()

    # --- the worker's ---------------------------------------------------------------------

    def tick(self) -> float:
        """One micro-batch, or one step of the rules; returns the seconds to wait."""
        if self._closed:
            return idle.SAMPLE_S
        if self._may_go_on():
            self._work()
            return 0.0
        step = self._step()
        self._carry_out(step)
        at_work = step.state is WorkState.DEEPENING and not self._resting
        return 0.0 if at_work or step.command is not Command.NONE else step.wait_s

    def let_go(self) -> None:
        """The last word of the worker's thread."""
        self._end_run(RunOutcome.STOPPED, "closing")
        self._reader.close()

    def _may_go_on(self) -> bool:
        """Between two looks at the machine, one batch follows the other."""
        return (
            self._at_work
            and not self._resting
            and not self._called_off.is_set()
            and self._pressed is None
            and self._failure is None
            and self._store.refusal is None
            and not self._run.over
            and self._clock() < self._step_due
            and self._choice.followed
        )

    def _step(self) -> Step:
        pressed, self._pressed = self._pressed, None
        own, elsewhere = self._own()
        # First: an embedder is opened for the card that is watched.
        self._load = load = self._reader.read(own, elsewhere=elsewhere)
        refusal = self._store.refusal
        if refusal is None:
            # Else what was known before holds: a torn store cannot even be read.
            self._work_left = self._look_for_work(asked=pressed == "start" or self._watch.asked)
            self._calm = self._quiet()
        signs = Signs(
            now=self._clock(),
            load=load,
            last_activity=self._last_sign,
            turns=self._turns(),
            work_left=self._work_left,
            restored=self._restoring is not None and self._restoring.done(),
            borrowed=self._borrowed(),
            pressed=pressed,
            failure=self._failure or refusal,
            memory_needed=self._memory_needed(),
            memory_free=None if load.memory_free is None else load.memory_free + self._reclaimable(),
            idle_threshold_s=self._calm.idle_threshold_s,
            gpu_idle_percent=self._calm.gpu_idle_percent,
        )
        step = idle.step(self._watch, signs)
        self._watch, self._reason = step.watch, step.reason
        self._nobody = step.idle and step.state is WorkState.WATCHING
        self._step_due = signs.now + min(step.wait_s, idle.SAMPLE_S)
        self._remember(load)
        return step

    def _carry_out(self, step: Step) -> None:
        match step.command:
            case Command.START:
                self._begin(step)
            case Command.KILL:
                self._stop(step.reason)
            case Command.RESTORE:
                self._restoring = self._on_loop(self._residency.restore())
            case Command.REST:
                self._resting = True
            case Command.RESUME:
                self._resting = False
            case Command.NONE:
                self._take_up(step)

    def _take_up(self, step: Step) -> None:
        """A document that came after the last batch, before the rules could hear that all was done."""
        embedder = self._choice.embedder
        if step.state is WorkState.DEEPENING and self._run.over and embedder is not None:
            self._begin_run(embedder)

    # --- beginning and ending -------------------------------------------------------------

    def _begin(self, step: Step) -> None:
        """Make room, start the child. A sign of the user in the middle calls it off."""
        embedder = self._choice.embedder
        if embedder is None:
            self._failure = self._choice.unable or "The deep embedder is not there."
            return
        self._called_off.clear()
        self._at_work = True
        if self._closed or (self._last_sign is not None and self._last_sign > (self._watch.seen_at or 0.0)):
            # It came while the step was taken.
            self._called_off.set()
        try:
            self._freed = self._on_loop(self._residency.free(self._goes_on)).result(FREEING_S)
            if self._goes_on() and self._has_room(self._freed):
                embedder.start(self._goes_on)
                self._begin_run(embedder)
                # Its layer takes the place of another one.
                self._tidy(embedder.identity.embedder_id)
                log.info("deepening begins: %s", step.reason.why)
        except Interrupted:
            pass
        except (TimeoutError, CancelledError):
            self._failure = "The chat model could not be unloaded in time."
        except CompanionError as error:
            self._failure = error.message

    def _begin_run(self, embedder: DeepEmbedder) -> None:
        self._store.embeddings.register(embedder.identity)
        self._run = _Run(self._store.index_runs.begin(embedder.identity.embedder_id), self._clock)

    def _has_room(self, freed: Freed) -> bool:
        if freed.problem and freed.problem not in (IN_USE, CALLED_BACK):
            if self._load is not None and self._load.source == "gpu":
                self._failure = freed.problem
            log.warning("room for deepening: %s", freed.problem)
        return self._failure is None

    def _stop(self, reason: Reason) -> None:
        self._choice.kill()
        outcome = RunOutcome.FAILED if reason.why is Why.FAILED else RunOutcome.STOPPED
        self._end_run(outcome, reason.text or str(reason.why))
        self._at_work = self._resting = False
        self._failure = None
        self._batches.forget()

    def _end_run(self, outcome: RunOutcome, reason: str) -> None:
        run, self._run = self._run, _Run()
        if run.run_id is not None:
            with suppress(StorageError):
                self._store.index_runs.end(run.run_id, outcome, run.passages, reason)
            log.info("deepening ended: %s, %d passages, %s", outcome, run.passages, reason)

    async def _come_back(self) -> None:
        """In the same breath: the child goes, the chat model comes."""
        await self._give_back()
        await self._residency.preload()

    async def _give_back(self) -> None:
        await self._in_thread(self._choice.kill)

    def _goes_on(self) -> bool:
        return not self._called_off.is_set() and not self._closed

    # --- one micro-batch ------------------------------------------------------------------

    def _work(self) -> None:
        embedder = self._choice.embedder
        if embedder is None or self._run.run_id is None:
            # Called off, or failed, before it began: the next step says what follows.
            self._step_due = 0.0
            return
        batch = self._batches.next(embedder.identity.embedder_id)
        if not batch.passages:
            self._finish(embedder.identity.embedder_id)
            return
        try:
            embedder.start(self._goes_on)
            self._try(embedder, batch)
        except Interrupted:
            return
        except CompanionError as error:
            self._failure = error.message

    def _try(self, embedder: DeepEmbedder, batch: Batch) -> None:
        """What an embedder cannot read is to blame only if it can read anything else."""
        begun = self._clock()
        try:
            self._embed(embedder, batch)
        except EmbedderHindered:
            raise
        except EmbedderError as error:
            embedder.start(self._goes_on)
            embedder.embed_passages([ORDINARY])
            self._batches.blame(embedder.identity.embedder_id, batch, error)
        else:
            self._batches.done(embedder.identity.embedder_id, batch, self._clock() - begun)

    def _embed(self, embedder: DeepEmbedder, batch: Batch) -> None:
        done = 0

        def proceed(so_far: int) -> bool:
            nonlocal done
            self._run.passages += so_far - done
            self._done += so_far - done
            done = so_far
            return self._goes_on()

        if self._layers.fill(embedder, batch.owner, batch.passages, proceed):
            self._store.layers.deepen(embedder.identity.embedder_id, batch.doc_ids)

    def _finish(self, embedder_id: str) -> None:
        self._layers.settle(embedder_id, ())
        self._end_run(RunOutcome.COMPLETE, str(Why.DONE))
        self._run.over = True
        self._step_due = 0.0
        self._tidy(embedder_id)

    # --- looking --------------------------------------------------------------------------

    def _look_for_work(self, *, asked: bool) -> bool:
        changed = self._choice.follow(asked=asked)
        embedder = self._choice.embedder
        if changed:
            self._batches.forget()
        if changed and self._at_work:
            # The child of the other one has gone, so this stretch of work is over.
            return False
        if embedder is None:
            return asked and self._choice.unable is None
        embedder_id = embedder.identity.embedder_id
        waiting = self._layers.waiting(embedder_id)
        if not waiting and not self._at_work:
            # An embedder that was chosen before is whole already.
            self._layers.settle(embedder_id, waiting)
            if self._clock() >= self._tidy_at:
                self._tidy(embedder_id)
        self._count(embedder_id)
        return bool(waiting)

    def _tidy(self, embedder_id: str) -> None:
        self._tidy_at = self._clock() + TIDY_S
        self._layers.drop_unused("deep", {embedder_id})

    def _count(self, embedder_id: str) -> None:
        self._total, self._done = self._store.layers.coverage(embedder_id)

    def _own(self) -> tuple[list[int], bool]:
        """Processes whose load is ours, and whether our work is done by somebody else's."""
        if self._borrowed():
            return [], True
        embedder = self._choice.embedder
        if embedder is None or not self._at_work:
            return [], False
        pid = embedder.pid
        return ([pid], False) if pid is not None else ([], True)

    def _memory_needed(self) -> int | None:
        # While it works, its memory is taken already.
        embedder = self._choice.embedder
        return embedder.memory_bytes if embedder is not None and not self._at_work else None

    def _remember(self, load: MachineLoad) -> None:
        """One sample per look of the rules, however often they are asked in between."""
        now = datetime.now(UTC)
        if self._history and 0 <= (now - self._history[-1].at).total_seconds() < idle.SAMPLE_S - 1:
            return
        used = None
        if load.memory_total is not None and load.memory_free is not None:
            used = load.memory_total - load.memory_free
        self._history.append(Sample(now, load.percent, used, self._done, self._total))


class _Run:
    """One stretch of deep work, for its row in the history."""

    def __init__(self, run_id: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.run_id = run_id
        self.passages = 0
        self.over = False
        """Nothing is left to do; the rules have not heard of it yet."""
        self._clock = clock
        self._begun = clock()

    @property
    def rate(self) -> float | None:
        """Passages a second."""
        spent = self._clock() - self._begun
        return self.passages / spent if self.run_id is not None and self.passages and spent > 0 else None
