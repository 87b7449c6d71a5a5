"""Study: makes questions from the library's passages in spare time, and measures the search with them.

Knows the order of steps, and whom it yields to. It does not know how spare time is recognised, how a
question is made, or what a figure is worth.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from companion.domain import SAMPLE_OWNER, KnownItem, Passage
from companion.errors import CompanionError, Conflict, EmbedderError, NotFound
from companion.quality.inventor import Invention
from companion.quality.measuring import Measuring, situation_of
from companion.quality.sentences import question_from

if TYPE_CHECKING:
    from companion.library.library import Library
    from companion.storage.store import Store

log = logging.getLogger(__name__)

PIECE_S = 1.0
"""About so long a step takes; the worker has other things to look after, too."""
REST_S = 2.5
"""After an answer of the model the machine is looked at without our work, before the next question."""
SOON_S = 0.25
LOOK_S = 30.0
"""Between two looks whether there is anything to do."""
PRESENT_S = 30.0
"""Who asked for it and is back at the keyboard: the model is theirs for so long after each sign."""
RETRY_S = 600.0
"""After a model that failed, or none that is able."""
PATIENCE = 2
"""Failures in a row, before questions are made without a model."""
FEW = 20
"""Questions; with as many a person who asks for figures does not wait for more."""
FEWEST_TOKENS = 24
"""Of a passage: what is shorter says too little to ask for."""

OFF = "No questions are made from your documents; set quality_questions above 0."
NO_DOCUMENTS = "There is nothing to measure yet; add documents first."
NO_QUESTIONS = "No question could be made from these documents: their passages are too short, or tables."


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """What is done for a library at this moment."""

    activity: Literal["off", "idle", "waiting", "making", "measuring"]
    """`waiting`: somebody asked for it, and it goes on when they are away."""
    done: int = 0
    total: int = 0
    """Questions made, or asked."""
    trouble: str | None = None
    """Why the last measurement came to nothing; one sentence."""


class Study:
    """`tick` belongs to the worker's thread; the rest to anybody."""

    def __init__(
        self,
        store: Store,
        library: Library,
        invent: Callable[[Passage], Coroutine[Any, Any, Invention]],
        *,
        wanted: Callable[[], int],
        embed_deep: Callable[[], str],
        spare: Callable[[], bool],
        turns: Callable[[], int],
        crowded: Callable[[], bool],
        on_loop: Callable[[Coroutine[Any, Any, Any]], Future[Any]],
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wanted`: questions for each library, 0: none. `spare` says at any moment whether nobody needs
        the machine, `crowded` whether deep work has it. `on_loop` runs a coroutine beside this thread."""
        self._store = store
        self._library = library
        self._invent = invent
        self._wanted = wanted
        self._embed_deep = embed_deep
        self._spare = spare
        self._turns = turns
        self._crowded = crowded
        self._on_loop = on_loop
        self._wake = wake
        self._clock = clock
        self._closed = False
        self._guard = threading.Lock()
        self._asked: dict[str, float] = {}
        self._signed_at: float | None = None
        self._trouble: dict[str, str] = {}

        self._at: str | None = None
        self._look_at = 0.0
        self._queue: deque[Passage] = deque()
        self._passed_over: set[str] = set()
        self._made = self._target = 0
        self._invention: tuple[Passage, Future[Invention]] | None = None
        self._rest_until = 0.0
        self._without_model_until = 0.0
        self._failures = 0
        self._measuring: Measuring | None = None

    # --- anybody's ------------------------------------------------------------------------

    def touch(self) -> None:
        """A sign of the user: the model is theirs from now on."""
        self._signed_at = self._clock()
        self._call_back()

    def measure_now(self, owner: str) -> None:
        """A person wants figures, now. Raises `Conflict` if there can be none."""
        if not self._wanted():
            raise Conflict(OFF)
        whose = self.library_of(owner)
        if not self._store.passages.has_any(whose):
            raise Conflict(NO_DOCUMENTS)
        self._asked[whose] = self._clock()
        self._trouble.pop(whose, None)
        # They may have started Ollama just for that.
        self._without_model_until = 0.0
        self._wake()

    def library_of(self, owner: str) -> str:
        """Whose documents are measured: the samples, as long as there is nothing else."""
        return SAMPLE_OWNER if self._library.uses_samples(owner) else owner

    def status(self, owner: str) -> StudyStatus:
        whose, measuring = self.library_of(owner), self._measuring
        trouble = self._trouble.get(whose)
        if not self._wanted():
            return StudyStatus("off")
        if measuring is not None and measuring.owner == whose:
            return StudyStatus("measuring", len(measuring.ranks), len(measuring.items), trouble)
        if self._at == whose and self._target > self._made:
            activity: Literal["making", "waiting"] = "making" if self._may_invent(whose) else "waiting"
            return StudyStatus(activity, self._made, self._target, trouble)
        return StudyStatus("waiting" if whose in self._asked else "idle", trouble=trouble)

    @property
    def works_elsewhere(self) -> bool:
        """A model of another program works for us, or did so just now."""
        return self._invention is not None or self._clock() < self._rest_until

    def close(self) -> None:
        """What is stored stays; the rest is begun again some day."""
        self._closed = True
        self._call_back()

    # --- the worker's ---------------------------------------------------------------------

    def tick(self) -> float:
        """One question, a piece of a measurement, or a look; returns the seconds to wait."""
        if self._invention is not None:
            return self._follow(*self._invention)
        if self._closed or not self._wanted():
            self._let_go()
            return LOOK_S
        wished_for = not self._asked or self._at in self._asked
        if self._at is None or not self._may_measure(self._at) or not wished_for:
            self._let_go()
            self._at = self._next_library()
        if self._at is None:
            return LOOK_S
        rest = self._rest_until - self._clock()
        return rest if rest > 0 else self._work(self._at)

    def _work(self, owner: str) -> float:
        if self._wants_questions(owner):
            return self._make(owner)
        return self._measure(owner)

    def _finish(self, owner: str) -> None:
        """Nothing is left to do for this library."""
        self._asked.pop(owner, None)
        self._let_go()
        self._look_at = self._clock() + LOOK_S

    def _let_go(self) -> None:
        self._at, self._measuring = None, None
        self._queue.clear()
        self._made = self._target = 0

    def _next_library(self) -> str | None:
        asked = next((owner for owner in list(self._asked) if self._may_measure(owner)), None)
        if asked is not None:
            return asked
        if self._clock() < self._look_at or not self._spare():
            return None
        in_need = next((owner for owner in self._libraries() if self._is_in_need(owner)), None)
        if in_need is None:
            self._look_at = self._clock() + LOOK_S
        return in_need

    def _libraries(self) -> list[str]:
        owners = [owner for owner in self._store.documents.owners() if owner != SAMPLE_OWNER]
        own = [owner for owner in owners if self._store.passages.has_any(owner)]
        return own or [SAMPLE_OWNER]

    def _is_in_need(self, owner: str) -> bool:
        items = self._items(owner)
        return bool(self._missing(owner, len(items))) or bool(items and self._is_news(owner, items))

    # --- who may have the machine ---------------------------------------------------------

    def _may_measure(self, owner: str) -> bool:
        """Measuring takes a second or ten of the processor: who asked for it may type meanwhile."""
        if self._closed:
            return False
        return self._spare() or (owner in self._asked and not self._turns())

    def _may_invent(self, owner: str) -> bool:
        """A model takes the whole machine: it is called back by any sign."""
        if not self._may_measure(owner) or self._crowded():
            return False
        asked_at, signed_at = self._asked.get(owner), self._signed_at
        if self._spare() or asked_at is None or signed_at is None or signed_at <= asked_at:
            return True
        return self._clock() - signed_at > PRESENT_S

    def _call_back(self) -> None:
        with self._guard:
            invention, owner = self._invention, self._at
        if invention is not None and (owner is None or not self._may_invent(owner)):
            invention[1].cancel()
            self._wake()

    # --- questions ------------------------------------------------------------------------

    def _items(self, owner: str) -> list[KnownItem]:
        return self._store.quality.questions(owner, self._wanted())

    def _missing(self, owner: str, have: int) -> list[Passage]:
        """Passages to be asked about, until there are enough questions."""
        most = self._wanted() - have
        if most <= 0:
            return []
        found = self._store.quality.candidates(owner, FEWEST_TOKENS, most + len(self._passed_over))
        return [passage for passage in found if passage.chunk_id not in self._passed_over][:most]

    def _wants_questions(self, owner: str) -> bool:
        if self._measuring is not None or not (self._queue or self._fill_queue(owner)):
            return False
        # Who asked for figures gets them from what there is; the rest is made in spare time.
        enough = self._made >= FEW or (self._made > 0 and not self._may_invent(owner))
        return self._spare() or not (owner in self._asked and enough)

    def _fill_queue(self, owner: str) -> bool:
        self._made = len(self._items(owner))
        self._queue.extend(self._missing(owner, self._made))
        self._target = self._made + len(self._queue)
        return bool(self._queue)

    def _make(self, owner: str) -> float:
        if not self._may_invent(owner):
            return SOON_S
        if self._clock() < self._without_model_until:
            return self._make_without_model(owner)
        passage = self._queue[0]
        try:
            asked = self._on_loop(self._invent(passage))
        except CompanionError:
            # The app is closing.
            return SOON_S
        with self._guard:
            self._invention = (passage, asked)
        asked.add_done_callback(lambda _: self._wake())
        # A sign may have come before there was anything to call back.
        self._call_back()
        return SOON_S

    def _follow(self, passage: Passage, asked: Future[Invention]) -> float:
        """What came of asking the model. Whoever called it back left the passage for later."""
        if not asked.done():
            self._call_back()
            return SOON_S
        with self._guard:
            self._invention = None
        self._rest_until = self._clock() + REST_S
        try:
            invention = asked.result()
        except CancelledError:
            return SOON_S
        except CompanionError as error:
            self._failed(error)
            return SOON_S
        self._failures = 0
        if invention.model is None:
            self._rest_until, self._without_model_until = 0.0, self._clock() + RETRY_S
            return 0.0
        made_by = invention.model if invention.question else None
        self._keep(passage, invention.question or self._question_without(passage), made_by)
        return SOON_S

    def _failed(self, error: CompanionError) -> None:
        self._failures += 1
        log.info("a question was not made: %s", error.message)
        if self._failures >= PATIENCE:
            self._failures, self._without_model_until = 0, self._clock() + RETRY_S

    def _make_without_model(self, owner: str) -> float:
        until = self._clock() + PIECE_S
        while self._queue and self._clock() < until and self._may_invent(owner):
            passage = self._queue[0]
            self._keep(passage, self._question_without(passage), None)
        return 0.0

    def _question_without(self, passage: Passage) -> str | None:
        words = self._store.words
        try:
            owners = (self._store.documents.get_any(passage.doc_id).owner,)
        except NotFound:
            return None
        return question_from(
            passage.text,
            lambda word: words.frequency(word, owners),
            words.passages(owners),
        )

    def _keep(self, passage: Passage, question: str | None, made_by: str | None) -> None:
        if self._queue and self._queue[0].chunk_id == passage.chunk_id:
            self._queue.popleft()
        if question is None:
            self._passed_over.add(passage.chunk_id)
            self._target -= 1
            return
        self._store.quality.add(passage, question, made_by)
        self._made += 1

    # --- measuring ------------------------------------------------------------------------

    def _measure(self, owner: str) -> float:
        """A piece; the last one brings the figures, if there is anything to measure."""
        until = self._clock() + PIECE_S
        try:
            self._measuring = measuring = self._measuring or self._begin_measuring(owner)
            if measuring and not measuring.ask(lambda: self._clock() < until and self._may_measure(owner)):
                return 0.0
        except EmbedderError as error:
            self._trouble[owner] = error.message
            self._finish(owner)
            return SOON_S
        if measuring:
            self._store.quality.save(measuring.result())
            log.info("the search was measured with %d questions", len(measuring.items))
            self._trouble.pop(owner, None)
        self._finish(owner)
        return SOON_S

    def _begin_measuring(self, owner: str) -> Measuring | None:
        items = self._items(owner)
        if not items and owner in self._asked:
            self._trouble[owner] = NO_QUESTIONS
        if not items or not (owner in self._asked or self._is_news(owner, items)):
            return None
        return Measuring(self._store, self._library, owner, items, self._embed_deep())

    def _is_news(self, owner: str, items: list[KnownItem]) -> bool:
        """The questions or the layers are not those of the last measurement."""
        try:
            situation = situation_of(self._store, self._library, owner, items, self._embed_deep())
        except EmbedderError:
            return False
        latest = self._store.quality.measurements(owner, 1)
        return not latest or latest[0].situation != situation
