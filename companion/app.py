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
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

import filelock

from companion.background.deep_choice import Opener
from companion.background.deep_status import DeepStatus
from companion.background.light_change import Loader
from companion.background.machine_load import LoadReader
from companion.chat.chat import Chat
from companion.chat.runs import Runs
from companion.chat.sessions import Sessions
from companion.conditions import DAMAGE, DAMAGED, DISK_FULL, STUCK, Condition, Facts, Models, conditions
from companion.config import Settings, quiet_libraries
from companion.costs import EmbedderCost, LayerName
from companion.domain import ChatEngine, Embedder
from companion.embedding import load_embedder, ollama_of
from companion.errors import (
    DatabaseDamaged,
    EmbedderError,
    EngineError,
    InvalidInput,
)
from companion.idle_work import IdleWork, Rooms, StandIns
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
from companion.storage.folder import lock_folder
from companion.storage.snapshot import has_content
from companion.storage.space import Space, megabytes
from companion.storage.store import Store
from companion.threads import Threads

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
        stand_ins: StandIns,
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
        self._when_closing: list[Callable[[], None]] = []
        self._closing = threading.Event()
        self._threads = Threads()
        self.work = IdleWork(
            Rooms(settings, store, library, catalog, sessions, self.chat, self.runs),
            stand_ins,
            self._threads,
            purge=self._purge,
            loading=lambda: self._loading,
            closing=self._closing,
        )
        self.sessions.after_save(lambda values: self.try_again() if "embed_light" in values else None)
        self._space = space
        self._lock = lock
        self._warming_since = time.monotonic()
        self._embedder_thread: threading.Thread | None = None

    def start(self) -> None:
        """Warm up in the background: embedder, sample library, unfinished documents, index."""
        self._embedder_thread = self._threads.begin("embedder", self._warm_embedder)
        self.outlook.look()
        self.work.worker.start()

    def try_again(self) -> None:
        """Load the embedder once more, if it could not be; the library follows by itself."""
        self.work.light_change.choose_again()
        late = self._late
        if late is not None and late.failure and not self._loading:
            self._warming_since = time.monotonic()
            self._embedder_thread = self._threads.begin("embedder", self._warm_embedder)

    def touch(self) -> None:
        """A sign of the user: a keystroke, a message, an upload."""
        self.work.touch()

    def when_gone(self, act: Callable[[str], None]) -> None:
        """Have `act(owner)` called when a visitor is forgotten."""
        self._when_gone.append(act)

    def before_close(self, act: Callable[[], None]) -> None:
        """Have `act()` called when the app begins to end."""
        self._when_closing.append(act)

    def deep_status(self, owner: str) -> DeepStatus:
        """What deep work does; how much there is of it, of everybody together, is for admins."""
        status = self.work.deepening.status()
        return status if self.people.is_admin(owner) else replace(status, done=0, total=0)

    def health(self) -> Health:
        """Ready, still warming up, or working with something missing."""
        if self.store.damaged:
            return Health("degraded", (DAMAGED,))
        if self._disk_full:
            return Health("degraded", (DISK_FULL,))
        if self.work.worker.failing:
            return Health("degraded", (STUCK,))
        if self.work.upkeep.stage:
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
            warming=EMBEDDER if self._loading else self.work.upkeep.stage,
            warming_s=time.monotonic() - self._warming_since,
            trouble=self._trouble,
            change=self.work.light_change.progress,
            library_stuck=self.work.worker.failing,
            disk_full=self._disk_full,
            free=megabytes(free) if free is not None and free < self._space.least_bytes else None,
            conversations=bool(self.sessions.list(owner, limit=1)),
            own_documents=own.documents,
            failed_documents=own.failed,
            # A browser has few connections to a server: only here are all pages in one browser.
            open_pages=self.open_pages if self.settings.mode == "local" else 0,
            gpu=self.work.embedding.card is not False,
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
            return await self.work.embedding.cost(name, layer)
        except (InvalidInput, EmbedderError, EngineError) as error:
            return EmbedderCost(name, layer, error.message)

    def close(self) -> None:
        """End everything within 10 s, in the order that loses nothing. May be called twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        for act in self._when_closing:
            act()
        if self._late is not None:
            # Else whoever waits for it waits through an export.
            self._late.close()
        self.work.close()
        self.library.stop_working()
        # Before the runs: it works on their loop.
        self.pulls.close()
        self.runs.close()
        self.work.stop()
        self.library.close()
        self._threads.join(1)
        # In a thread of its own: the caller may be inside an event loop.
        self._threads.begin("engines", lambda: asyncio.run(self.catalog.close())).join(3)
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
        return late or self.work.light_change.trouble or self.work.direct.trouble

    @property
    def _disk_full(self) -> bool:
        """A write found no room: of the database, or of the index beside it."""
        return self.store.full or self.work.upkeep.held_up

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
            light = LateEmbedder(lambda: companion.work.light_change.first())
        # One person's words must not move another's ranking.
        store.words.private = settings.mode != "local"
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
            space, lock, StandIns(load_light, deep, load_direct, reader),
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
