"""One thing at a time: a document is taken in, or the library is put in order between two of them.

Knows who works just now, and that everything is to end. It does not know what the work is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_S = 0.2


class IngestLock:
    """Whoever waits between ingests stops waiting when the app closes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closing = threading.Event()

    @contextmanager
    def ingesting(self) -> Iterator[None]:
        """A document's time; others wait."""
        with self._lock:
            yield

    @contextmanager
    def between_ingests(self) -> Iterator[bool]:
        """A time in which nothing is taken in; False, and no such time, when the app is closing."""
        held = False
        while not held and not self._closing.is_set():
            held = self._lock.acquire(timeout=WAIT_S)
        yield from self._time(held)

    @contextmanager
    def within(self, seconds: float) -> Iterator[bool]:
        """The same, closing or not; False if there is none within so many seconds."""
        yield from self._time(self._lock.acquire(timeout=seconds))

    def _time(self, held: bool) -> Iterator[bool]:
        try:
            yield held
        finally:
            if held:
                self._lock.release()

    def proceed(self) -> bool:
        """Whether long work may go on."""
        return not self._closing.is_set()

    def close(self) -> None:
        """Have everything long end soon."""
        self._closing.set()
