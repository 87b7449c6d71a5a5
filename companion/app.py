"""Introduces the rooms to each other: `build(settings)` gives a Companion.

Knows who needs whom, and in which order things start and end. It does not know HTTP, pages,
or anything a single room can decide.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

import filelock

from companion.background.deep_choice import Opener
from companion.background.deep_status import DeepStatus
from companion.background.deepening import Deepening, Quiet
from companion.background.light_change import LightChange, Loader
from companion.background.machine_load import LoadReader
from companion.background.residency import Residency
from companion.background.upkeep import Upkeep
from companion.background.worker import Worker
from companion.chat.chat import Chat
from companion.chat.runs import Runs
from companion.chat.sessions import Sessions
from companion.conditions import DAMAGE, DAMAGED, DISK_FULL, STUCK, Condition, Facts, Models, conditions
from companion.config import Settings, quiet_libraries
from companion.costs import EmbedderCost, LayerName
from companion.direct import DirectQuestions
from companion.domain import LOCAL_OWNER, ChatEngine, DeepQuery, Embedder
from companion.embedding import Embedding, load_embedder, load_for_questions, ollama_of
from companion.errors import (
    Conflict,
    DatabaseDamaged,
    EmbedderError,
    EngineError,
    InvalidInput,
)
from companion.inference.builtin import Builtin
from companion.inference.catalog import Catalog
from companion.inference.embedder_facts import english_only
from companion.inference.late_embedder import LateEmbedder
from companion.inference.outlook import Outlook
from companion.inference.pulls import Pulls
from companion.inference.weights import builtin_gguf
from companion.library.library import Library
from companion.library.originals import set_aside
from companion.library.vectors import VectorIndex
from companion.memory import give_back_memory
from companion.people.arrivals import Arrivals
from companion.people.departure import delete_all_of
from companion.people.people import People
from companion.people.quotas import Quotas
from companion.people.visitors import Visitors
from companion.quality.inventor import Inventor
from companion.quality.study import Study
from companion.storage.folder import lock_folder
from companion.storage.snapshot import has_content
from companion.storage.space import Space, megabytes
from companion.storage.store import Store

log = logging.getLogger(__name__)

RESERVE_BYTES = 8_000_000
"""For conversations on a full disk: some hundred questions and answers."""
LOOK_S = 0.2
"""How long whoever looks at the app waits for engines to tell of themselves."""
EMBEDDER = "The embedder is being loaded"


@dataclass(frozen=True, slots=True)
class Health:
    """How the app is, in a word and in sentences."""

    state: Literal["ready", "warming", "degraded"]
    reasons: tuple[str, ...] = ()


class Companion:
    """The whole app without its doors."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        catalog: Catalog,
        library: Library,
        sessions: Sessions,
        people: People,
        quotas: Quotas,
        space: Space,
        lock: filelock.BaseFileLock,
        load_light: Loader | None,
        open_deep: Opener | None,
        load_direct: Loader | None,
        reader: LoadReader | None,
    ) -> None:
        self.started_id = uuid.uuid4().hex
        """Another one after each start: an open page that sees it change loads itself anew."""
        self.open_pages = 0
        """How many pages hold a connection at this moment; counted by the door they come through."""
        self.settings = settings
        self.store = store
        self.catalog = catalog
        self.library = library
        self.sessions = sessions
        self.people = people
        self.quotas = quotas
        self.visitors = Visitors(store, timedelta(hours=settings.demo_hours))
        self.arrivals = Arrivals()
        self._when_gone: list[Callable[[str], None]] = [self.quotas.forget, self.arrivals.forget]
        self.chat = Chat(store, catalog, library, self.sessions.preferences, settings)
        self.runs = Runs(
            self.chat,
            store,
            on_activity=self.touch,
            admit=quotas.require_question,
            at_once=settings.answers_at_once,
        )
        self.sessions.before_delete(self.runs.end)
        self.outlook = Outlook(catalog, self.runs.loop)
        self.pulls = Pulls(catalog, self.runs.loop, offline=settings.offline)
        self.worker = Worker(lambda: self._tick())
        self.embedding = Embedding(
            settings, catalog, store.embeddings, library.layers.pace, lambda: self.deepening.load
        )
        self.residency = Residency(
            catalog,
            busy=lambda: self.runs.active() > 0,
            window_for=lambda model: self.chat.window_for(model, self.sessions.preferences()),
            free_bytes=lambda: self.deepening.memory_free,
            preload_chosen=self._preload_chosen,
        )
        self.deepening = Deepening(
            store,
            library.layers,
            self.residency,
            open_deep or self.embedding.open_deep,
            wanted=lambda: self.sessions.preferences().embed_deep,
            quiet=self._quiet,
            turns=self.runs.active,
            reclaimable=self._reclaimable,
            on_loop=self._on_loop,
            in_thread=asyncio.to_thread,
            wake=self.worker.wake,
            borrowed=lambda: self.study.works_elsewhere,
            reader=reader,
        )
        inventor = Inventor(
            catalog,
            chosen=lambda: self.sessions.in_use(LOCAL_OWNER).model_name,
            window_for=lambda model: self.chat.window_for(model, self.sessions.preferences()),
        )
        self.study = Study(
            store,
            library,
            inventor.invent,
            wanted=lambda: self.sessions.preferences().quality_questions,
            embed_deep=lambda: self.sessions.preferences().embed_deep,
            spare=lambda: self.deepening.spare,
            turns=self.runs.active,
            crowded=lambda: self.deepening.status().is_indexing,
            on_loop=self._on_loop,
            wake=self.worker.wake,
        )
        self._closing = threading.Event()
        self.light_change = LightChange(
            store,
            library,
            load_light,
            wanted=lambda: self.sessions.preferences().embed_light,
            usual=settings.embed_light,
            in_background=lambda work: self._begin("next embedder", work),
            proceed=lambda: not self.runs.active() and not self._closing.is_set(),
            wake=self.worker.wake,
        )
        self.sessions.after_save(lambda values: self.try_again() if "embed_light" in values else None)
        self.direct = DirectQuestions(
            load_direct or (lambda name: load_for_questions(name, settings)),
            wanted=self._asked_directly,
            in_background=lambda work: self._begin("deep questions", work),
        )
        library.deep_reader = lambda: self.direct.embedder
        self.sessions.after_save(lambda values: self._follow_direct() if "deep_query" in values else None)
        self.upkeep = Upkeep(
            store,
            library,
            purge=self._purge,
            loading=lambda: self._loading,
            closing=self._closing,
            change=self.light_change.tick,
            deepen=self.deepening.tick,
            study=self.study.tick,
        )
        self._space = space
        self._lock = lock
        self._warming_since = time.monotonic()
        self._embedder_thread: threading.Thread | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Warm up in the background: embedder, sample library, unfinished documents, index."""
        self._embedder_thread = self._begin("embedder", self._warm_embedder)
        self.outlook.look()
        self.worker.start()

    def try_again(self) -> None:
        """Load the embedder once more, if it could not be; the library follows by itself."""
        self.light_change.choose_again()
        late = self._late
        if late is not None and late.failure and not self._loading:
            self._warming_since = time.monotonic()
            self._embedder_thread = self._begin("embedder", self._warm_embedder)

    def touch(self) -> None:
        """A sign of the user: a keystroke, a message, an upload."""
        self.deepening.touch()
        self.study.touch()

    def when_gone(self, act: Callable[[str], None]) -> None:
        """Have `act(owner)` called when a visitor is forgotten."""
        self._when_gone.append(act)

    def deep_status(self, owner: str) -> DeepStatus:
        """What deep work does; how much there is of it, of everybody together, is for admins."""
        status = self.deepening.status()
        return status if self.people.is_admin(owner) else replace(status, done=0, total=0)

    def health(self) -> Health:
        """Ready, still warming up, or working with something missing."""
        if self.store.damaged:
            return Health("degraded", (DAMAGED,))
        if self._disk_full:
            return Health("degraded", (DISK_FULL,))
        if self.worker.failing:
            return Health("degraded", (STUCK,))
        if self.upkeep.stage:
            return Health("warming", ("The library is being opened; words are searched already.",))
        if self._trouble:
            return Health("degraded", (self._trouble,))
        return Health("ready")

    def conditions(self, owner: str, session_id: str | None = None) -> tuple[Condition, ...]:
        """The states that hold now, most important first; of a conversation's model if one is named.

        Waits for engines no longer than a moment, and goes by what they told last. Raises
        `NotFound` for a conversation that is not theirs.
        """
        if not self.store.damaged:
            with suppress(DatabaseDamaged):
                return conditions(self._facts(owner, session_id))
        return (DAMAGE,)

    def _facts(self, owner: str, session_id: str | None) -> Facts:
        self.outlook.look(LOOK_S)
        own = self.library.totals(owner)
        free = self._space.free()
        return Facts(
            models=self._models(owner, session_id),
            warming=EMBEDDER if self._loading else self.upkeep.stage,
            warming_s=time.monotonic() - self._warming_since,
            trouble=self._trouble,
            change=self.light_change.progress,
            library_stuck=self.worker.failing,
            disk_full=self._disk_full,
            free=megabytes(free) if free is not None and free < self._space.least_bytes else None,
            conversations=bool(self.sessions.list(owner, limit=1)),
            own_documents=own.documents,
            failed_documents=own.failed,
            open_pages=self.open_pages,
            gpu=self.embedding.card is not False,
            english_embedder=self._english_embedder(owner),
        )

    def _english_embedder(self, owner: str) -> str | None:
        """The chosen light embedder, where that reads English only and the person's documents are not."""
        chosen = self.sessions.preferences().embed_light
        if not (english_only(chosen) and self.people.is_admin(owner) and self.library.is_foreign(owner)):
            return None
        return chosen

    async def embedder_cost(self, name: str, layer: LayerName) -> EmbedderCost:
        """What choosing an embedder for a layer would cost here; why it cannot be is in `refusal`."""
        name = name.strip()
        try:
            await self.sessions.check({f"embed_{layer}": name})
            return await self.embedding.cost(name, layer)
        except (InvalidInput, EmbedderError, EngineError) as error:
            return EmbedderCost(name, layer, error.message)

    def close(self) -> None:
        """End everything within 10 s, in the order that loses nothing. May be called twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._late is not None:
            # Else whoever waits for it waits through an export.
            self._late.close()
        self.deepening.close()
        self.study.close()
        self.library.stop_working()
        # Before the runs: it works on their loop.
        self.pulls.close()
        self.runs.close()
        self.worker.stop()
        self.deepening.let_go()
        self.library.close()
        for thread in self._threads:
            thread.join(1)
        # In a thread of its own: the caller may be inside an event loop.
        self._begin("engines", lambda: asyncio.run(self.catalog.close())).join(3)
        self.store.close()
        self._lock.release()

    def _purge(self) -> None:
        """What is to go: visitors who stayed away with all they made, and deleted conversations."""
        for owner in self.visitors.gone():
            delete_all_of(self.store, owner)
            for act in self._when_gone:
                act(owner)
            self.visitors.forget(owner)
        self.sessions.purge_due()

    def _quiet(self) -> Quiet:
        """As the last active conversation says."""
        in_use = self.sessions.in_use(LOCAL_OWNER)
        return Quiet(in_use.idle_threshold_s, self.sessions.preferences().gpu_idle_percent)

    def _tick(self) -> float:
        # Not before the light embedder is there: that one is needed by everybody.
        if self.upkeep.stage is None:
            self.direct.follow()
        return self.upkeep.tick()

    def _follow_direct(self) -> None:
        if not self._closing.is_set():
            self.direct.follow(again=True)

    def _asked_directly(self) -> str | None:
        """The deep embedder that reads questions: the one whose layer answers."""
        if self.sessions.preferences().deep_query is not DeepQuery.DIRECT:
            return None
        layers = self.library.deep_layers(LOCAL_OWNER)
        return next((layer.embedder for layer in layers if layer.in_force), None)

    def _reclaimable(self) -> int:
        """Bytes that the chat models in memory take, as last known."""
        loaded = [model for model in self.catalog.known() if model.loaded]
        return sum((model.vram if self.embedding.card else model.memory) or 0 for model in loaded)

    async def _preload_chosen(self) -> None:
        """The model of the last active conversation."""
        in_use = await asyncio.to_thread(self.sessions.in_use, LOCAL_OWNER)
        model, _notice = await self.catalog.resolve(in_use.model_name)
        await self.chat.preload(model.name)

    def _on_loop(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        try:
            return asyncio.run_coroutine_threadsafe(work, self.runs.loop())
        except Conflict:
            # The app is closing.
            work.close()
            raise

    def _begin(self, name: str, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _warm_embedder(self) -> None:
        if self._late is not None:
            self._late.warm()

    def _models(self, owner: str, session_id: str | None) -> Models | None:
        asked = self.sessions.config(owner, session_id) if session_id else self.sessions.preferences(owner)
        if self.outlook.situation is None:
            return None
        answers = self.catalog.last_known(asked.model_name)
        return Models(self.outlook.situation, asked.model_name, answers.name if answers else None)

    @property
    def _late(self) -> LateEmbedder | None:
        """The embedder of the start, as long as it answers."""
        embedder = self.library.layers.serving.embedder
        return embedder if isinstance(embedder, LateEmbedder) else None

    @property
    def _trouble(self) -> str | None:
        """Why meanings are not searched, or not by the embedder that was chosen, or not as was chosen."""
        if self._loading:
            return None
        late = self._late.failure if self._late else None
        return late or self.light_change.trouble or self.direct.trouble

    @property
    def _disk_full(self) -> bool:
        """A write found no room: of the database, or of the index beside it."""
        return self.store.full or self.upkeep.held_up

    @property
    def _loading(self) -> bool:
        """The embedder is being loaded."""
        return self._embedder_thread is not None and self._embedder_thread.is_alive()


def build(
    settings: Settings,
    *,
    engines: Sequence[ChatEngine] | None = None,
    light: Embedder | None = None,
    load_light: Loader | None = None,
    deep: Opener | None = None,
    load_direct: Loader | None = None,
    reader: LoadReader | None = None,
) -> Companion:
    """Everything in the order of need; tests bring their own engines and embedders.

    `light` is the light embedder for good; else `load_light` loads it by its name, and another one
    when that is chosen. `load_direct` loads a deep embedder for questions.

    Raises `FolderLocked` when another copy uses the data folder, `StorageError` when the folder
    or its database cannot be used.
    """
    quiet_libraries()
    give_back_memory()
    lock = lock_folder(settings.data_dir)
    store: Store | None = None
    try:
        _keep_originals(settings)
        store = Store.open(settings.database_path, RESERVE_BYTES)
        if light is None:
            load_light = load_light or (lambda name: load_embedder(name, settings))
            light = LateEmbedder(lambda: companion.light_change.first())
        # One person's words must not move another's ranking.
        store.documents.words_are_private = settings.mode != "local"
        people, quotas = People(store, settings.mode), Quotas(store, settings)
        space = Space(settings.data_dir, settings.min_free_mb * 1_000_000)
        library = Library(
            store,
            light,
            VectorIndex(settings.index_dir),
            originals=settings.originals_dir,
            max_bytes=settings.max_upload_mb * 1_000_000,
            space=space,
            admit=quotas.require_upload,
        )
        catalog = Catalog(_engines(settings) if engines is None else engines)
        sessions = Sessions(store, catalog, settings, people.require_admin)
        catalog.show_cloud = sessions.preferences().show_cloud_models
        companion = Companion(
            settings, store, catalog, library, sessions, people, quotas,
            space, lock, load_light, deep, load_direct, reader,
        )  # fmt: skip
        return companion
    except BaseException:
        if store is not None:
            store.close()
        lock.release()
        raise


def _keep_originals(settings: Settings) -> None:
    """People's files outlive a database that was lost."""
    if has_content(settings.database_path):
        return
    aside = set_aside(settings.originals_dir)
    if aside is not None:
        log.warning("There was no database, so a new one is begun; the files of before are in %s", aside)


def _engines(settings: Settings) -> list[ChatEngine]:
    return [ollama_of(settings), Builtin(lambda: builtin_gguf(settings))]
