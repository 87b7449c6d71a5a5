"""When the database file may be written anew, which clears away what deleted rows left in its pages.

SQLite moves rows about in a page and leaves where they were as it is, whatever `secure_delete` says.
Knows sizes, times and who waits to write. It does not know how the file is written anew.
"""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LARGE_BYTES = 64_000_000
"""Below it the file is written anew at once, and in memory."""
CALM_S = 60.0
"""Without a write, before a large one is written anew."""
OVERDUE_S = 900.0
"""After so long in vain it is written anew all the same: an open page writes once a minute."""
WAITED_S = 0.5
"""So long a write waits for that at most, but for the last step."""
ROOM = 3
"""Times the file, free on its disk: a second one, a log as long, and something to spare."""
REST = 10
"""Times as long as it took, until the file is written anew again."""


class Compaction:
    def __init__(self, database: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._path = database
        self._now = now
        self._lock = threading.Lock()
        self._writers = 0
        self._written_at = self._next_at = -math.inf
        self._wanted_at = math.inf
        self._begun_at = now()

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Around each write, and the wait for it."""
        with self._lock:
            self._writers += 1
        try:
            yield
        finally:
            with self._lock:
                self._writers -= 1
            self._written_at = self._now()

    @property
    def in_memory(self) -> bool:
        return self._size() <= LARGE_BYTES

    def possible(self) -> bool:
        """Whether this is the time, and there is room."""
        now = self._now()
        self._wanted_at = min(self._wanted_at, now)
        calm = self.in_memory or now - self._written_at >= CALM_S or now - self._wanted_at >= OVERDUE_S
        room = shutil.disk_usage(self._path.parent).free > ROOM * self._size()
        return calm and room and now >= self._next_at

    @contextmanager
    def running(self) -> Iterator[None]:
        self._begun_at = self._now()
        try:
            yield
        finally:
            self._next_at = self._now() + REST * (self._now() - self._begun_at)
            self._wanted_at = math.inf

    def is_waited_for(self) -> bool:
        """While it runs nobody writes: who is in turn waits."""
        return self._writers > 0 and self._now() - self._begun_at > WAITED_S

    def _size(self) -> int:
        return self._path.stat().st_size
