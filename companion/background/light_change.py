"""Another light embedder takes over: it is loaded and reads the library while the old one answers.

Knows which light embedder answers, which one was chosen, and the steps from the one to the other. It
does not know how an embedder is loaded, or what searches make of its vectors.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from companion.domain import EVERYBODY, Embedder, EmbedderChange, EmbedderIdentity
from companion.errors import CompanionError, EmbedderError, InvalidInput
from companion.inference.opening import opening

if TYPE_CHECKING:
    from companion.library.library import Library
    from companion.storage.store import Store

log = logging.getLogger(__name__)

PIECE_S = 2.0
"""About so long a step takes; the worker has other things to look after, too."""
TIDY_S = 3600.0

Loader = Callable[[str], Embedder]
"""Name of an embedder; raises EmbedderError."""


class LightChange:
    """`tick` belongs to the worker's thread; the rest to anybody."""

    def __init__(
        self,
        store: Store,
        library: Library,
        load: Loader | None,
        *,
        wanted: Callable[[], str],
        usual: str,
        in_background: Callable[[Callable[[], None]], object],
        proceed: Callable[[], bool],
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`load` None: there is one light embedder for good. `usual` is the one of the start, for want
        of a better one. `proceed` says no while the machine is needed for something else."""
        self._store = store
        self._library = library
        self._load = load
        self._wanted = wanted
        self._usual = usual
        self._in_background = in_background
        self._proceed = proceed
        self._wake = wake
        self._clock = clock
        self._loading: str | None = None
        self._next: tuple[str, Embedder] | None = None
        self._failure: tuple[str, str] | None = None
        self._queue: deque[tuple[str, str]] | None = None
        self._done = self._total = 0
        self._tidy_at = clock()

    # --- anybody's ------------------------------------------------------------------------

    def first(self) -> Embedder:
        """The embedder of a start: the one that answered last, else the chosen one, else the usual one.

        Raises `EmbedderError` with the reason of the chosen one.
        """
        assert self._load is not None
        chosen = self._wanted()
        failures: dict[str, EmbedderError] = {}
        for name in dict.fromkeys((self._in_force() or chosen, chosen, self._usual)):
            try:
                with opening(name):
                    embedder = self._load(name)
            except EmbedderError as error:
                failures[name] = error
                continue
            if chosen in failures:
                self._failure = (chosen, failures[chosen].message)
            return embedder
        raise failures[chosen]

    def choose_again(self) -> None:
        """Somebody chose, or wants what failed to be tried once more. Harmless otherwise."""
        self._failure = None
        self._wake()

    @property
    def trouble(self) -> str | None:
        """Why the chosen embedder does not answer, and who does; one sentence."""
        failure, answering = self._failure, self._answering()
        if failure is None or answering is None or failure[0] != self._wanted():
            return None
        return f"{failure[1].rstrip('.')}; meanwhile {answering.name} is the light embedder."

    @property
    def progress(self) -> EmbedderChange | None:
        """How far the change is; None when there is none."""
        answering, coming = self._answering(), self._next
        if answering is None:
            return None
        if coming is not None:
            return EmbedderChange(coming[0], answering.name, self._done, self._total)
        loading = self._loading
        return EmbedderChange(loading, answering.name, 0, 0) if loading is not None else None

    # --- the worker's ---------------------------------------------------------------------

    def tick(self) -> bool:
        """One step; returns whether the next one may follow at once."""
        answering = self._answering()
        if self._load is None or answering is None:
            return False
        name = self._wanted()
        if name == answering.name:
            self._let_go()
            self._tidy()
            return False
        if self._failure is not None and self._failure[0] == name:
            return False
        if self._next is None or self._next[0] != name:
            self._fetch(self._load, name)
            return False
        return self._step(self._next[1], answering)

    def _step(self, embedder: Embedder, answering: EmbedderIdentity) -> bool:
        if not self._may_go_on():
            return False
        try:
            # Two names may mean the same weights.
            if embedder.identity.embedder_id != answering.embedder_id and self._fill(embedder):
                return self._may_go_on()
        except (EmbedderError, InvalidInput) as error:
            self._fail(self._wanted(), error.message)
            return False
        if self._library.change_light(embedder):
            log.info("the light embedder is %s now", embedder.identity.name)
            self._let_go()
        return False

    def _fill(self, embedder: Embedder) -> bool:
        """Embed for about `PIECE_S`; False when nothing waits any more."""
        embedder_id = embedder.identity.embedder_id
        if not self._queue:
            self._queue = self._waiting(embedder, begun=self._queue is not None)
            if not self._queue:
                return False
        doc_id, owner = self._queue[0]
        missing = self._store.embeddings.missing(embedder_id, doc_id)
        until, before = self._clock() + PIECE_S, self._done

        def proceed(done: int) -> bool:
            self._done = before + done
            return self._clock() < until and self._may_go_on()

        if self._library.layers.fill(embedder, owner, missing, proceed):
            self._queue.popleft()
        return True

    def _waiting(self, embedder: Embedder, *, begun: bool) -> deque[tuple[str, str]]:
        layers, embedder_id = self._library.layers, embedder.identity.embedder_id
        if not begun:
            layers.begin_light(embedder.identity)
        self._total, self._done = self._store.layers.coverage(embedder_id)
        return deque(layers.waiting(embedder_id))

    def _may_go_on(self) -> bool:
        # What comes in is embedded for the layer that answers first.
        return not self._library.busy and self._proceed()

    # --- loading --------------------------------------------------------------------------

    def _fetch(self, load: Loader, name: str) -> None:
        self._let_go()
        if self._loading is None:
            self._loading = name
            self._in_background(lambda: self._fetched(load, name))

    def _fetched(self, load: Loader, name: str) -> None:
        try:
            with opening(name):
                self._next = (name, load(name))
        except CompanionError as error:
            self._fail(name, error.message)
        finally:
            self._loading = None
            self._wake()

    def _fail(self, name: str, sentence: str) -> None:
        log.warning("the light embedder %s cannot take over: %s", name, sentence)
        self._let_go()
        self._failure = (name, sentence)

    def _let_go(self) -> None:
        """Only one embedder is held for longer than it takes to change."""
        self._next, self._queue = None, None
        self._done = self._total = 0

    def _tidy(self) -> None:
        if self._clock() >= self._tidy_at:
            self._tidy_at = self._clock() + TIDY_S
            self._library.layers.drop_unused("light", set())

    # --- asking ---------------------------------------------------------------------------

    def _answering(self) -> EmbedderIdentity | None:
        try:
            return self._library.layers.serving.embedder.identity
        except EmbedderError:
            return None

    def _in_force(self) -> str | None:
        layers = self._store.layers.list(EVERYBODY)
        return next((layer.embedder for layer in layers if layer.in_force), None)
