"""Upkeep: the library is opened once, and then kept in order; one step for each tick of the worker.

Knows the order in which a start gets ready, and what is looked after every few seconds. It does not
know how any of it is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from companion.config import SAMPLE_FOLDER
from companion.errors import DiskFull, EmbedderError

if TYPE_CHECKING:
    from companion.library.library import Library
    from companion.storage.store import Store

EVERY_S = 2.0
WAIT_S = 0.02
OPENING = "The library is being opened"
SAMPLES = "The sample library is being read"
UNFINISHED = "Unfinished documents are being read"
INDEX = "The index is being checked"


class Upkeep:
    """`tick` belongs to the worker's thread."""

    def __init__(
        self,
        store: Store,
        library: Library,
        *,
        purge: Callable[[], object],
        loading: Callable[[], bool],
        closing: threading.Event,
        change: Callable[[], bool],
        deepen: Callable[[], float],
        study: Callable[[], float],
    ) -> None:
        """`purge` removes conversations that are due. `loading`: the embedder is on its way. `change` is
        a step to another light embedder, and says whether the next may follow at once; `deepen` is one
        of the work in idle time, and returns the seconds to wait; so does `study`, which uses what is
        left of that time."""
        self._store = store
        self._library = library
        self._purge = purge
        self._loading = loading
        self._closing = closing
        self._change = change
        self._deepen = deepen
        self._study = study
        self._ordered_at = 0.0
        self.stage: str | None = OPENING
        """What is done before all is ready; None: it is."""
        self.held_up = False
        """There was no room on the disk for the last step; it is tried again."""

    def tick(self) -> float:
        """Returns the seconds to wait."""
        if self._store.damaged:
            # Nothing can be kept in order any more; `conditions` say so.
            return self._give_back()
        if self._store.full and not self._store.look_for_room():
            # What somebody deleted may be what makes room.
            with suppress(DiskFull):
                self._library.purge_due()
            return self._give_back()
        try:
            if time.monotonic() - self._ordered_at >= EVERY_S:
                self._keep_in_order()
                self._ordered_at = time.monotonic()
                self.held_up = False
            at_once = self.stage is None and (self._complete() or self._change())
            wait = self._deepen()
            if self.stage is None:
                wait = min(wait, self._study())
            return 0.0 if at_once else min(EVERY_S, wait)
        except DiskFull:
            self.held_up = True
            return EVERY_S

    def _give_back(self) -> float:
        """The work in idle time ends by its own rules, which know that nothing can be stored."""
        return min(EVERY_S, self._deepen())

    def _keep_in_order(self) -> None:
        # First: what was deleted goes, and may make room, whatever else cannot be done.
        self._library.purge_due()
        self._purge()
        if self.stage:
            self._open()
        self._library.resume_held_up()
        with suppress(EmbedderError):
            self._library.mend_index()
            self._library.check_index()

    def _complete(self) -> bool:
        """A step to whole vectors; says whether the next may follow at once."""
        with suppress(EmbedderError):
            return self._library.complete_vectors()
        return False

    def _open(self) -> None:
        self._library.warm()
        self.stage = SAMPLES
        self._library.install_samples(SAMPLE_FOLDER)
        self.stage = UNFINISHED
        self._library.resume()
        while self._loading():
            if self._closing.wait(WAIT_S):
                return
        self.stage = INDEX
        # Without an embedder words are searched all the same; health says why.
        with suppress(EmbedderError):
            self._library.open_index()
        self.stage = None
