"""One thing at a time: a document is taken in, or the library is put in order between two of them.

Knows which document that is, and that everything is to end. It does not know what the work is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class IngestLock:
    """Only another document waits for the end of an ingest: what was deleted goes meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Taken after the other one, and never held for long.
        self._purging = threading.Lock()
        self._document: str | None = None
        self._unwanted = False
        self._closing = threading.Event()

    @contextmanager
    def ingesting(self, doc_id: str) -> Iterator[None]:
        """A document's time; others wait."""
        with self._lock:
            self._note(doc_id)
            try:
                yield
            finally:
                self._note(None)

    @contextmanager
    def purging(self, doc_id: str) -> Iterator[bool]:
        """A time in which this document is not taken in, whatever else is. False, and no such time, when
        the app is closing or it is taken in just now; that ends soon then."""
        with self._purging:
            taken_in = doc_id == self._document
            self._unwanted |= taken_in
            yield self.proceed() and not taken_in

    @contextmanager
    def within(self, seconds: float) -> Iterator[bool]:
        """A time in which nothing is taken in and nothing goes, closing or not; False if there is none
        within so many seconds."""
        held = self._lock.acquire(timeout=seconds)
        try:
            with self._purging:
                yield held
        finally:
            if held:
                self._lock.release()

    def proceed(self) -> bool:
        """Whether long work may go on."""
        return not self._closing.is_set()

    def is_wanted(self) -> bool:
        """Whether the document that is taken in may go on."""
        return self.proceed() and not self._unwanted

    def close(self) -> None:
        """Have everything long end soon."""
        self._closing.set()

    def _note(self, doc_id: str | None) -> None:
        with self._purging:
            self._document, self._unwanted = doc_id, False
