"""The write-ahead log: how large it is, and when it must be emptied.

SQLite empties it only when nobody reads, so with one reader after the other it would grow for
ever; and a text that was deleted stays in it until it is emptied. It does not know how the log
is emptied: that is the writing connection's work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

MAX_BYTES = 16_000_000
RETRY_S = 2.0
"""After a reader that did not end in time; writers must not wait for it again and again."""
PATIENCE_S = 0.25
"""Readers of a moment end within it; whoever writes next waits that long."""
MOST_PATIENT = 4
"""So many times as long, at most: a second."""
OLDEST_S = 30.0
"""While there are always new writes, what was deleted leaves the log after this time."""


class WriteAheadLog:
    """Not locked: a question answered wrongly in a race is asked again with the next write."""

    def __init__(self, database: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._path = database.with_name(database.name + "-wal")
        self._now = now
        self._seen = (0, 0)
        self._emptied_at = now()
        self._tried_at, self._tried_size = -RETRY_S, 0

    def size(self) -> int:
        """In bytes."""
        return self._state()[0]

    def too_large(self) -> bool:
        """After a write: whether it must be emptied before the next one.

        After a failure it is tried again in a while, or when the log has grown by as much again.
        """
        size = self.size()
        waited = self._now() - self._tried_at >= RETRY_S
        return size > MAX_BYTES and (waited or size - self._tried_size > MAX_BYTES)

    def patience_s(self) -> float:
        """How long to wait for readers: the larger the log, the longer."""
        return PATIENCE_S * min(max(self.size() // MAX_BYTES, 1), MOST_PATIENT)

    def may_hold_deleted(self) -> bool:
        """Now and then: whether it is time to empty it, in quiet or at last."""
        before, self._seen = self._seen, self._state()
        size = self._seen[0]
        return size > 0 and (self._seen == before or self._now() - self._emptied_at >= OLDEST_S)

    def tried(self, emptied: bool) -> None:
        """Note how an attempt to empty it ended."""
        if emptied:
            self._emptied_at, self._tried_size = self._now(), 0
        else:
            self._tried_at, self._tried_size = self._now(), self.size()

    def _state(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return 0, 0
        return found.st_size, found.st_mtime_ns
