"""How far an evaluation is, for a person who waits at a terminal.

Knows one line and how often it may change. It does not know what is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self, TextIO

TERMINAL_S, ELSEWHERE_S = 0.1, 10.0
"""How often it is said: on one line that changes, and as lines of their own."""


class ProgressLine:
    """One line that changes on a terminal; elsewhere a line now and then."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._changes = stream.isatty()
        self._every_s = TERMINAL_S if self._changes else ELSEWHERE_S
        self._said_at = clock()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Not every call is shown; the last one of a count is."""
        if done < total and self._clock() - self._said_at < self._every_s:
            return
        self._said_at = self._clock()
        text = f"{done:,} of {total:,} {what}"
        self._write(f"\r\033[K{text}" if self._changes else f"{text}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Leave the terminal as it was."""
        if self._changes:
            self._write("\r\033[K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
