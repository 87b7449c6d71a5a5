"""The deep embedder at question time: in memory only while switched on, and used only if quick enough.

Knows what a question may cost. It does not know how an embedder is loaded, which one is wanted, or
what a search makes of its vector.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from companion.domain import Embedder
from companion.errors import CompanionError

log = logging.getLogger(__name__)

MOST_MS = 50.0
"""For one question: twice what all the rest of a search takes."""
TRIALS = 7
TRIAL = "How long may an ordinary question be on its way until the passages that answer it are found?"


class DirectQuestions:
    """`embedder` is there when questions can go to it; safe to ask from any thread."""

    def __init__(
        self,
        load: Callable[[str], Embedder],
        *,
        wanted: Callable[[], str | None],
        in_background: Callable[[Callable[[], None]], object],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`load` may take a minute and raises EmbedderError; `wanted`: its name, None if questions are
        to go nowhere."""
        self._load = load
        self._wanted = wanted
        self._in_background = in_background
        self._clock = clock
        self._guard = threading.Lock()
        self._name: str | None = None
        self._embedder: Embedder | None = None
        self._trouble: str | None = None

    @property
    def embedder(self) -> Embedder | None:
        return self._embedder

    @property
    def trouble(self) -> str | None:
        """Why questions do not go to the embedder that is wanted; one sentence."""
        return self._trouble

    def follow(self, *, again: bool = False) -> None:
        """Load what is wanted now, let go of what is not; returns at once.

        `again`: what failed, or was too slow, is tried once more.
        """
        name = self._wanted()
        with self._guard:
            if name == self._name and not (again and self._trouble):
                return
            self._name, self._embedder, self._trouble = name, None, None
        if name is not None:
            self._in_background(lambda: self._fetch(name))

    def _fetch(self, name: str) -> None:
        embedder: Embedder | None = None
        trouble: str | None = f"The embedder {name} could not be loaded for questions: see the log."
        try:
            embedder = self._load(name)
            trouble = self._too_slow(name, embedder)
        except CompanionError as error:
            trouble = f"Questions do not go to the deep embedder: {error.message}"
        finally:
            self._settle(name, None if trouble else embedder, trouble)

    def _settle(self, name: str, embedder: Embedder | None, trouble: str | None) -> None:
        if trouble:
            log.warning("%s", trouble)
        with self._guard:
            # Meanwhile another may be wanted, or none.
            if name == self._name:
                self._embedder, self._trouble = embedder, trouble

    def _too_slow(self, name: str, embedder: Embedder) -> str | None:
        # The quickest one: what other programs take meanwhile is not the embedder's fault.
        took = min(self._one_question(embedder) for _ in range(TRIALS)) * 1000
        log.info("the deep embedder %s takes %.0f ms for a question", name, took)
        if took <= MOST_MS:
            return None
        return (
            f"The deep embedder {name} takes {took:.0f} ms for a question here, and {MOST_MS:.0f} ms is the "
            "limit, so feedback is used; choose feedback, or a smaller deep embedder."
        )

    def _one_question(self, embedder: Embedder) -> float:
        began = self._clock()
        embedder.embed_query(TRIAL)
        return self._clock() - began
