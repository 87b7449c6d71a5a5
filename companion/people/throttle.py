"""Wrong tries are slowed: after a few of them a name, and an address, has to wait, longer each time.

Knows keys and times. It does not know what is tried.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE = 5
"""Wrong tries before the first wait."""
FIRST_S = 30.0
"""The first wait; each further wrong try doubles it."""
LONGEST_S = 900.0
FORGET_S = 3600.0
"""A key of which nothing was heard for so long starts anew."""
KEPT = 10_000
"""Keys that are remembered; an address has to wait long before it could have tried so many."""


@dataclass(slots=True)
class _Tries:
    wrong: int = 0
    until: float = 0.0
    last: float = 0.0


class Throttle:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def attempt(self, *keys: str) -> float:
        """Seconds to wait before the next try; 0: this one may be made, and counts as wrong until
        `forgive`. So a hundred at once are no more than one after the other."""
        now = self._clock()
        with self._lock:
            found = [self._of(key, now) for key in keys]
            wait = max((each.until - now for each in found), default=0.0)
            if wait > 0:
                return wait
            for each in found:
                each.wrong, each.last = each.wrong + 1, now
                if each.wrong >= FREE:
                    each.until = now + min(FIRST_S * 2.0 ** min(each.wrong - FREE, 20), LONGEST_S)
        return 0.0

    def forgive(self, name: str, address: str) -> None:
        """The try was right: the name starts anew; the address has only this try less, else somebody
        with a name of their own could guess for ever."""
        with self._lock:
            self._tries.pop(name, None)
            if found := self._tries.get(address):
                found.wrong, found.until = max(found.wrong - 1, 0), 0.0

    def _of(self, key: str, now: float) -> _Tries:
        found = self._tries.get(key)
        if found is None or now - found.last > FORGET_S:
            found = self._tries[key] = _Tries(last=now)
        self._tries.move_to_end(key)
        while len(self._tries) > KEPT:
            self._tries.popitem(last=False)
        return found
