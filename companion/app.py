"""Introduces the rooms to each other: `build(settings)` gives a Companion.

Knows who needs whom, and in which order things start and end. It does not know HTTP, pages,
or anything a single room can decide.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import filelock

from companion.background.worker import Worker
from companion.chat.chat import Chat
from companion.chat.runs import Runs
from companion.chat.sessions import Sessions
from companion.config import SAMPLE_FOLDER, Settings, quiet_libraries
from companion.domain import ChatEngine, Embedder
from companion.errors import EmbedderError, FolderLocked, StorageError
from companion.inference.builtin import Builtin
from companion.inference.catalog import Catalog
from companion.inference.embedders import LateEmbedder, OnnxEmbedder
from companion.inference.ollama import Ollama
from companion.inference.weights import builtin_gguf, embedder_folder
from companion.library.chunking import CHUNKER_VERSION
from companion.library.library import Library
from companion.library.vectors import VectorIndex
from companion.storage.store import Store

log = logging.getLogger(__name__)

HOUSEKEEPING_S = 2.0
UNUSABLE = "The library cannot be kept in order; it is tried again, and the log says why."


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
        light: Embedder,
        lock: filelock.BaseFileLock,
    ) -> None:
        self.settings = settings
        self.store = store
        self.catalog = catalog
        self.library = library
        self.sessions = sessions
        self.chat = Chat(store, catalog, library, self.sessions.preferences, settings)
        self.runs = Runs(self.chat, store, on_activity=self.touch)
        self.sessions.before_delete(self.runs.end)
        self.worker = Worker(self._tick)
        self.last_activity = time.monotonic()
        self._light = light
        self._lock = lock
        self._trouble: str | None = None
        self._warm = False
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Warm up in the background: embedder, sample library, unfinished documents, index."""
        self._embedder_thread = self._begin("embedder", self._warm_embedder)
        self.worker.start()

    def touch(self) -> None:
        """A sign of the user: a keystroke, a message, an upload."""
        self.last_activity = time.monotonic()

    def health(self) -> Health:
        """Ready, still warming up, or working with something missing."""
        if self.worker.failing:
            return Health("degraded", (UNUSABLE,))
        if not self._warm:
            return Health("warming", ("The library is being opened; words are searched already.",))
        if self._trouble:
            return Health("degraded", (self._trouble,))
        return Health("ready")

    def close(self) -> None:
        """End everything within 10 s, in the order that loses nothing. May be called twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        if isinstance(self._light, LateEmbedder):
            # Else whoever waits for it waits through an export.
            self._light.close()
        self.library.stop_working()
        self.runs.close()
        self.worker.stop()
        self.library.close()
        for thread in self._threads:
            thread.join(1)
        # In a thread of its own: the caller may be inside an event loop.
        self._begin("engines", lambda: asyncio.run(self.catalog.close())).join(3)
        self.store.close()
        self._lock.release()

    def load_light(self) -> Embedder:
        """The light embedder that was chosen; else, with a reason, the one of the start."""
        chosen, usual = self.sessions.preferences().embed_light, self.settings.embed_light
        try:
            return load_embedder(chosen, self.settings)
        except EmbedderError as error:
            if chosen == usual:
                raise
            self._trouble = f"{error.message} Meanwhile {usual} is the light embedder."
            return load_embedder(usual, self.settings)

    def _begin(self, name: str, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _warm_embedder(self) -> None:
        if isinstance(self._light, LateEmbedder):
            self._light.warm()
            self._trouble = self._light.failure or self._trouble

    def _warm_library(self) -> None:
        self.library.warm()
        self.library.install_samples(SAMPLE_FOLDER)
        self.library.resume()
        while self._embedder_thread.is_alive() and not self._closing.is_set():
            self._embedder_thread.join(0.2)
        # Without an embedder words are searched all the same; health says why.
        with suppress(EmbedderError):
            self.library.open_index()
            self.library.complete_vectors()
        self._warm = True

    def _tick(self) -> float:
        if not self._warm:
            self._warm_library()
        self.library.purge_due()
        with suppress(EmbedderError):
            self.library.mend_index()
            self.library.complete_vectors()
        return HOUSEKEEPING_S


def build(
    settings: Settings, *, engines: Sequence[ChatEngine] | None = None, light: Embedder | None = None
) -> Companion:
    """Everything in the order of need; tests bring their own engines and embedder.

    Raises `FolderLocked` when another copy uses the data folder, `StorageError` when the folder
    or its database cannot be used.
    """
    quiet_libraries()
    lock = _lock_folder(settings)
    store: Store | None = None
    try:
        store = Store.open(settings.database_path)
        light = light or LateEmbedder(lambda: companion.load_light())
        library = Library(
            store,
            light,
            VectorIndex(settings.index_dir),
            originals=settings.originals_dir,
            max_bytes=settings.max_upload_mb * 1_000_000,
        )
        catalog = Catalog(
            _engines(settings) if engines is None else engines, show_cloud=settings.show_cloud_models
        )
        sessions = Sessions(store, catalog, settings)
        companion = Companion(settings, store, catalog, library, sessions, light, lock)
        return companion
    except BaseException:
        if store is not None:
            store.close()
        lock.release()
        raise


def _lock_folder(settings: Settings) -> filelock.BaseFileLock:
    try:
        # Other people of this machine have no business in it.
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = filelock.FileLock(settings.data_dir / ".lock")
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise FolderLocked(
            f"Another copy of LLM Companion uses {settings.data_dir}; close it or choose another --data-dir."
        ) from error
    except OSError as error:
        raise StorageError(
            f"The data folder {settings.data_dir} cannot be used: {error.strerror or error}."
        ) from error
    return lock


def _engines(settings: Settings) -> list[ChatEngine]:
    ollama = Ollama(
        settings.ollama_url,
        silence_timeout_s=settings.silence_timeout_s,
        load_timeout_s=settings.load_timeout_s,
    )
    return [ollama, Builtin(lambda: builtin_gguf(settings))]


def load_embedder(name: str, settings: Settings) -> Embedder:
    """An embedder that runs in this process. Raises `EmbedderError`; may take a minute at first."""
    return OnnxEmbedder.load(
        embedder_folder(name, settings),
        name=name,
        cache_dir=settings.weights_folder / "onnx",
        threads=settings.embed_threads,
        chunker_version=CHUNKER_VERSION,
    )
