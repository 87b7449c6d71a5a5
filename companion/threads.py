"""Threads for work that takes long and happens once: loading, warming up, ending.

Knows which of them were begun. It does not know what they do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Threads:
    """All die with the process."""

    def __init__(self) -> None:
        self._begun: list[threading.Thread] = []

    def begin(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Have `work()` done beside everything else."""
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._begun.append(thread)
        thread.start()
        return thread

    def join(self, seconds: float) -> None:
        """Wait for each of them so long at most."""
        for thread in self._begun:
            thread.join(seconds)
