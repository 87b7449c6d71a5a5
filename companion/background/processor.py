"""How busy is the processor with the work of others?

Knows processor times and processes. It does not know what is idle, or what is done about it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import psutil

from companion.domain import MachineLoad

MEASURING = "How busy the processor is, is being measured."


@dataclass(frozen=True, slots=True)
class _Times:
    """Seconds of all cores since the machine started, and of each process of ours."""

    total: float
    busy: float
    own: dict[tuple[int, float], float]


class Processor:
    """The processor's load between two reads, ours subtracted: this process and its children."""

    SHORTEST_S = 0.5
    """A shorter time between two reads counts too few ticks to mean anything."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._read_at = clock()
        self._before = _times()
        self._load = MachineLoad("cpu", notice=MEASURING)

    def read(self) -> MachineLoad:
        """Raises nothing. Asked again too soon, it says the same as before."""
        memory = psutil.virtual_memory()
        if self._clock() - self._read_at >= self.SHORTEST_S:
            self._read_at = self._clock()
            before, self._before = self._before, _times()
            self._load = _between(before, self._before)
        return replace(self._load, memory_free=memory.available, memory_total=memory.total)


def _between(before: _Times, after: _Times) -> MachineLoad:
    total = after.total - before.total
    if total <= 0:
        return MachineLoad("cpu", notice=MEASURING)
    busy = after.busy - before.busy
    own = sum(spent - before.own.get(process, 0.0) for process, spent in after.own.items())
    return MachineLoad("cpu", percent=_share(busy, total), others_percent=_share(busy - own, total))


def _share(part: float, whole: float) -> int:
    return round(100 * min(1.0, max(0.0, part / whole)))


def _times() -> _Times:
    now = psutil.cpu_times()
    # Linux counts a guest's time as the user's, too.
    guests = getattr(now, "guest", 0.0) + getattr(now, "guest_nice", 0.0)
    total = sum(now) - guests
    return _Times(total, total - now.idle - getattr(now, "iowait", 0.0), dict(_own_times()))


def _own_times() -> Iterator[tuple[tuple[int, float], float]]:
    """A child that ended between two reads is missing: its last seconds count as another's."""
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            spent, started = process.cpu_times(), process.create_time()
        except psutil.Error:
            continue
        yield (process.pid, started), spent.user + spent.system
