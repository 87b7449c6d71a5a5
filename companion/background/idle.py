"""When may deep work start, and when must it stop? A pure state machine.

Knows what was seen so far, and the rules of quiet. It does not know clocks, cards, processes or
threads: who calls `step` brings what there is to see and carries out what it says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from companion.domain import MachineLoad, Reason, Why, WorkState

SAMPLE_S = 10.0
"""Between two looks at the machine."""
GAP_S = 25.0
"""Longer between two looks: nobody knows what happened meanwhile, and quiet is counted anew."""
LATE_S = 120.0
"""The same after a command, which takes its time: a model is unloaded, a child is started."""
PRESENT_S = 30.0
"""For so long after a sign a person counts as being here."""
LOOK_EVERY_S = 60.0
"""Where our own work hides that of others, it rests so often."""
STILL_S = 2.0
"""A driver's utilisation is a mean of up to one second; after so long it is free of our work."""
LOOK_LIMIT_S = 30.0
"""Work that does not come to rest within this time is ended."""
RETRY_S = 600.0
"""After a failure."""
SOON_S = 0.25

DONE = Reason(Why.DONE)


class Command(StrEnum):
    """What the caller is to do now."""

    NONE = "none"
    START = "start"
    """Unload the chat model, start the child."""
    KILL = "kill"
    RESTORE = "restore"
    """Load the chat model again as it was; say `restored` when that is over, well or not."""
    REST = "rest"
    """Give the child no further batch; say `working=False` when the last one is through."""
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Signs:
    """What there is to see at one moment."""

    now: float
    """Seconds of a clock that does not go back and, if possible, counts the machine's sleep."""
    load: MachineLoad | None
    """As read for this step."""
    last_activity: float | None = None
    """Of the same clock: the last keystroke, message or upload; not the buttons start and stop."""
    turns: int = 0
    """Questions being answered or waiting for that."""
    work_left: bool = True
    working: bool = False
    """A batch is under way."""
    borrowed: bool = False
    """In spare time a program that is not our child works for us, or did so just now."""
    restored: bool = False
    pressed: Literal["start", "stop"] | None = None
    """The last button pressed since the step before."""
    failure: str | None = None
    """The deep work cannot start or go on: one sentence for the person."""
    memory_needed: int | None = None
    """Bytes, by the deep embedder."""
    memory_free: int | None = None
    """Bytes, once the chat model is gone."""
    idle_threshold_s: float = 600.0
    gpu_idle_percent: int = 10


@dataclass(frozen=True, slots=True)
class Watch:
    """What is remembered from step to step. A new one knows nothing, so all counts begin with it."""

    state: WorkState = WorkState.WATCHING
    seen_at: float | None = None
    awake_since: float = 0.0
    """End of the last gap."""
    slept: bool = False
    """There was a gap just before this step."""
    quiet_since: float | None = None
    """Since then every look found the load of others low."""
    active_at: float | None = None
    """Last sign of a person; a turn is one as long as it runs."""
    disturbed: bool = False
    """That sign is new in this step."""
    wish: Literal["start", "stop"] | None = None
    wished_at: float = 0.0
    returned: bool = False
    """There was a sign of a person since then."""
    clear_at: float = 0.0
    """Others were last known to be quiet."""
    rest_at: float | None = None
    still_since: float | None = None
    retry_at: float | None = None
    failure: str | None = None
    commanded: Command = Command.NONE
    ended: Reason = DONE
    """Why the last deepening ended."""
    recalled: bool = False
    """While restoring: the chat model was called back."""

    @property
    def asked(self) -> bool:
        return self.wish == "start"


@dataclass(frozen=True, slots=True)
class Step:
    """What to do, until when to wait, and why."""

    watch: Watch
    command: Command
    wait_s: float
    """At most; a sign of the user or a button wants a step at once."""
    reason: Reason
    idle: bool
    """Nobody needs the machine, whether there is deep work or not."""

    @property
    def state(self) -> WorkState:
        return self.watch.state


def step(watch: Watch, signs: Signs) -> Step:
    """One step. The same memory and signs give the same step."""
    watch = _take_in(watch, signs)
    if watch.state is WorkState.RESTORING and not (watch.recalled and signs.restored):
        taken = _restore(watch)
    elif watch.state is WorkState.DEEPENING:
        taken = _deepen(watch, signs)
    else:
        taken = _wait_or_start(watch, signs)
    return replace(taken, watch=replace(taken.watch, commanded=taken.command))


# --- what was seen ----------------------------------------------------------------------


def _take_in(watch: Watch, signs: Signs) -> Watch:
    watch = _after_sleep(watch, signs)
    watch = _after_button(watch, signs)
    watch = _after_activity(watch, signs)
    watch = _after_load(watch, signs)
    return replace(watch, seen_at=signs.now)


def _after_sleep(watch: Watch, signs: Signs) -> Watch:
    """A gap, or a clock that went back, ends all that was counted."""
    longest = GAP_S if watch.commanded is Command.NONE else LATE_S
    if watch.seen_at is not None and 0 <= signs.now - watch.seen_at <= longest:
        return replace(watch, slept=False)
    return replace(
        watch,
        slept=watch.seen_at is not None,
        awake_since=signs.now,
        quiet_since=None,
        retry_at=None,
        # Else a sign would seem older than it is, after a clock that went back.
        wished_at=min(watch.wished_at, signs.now),
        active_at=None if watch.active_at is None else min(watch.active_at, signs.now),
    )


def _after_button(watch: Watch, signs: Signs) -> Watch:
    if signs.pressed is not None:
        watch = replace(watch, wish=signs.pressed, wished_at=signs.now, returned=False, retry_at=None)
    if watch.asked and not signs.work_left:
        watch = replace(watch, wish=None)
    return watch


def _after_activity(watch: Watch, signs: Signs) -> Watch:
    if signs.turns:
        return replace(watch, active_at=signs.now, disturbed=True, returned=True)
    latest = signs.last_activity
    if latest is None or (watch.active_at is not None and latest <= watch.active_at):
        return replace(watch, disturbed=False)
    active_at = min(latest, signs.now)
    returned = watch.returned or active_at > watch.wished_at
    return replace(watch, active_at=active_at, disturbed=True, returned=returned)


def _after_load(watch: Watch, signs: Signs) -> Watch:
    match _judge(signs):
        case "quiet":
            quiet_since = signs.now if watch.quiet_since is None else watch.quiet_since
            return replace(watch, quiet_since=quiet_since, clear_at=signs.now)
        case "hidden" if watch.state is WorkState.DEEPENING or signs.borrowed:
            return watch
        case _:
            return replace(watch, quiet_since=None)


def _judge(signs: Signs) -> Literal["quiet", "busy", "hidden", "unknown"]:
    """The load of others. `hidden`: the card is busy, and that may be our own work."""
    load = signs.load
    if load is None:
        return "unknown"
    if load.others_percent is not None:
        return "quiet" if load.others_percent < signs.gpu_idle_percent else "busy"
    if load.percent is None:
        return "unknown"
    return "quiet" if load.percent < signs.gpu_idle_percent else "hidden"


# --- what is in the way -----------------------------------------------------------------

Obstacle = tuple[WorkState, Reason]


def _forbidden(watch: Watch, signs: Signs) -> Obstacle | None:
    if watch.wish == "stop":
        return WorkState.PAUSED, Reason(Why.STOPPED)
    if signs.load is not None and signs.load.on_battery:
        return WorkState.OFF, Reason(Why.BATTERY)
    return None


def _needed(watch: Watch, signs: Signs) -> Obstacle | None:
    """Somebody needs the machine, or it cannot be known that nobody does."""
    if signs.turns:
        return WorkState.WATCHING, Reason(Why.TURN)
    if signs.load is None:
        # Not even the battery is known, so a person's start cannot help either.
        return WorkState.WATCHING, Reason(Why.UNKNOWN)
    if watch.asked:
        return _person_back(watch, signs)
    if watch.slept and watch.state is WorkState.DEEPENING:
        return WorkState.WATCHING, Reason(Why.SLEPT)
    return _load_in_the_way(watch, signs, signs.load) or _too_early(watch, signs)


def _person_back(watch: Watch, signs: Signs) -> Obstacle | None:
    """A person who asked for the work came back to the chat after that."""
    if not watch.returned:
        return None
    return _not_for_long(watch, signs, watch.awake_since, PRESENT_S)


def _load_in_the_way(watch: Watch, signs: Signs, load: MachineLoad) -> Obstacle | None:
    match _judge(signs):
        case "quiet":
            return None
        case "hidden" if watch.state is WorkState.DEEPENING or signs.borrowed:
            return None
        case "unknown":
            return WorkState.WATCHING, Reason(Why.UNKNOWN, source=load.source, text=load.notice)
        case _:
            return WorkState.WATCHING, _busy(load)


def _busy(load: MachineLoad) -> Reason:
    percent = load.percent if load.others_percent is None else load.others_percent
    return Reason(Why.BUSY, percent=percent, source=load.source)


def _too_early(watch: Watch, signs: Signs) -> Obstacle | None:
    since = signs.now if watch.quiet_since is None else watch.quiet_since
    return _not_for_long(watch, signs, since, signs.idle_threshold_s)


def _not_for_long(watch: Watch, signs: Signs, since: float, quiet_s: float) -> Obstacle | None:
    """`quiet_s` have not passed since the last sign of a person, nor since `since`.

    A sign that is seen late, because this program was busy, counts even then.
    """
    active_at = since if watch.active_at is None else watch.active_at
    left = max(since, active_at) + quiet_s - signs.now
    disturbed = watch.disturbed and watch.state is WorkState.DEEPENING
    if left <= 0 and not disturbed:
        return None
    if watch.active_at is None or (active_at < since and not disturbed):
        return WorkState.SETTLING, Reason(Why.QUIET, left_s=left)
    ago = signs.now - active_at
    state = WorkState.WATCHING if ago < PRESENT_S else WorkState.SETTLING
    return state, Reason(Why.ACTIVE, ago_s=ago, left_s=max(left, 0.0))


def _not_able(watch: Watch, signs: Signs) -> Obstacle | None:
    if watch.retry_at is not None and signs.now < watch.retry_at:
        left = watch.retry_at - signs.now
        return WorkState.WATCHING, Reason(Why.FAILED, left_s=left, text=watch.failure)
    needed, free = signs.memory_needed, signs.memory_free
    if needed is not None and free is not None and free < needed:
        return WorkState.WATCHING, Reason(Why.MEMORY, needed=needed, free=free)
    return None


# --- what to do -------------------------------------------------------------------------


def _wait_or_start(watch: Watch, signs: Signs) -> Step:
    forbidden, needed = _forbidden(watch, signs), _needed(watch, signs)
    idle = not forbidden and not needed and not watch.asked
    obstacle = forbidden or _nothing_left(signs) or _failed(signs) or needed or _not_able(watch, signs)
    if obstacle is not None:
        state, reason = obstacle
        watch = replace(watch, state=state, recalled=False)
        return Step(watch, Command.NONE, _wait_for(reason), reason, idle)
    watch = replace(watch, state=WorkState.DEEPENING, recalled=False)
    return Step(watch, Command.START, SAMPLE_S, _at_work(watch), idle)


def _nothing_left(signs: Signs) -> Obstacle | None:
    return None if signs.work_left else (WorkState.WATCHING, DONE)


def _wait_for(reason: Reason) -> float:
    return SAMPLE_S if reason.left_s is None else min(SAMPLE_S, max(reason.left_s, SOON_S))


def _at_work(watch: Watch) -> Reason:
    return Reason(Why.ASKED if watch.asked else Why.IDLE)


def _deepen(watch: Watch, signs: Signs) -> Step:
    failed = _failed(signs)
    obstacle = _forbidden(watch, signs) or _needed(watch, signs) or _nothing_left(signs) or failed
    if obstacle is not None:
        if failed is not None:
            watch = replace(watch, retry_at=signs.now + RETRY_S, failure=signs.failure)
        return _kill(watch, obstacle[1])
    if not watch.asked and _judge(signs) == "hidden":
        return _look(watch, signs)
    if watch.rest_at is not None:
        return _resume(watch)
    return Step(watch, Command.NONE, SAMPLE_S, _at_work(watch), not watch.asked)


def _failed(signs: Signs) -> Obstacle | None:
    if signs.failure is None:
        return None
    return WorkState.WATCHING, Reason(Why.FAILED, text=signs.failure)


def _look(watch: Watch, signs: Signs) -> Step:
    """Our work hides that of others: rest now and then until the card is read without us."""
    if watch.rest_at is None:
        due = watch.clear_at + LOOK_EVERY_S - signs.now
        if due > 0:
            return Step(watch, Command.NONE, min(SAMPLE_S, due), _at_work(watch), True)
        watch = replace(watch, rest_at=signs.now, still_since=None)
        return Step(watch, Command.REST, SOON_S, Reason(Why.LOOKING), True)
    if signs.working:
        watch = replace(watch, still_since=None)
        if signs.now - (watch.rest_at or 0.0) > LOOK_LIMIT_S:
            return _kill(watch, Reason(Why.UNKNOWN))
        return Step(watch, Command.NONE, SOON_S, Reason(Why.LOOKING), True)
    if watch.still_since is None:
        watch = replace(watch, still_since=signs.now)
    left = (watch.still_since or 0.0) + STILL_S - signs.now
    if left > 0:
        return Step(watch, Command.NONE, left, Reason(Why.LOOKING), True)
    assert signs.load is not None
    return _kill(watch, _busy(signs.load))


def _resume(watch: Watch) -> Step:
    watch = replace(watch, rest_at=None, still_since=None)
    return Step(watch, Command.RESUME, SAMPLE_S, _at_work(watch), not watch.asked)


def _kill(watch: Watch, reason: Reason) -> Step:
    watch = replace(
        watch, state=WorkState.RESTORING, ended=reason, recalled=False, rest_at=None, still_since=None
    )
    return Step(watch, Command.KILL, 0.0, reason, False)


def _restore(watch: Watch) -> Step:
    if not watch.recalled:
        return Step(replace(watch, recalled=True), Command.RESTORE, SOON_S, watch.ended, False)
    return Step(watch, Command.NONE, SOON_S, watch.ended, False)
