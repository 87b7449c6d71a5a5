"""Files that browsers have just sent, and who sent each: nobody else may take one in.

Two people may send the same file, which then lies in one place. Knows paths and owners. It does
not know what is in a file.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


class Arrivals:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._senders: dict[Path, Counter[str]] = {}

    def note(self, owner: str, paths: Iterable[Path]) -> None:
        """They were sent by this owner."""
        with self._lock:
            for path in paths:
                self._senders.setdefault(path.resolve(), Counter())[owner] += 1

    def belongs(self, owner: str, path: Path) -> bool:
        with self._lock:
            return owner in self._senders.get(path.resolve(), ())

    def done(self, owner: str, path: Path) -> None:
        """The owner needs it no more; the file goes with the last who does."""
        with self._lock:
            senders = self._senders.get(path.resolve(), Counter())
            senders -= Counter([owner])
            if not senders:
                self._senders.pop(path.resolve(), None)
                path.unlink(missing_ok=True)

    def forget(self, owner: str) -> None:
        """What was sent and never taken in goes."""
        with self._lock:
            theirs = [(path, each[owner]) for path, each in self._senders.items() if owner in each]
        for path, times in theirs:
            for _ in range(times):
                self.done(owner, path)
