"""The one background thread: a small loop around a tick.

Knows when to call and when to stop. It does not know what a tick does; tests call the tick
without any thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

AFTER_FAILURE_S = 10.0


class Worker:
    """Calls `tick`, which returns the seconds to wait until the next call."""

    def __init__(self, tick: Callable[[], float]) -> None:
        self._tick = tick
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Call the tick now, or once more after the one that runs."""
        self._wake.set()

    @property
    def failing(self) -> bool:
        """The last tick raised; it is tried again."""
        return self._failing

    def stop(self, timeout: float = 5.0) -> None:
        """Ask it to end and wait; says so in the log when it does not."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                log.warning("the worker did not end within %.0f s", timeout)

    def _run(self) -> None:
        wait = 0.0
        while not self._stopping.is_set():
            self._wake.wait(wait)
            # Cleared before the work, so that a wake during it is not lost.
            self._wake.clear()
            if not self._stopping.is_set():
                wait = self._step()

    def _step(self) -> float:
        try:
            wait = self._tick()
        except Exception:
            if not self._failing:
                log.exception("the worker failed; it tries again every %.0f s", AFTER_FAILURE_S)
            self._failing = True
            return AFTER_FAILURE_S
        if self._failing:
            log.info("the worker works again")
        self._failing = False
        return wait
