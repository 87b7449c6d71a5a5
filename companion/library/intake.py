"""The intake: a file becomes a document, is read, cut, stored and embedded.

Knows the order of steps that loses nothing: original, rows, vectors, index. It does not know how a
file is read, where originals lie, or how anything is found again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal, Protocol

from companion.domain import SAMPLE_OWNER, Cut, Document, DocumentState, Passage
from companion.errors import (
    CompanionError,
    Conflict,
    DiskFull,
    DocumentError,
    EmbedderError,
    InvalidInput,
    NotFound,
    StorageError,
)
from companion.library.chunking import cut
from companion.library.ingest_lock import IngestLock
from companion.library.layers import Layers
from companion.library.originals import Incoming, Originals, original_name, suffix
from companion.library.readers import ReaderProcess, clean_name

if TYPE_CHECKING:
    from companion.storage.space import Space
    from companion.storage.store import Store

log = logging.getLogger(__name__)

IfExists = Literal["replace", "keep"]

PIECE_S = 2.0
"""About so long vectors are completed at once; the worker has other things to look after, too."""


class Admit(Protocol):
    """Whether an owner may have so many more bytes and documents. Raises TooMany."""

    def __call__(self, owner: str, size: int, *, documents: int = 0) -> None: ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a document is that is being taken in."""

    stage: Literal["waiting", "reading", "embedding"]
    done: int = 0
    """Passages embedded."""
    total: int = 0


class Intake:
    """Takes in documents of all owners, one at a time; `Library` says what each step promises."""

    def __init__(
        self,
        store: Store,
        layers: Layers,
        originals: Originals,
        lock: IngestLock,
        *,
        reader: ReaderProcess,
        space: Space | None,
        admit: Admit,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._layers = layers
        self._originals = originals
        self._lock = lock
        self._reader = reader
        self._space = space
        self._may_have = admit
        self._now = now
        self._progress: dict[str, Progress] = {}
        # Held while files are moved and rows follow: both must tell of the same version.
        self._naming = Lock()
        self._incomplete = True
        self._waiting: deque[str] = deque()
        """Documents that get missing vectors just now."""
        self._held_up = False

    # --- accepting ------------------------------------------------------------------------

    def accept(self, owner: str, name: str, source: Path | bytes, if_exists: IfExists) -> Document:
        # Without the samples there would be nothing to show.
        if owner != SAMPLE_OWNER:
            self.require_room()
        name = clean_name(name)
        with self._originals.incoming(name, source) as incoming, self._naming:
            existing = self._store.documents.find(owner, name)
            if existing and existing[0].content_hash == incoming.content_hash:
                return self._again(existing[0], incoming)
            if existing and if_exists == "replace":
                return self._take_over(existing[0], name, incoming)
            self._may_have(owner, incoming.size, documents=1)
            return self._admit(owner, self._free_name(owner, name), incoming)

    def replace(self, document: Document, name: str, source: Path | bytes) -> Document:
        self.require_room()
        name = _in_folder_of(document.name, clean_name(name))
        with self._originals.incoming(name, source) as incoming, self._naming:
            others = self._store.documents.find(document.owner, name)
            if any(other.doc_id != document.doc_id for other in others):
                raise Conflict(
                    f"Another document is already called {name}; replace that one, or rename the file."
                )
            return self._take_over(document, name, incoming)

    def take_back(self, owner: str, doc_id: str, since: datetime) -> None:
        """A document that was deleted `since` then is there again, under a name that is free."""
        with self._naming:
            document = self._any(doc_id)
            name = self._free_name(owner, document.name)
            self._store.documents.restore(owner, doc_id, since, name)
        self._layers.changed()
        # Another light embedder may have taken over meanwhile.
        self._incomplete = True
        if document.state is DocumentState.READING:
            # What held it up may be over, and its ingest with it.
            self._held_up = True

    def require_room(self, size: int = 0) -> None:
        if self._store.full and not self._store.look_for_room():
            raise DiskFull("The disk is full; free some space and add the document again.")
        if self._space is not None:
            self._space.require(size)

    def _again(self, document: Document, incoming: Incoming) -> Document:
        """The same content once more: done already, or tried again if it had failed."""
        if document.state is not DocumentState.FAILED and self._originals.path(document).exists():
            return document
        self._originals.keep(incoming, document.doc_id, document.name)
        self._store.documents.set_state(document.doc_id, DocumentState.READING)
        return self._any(document.doc_id)

    def _take_over(self, document: Document, name: str, incoming: Incoming) -> Document:
        self._may_have(document.owner, incoming.size - document.size)
        path = self._originals.keep(incoming, document.doc_id, name)
        with self._only_if_named(path):
            return self._store.documents.replace_content(
                document.owner,
                document.doc_id,
                name=name,
                source_path=str(path),
                content_hash=incoming.content_hash,
                size=incoming.size,
            )

    def _admit(self, owner: str, name: str, incoming: Incoming) -> Document:
        doc_id = uuid.uuid4().hex
        path = self._originals.keep(incoming, doc_id, name)
        now = self._now()
        document = Document(
            doc_id=doc_id, owner=owner, name=name, source_type=suffix(name).lstrip(".") or "text",
            source_path=str(path), content_hash=incoming.content_hash, size=incoming.size,
            state=DocumentState.READING, created_at=now, updated_at=now,
        )  # fmt: skip
        with self._only_if_named(path):
            return self._store.documents.add(document)

    @contextmanager
    def _only_if_named(self, path: Path) -> Iterator[None]:
        """A file whose row did not come goes again: what is full must not become fuller."""
        try:
            yield
        except (DiskFull, NotFound):
            # It may be that of a version before.
            if path.name not in self._named():
                path.unlink(missing_ok=True)
            raise

    def _free_name(self, owner: str, name: str) -> str:
        stem, suffix = os.path.splitext(name)
        candidate, number = name, 2
        while self._store.documents.find(owner, candidate):
            candidate, number = f"{stem} ({number}){suffix}", number + 1
        return candidate

    # --- reading --------------------------------------------------------------------------

    def ingest(self, doc_id: str) -> Document:
        self._progress[doc_id] = Progress("waiting")
        try:
            with self._lock.ingesting(doc_id):
                return self._ingest(self._any(doc_id))
        except DiskFull:
            # It stays `reading`, and goes on when there is room.
            self._held_up = True
            raise
        except (StorageError, InvalidInput) as error:
            # Else it would stay `reading` for ever, without a word.
            with suppress(StorageError):
                self._store.documents.set_state(doc_id, DocumentState.FAILED, error.message, error.code)
            raise
        finally:
            self._progress.pop(doc_id, None)

    def progress(self, doc_id: str) -> Progress | None:
        return self._progress.get(doc_id)

    @property
    def busy(self) -> bool:
        return bool(self._progress)

    def _ingest(self, document: Document) -> Document:
        doc_id = document.doc_id
        try:
            self._progress[doc_id] = Progress("reading")
            reading = self._reader.read(self._originals.path(document), document.name)
            passages = identified(doc_id, cut(reading))
        except DocumentError as error:
            return self._failed(document, error)
        gone = {p.chunk_id for p in self._store.passages.of_anybody(doc_id)}
        gone.difference_update(p.chunk_id for p in passages)
        leaving = self._layers.vector_ids(list(gone))
        self._store.passages.write(document, reading.source_type, reading.notes, passages)
        self._store.layers.forget_trouble(doc_id)
        self._layers.forget(document.owner, leaving)
        self._layers.changed()
        if self._embed(document, self._lock.is_wanted):
            with self._naming:
                # Not if a newer version was accepted meanwhile: its own ingest waits already.
                if self._store.documents.finish(document):
                    self._originals.remove_others(document)
        return self._any(doc_id)

    def _embed(self, document: Document, go_on: Callable[[], bool]) -> bool:
        """False when it was not to go on. Without an embedder, words find the document all the same."""
        try:
            light = self._layers.serving
            missing = self._store.embeddings.missing(light.layer.embedder_id, document.doc_id)

            def proceed(done: int) -> bool:
                self._progress[document.doc_id] = Progress("embedding", done, len(missing))
                return go_on()

            return light.layer.fill(light.embedder, document.owner, missing, proceed)
        except EmbedderError as error:
            log.debug("a document stays without vectors for now: %s", error.message)
            self._incomplete = True
            return True
        finally:
            self._progress.pop(document.doc_id, None)

    def _failed(self, document: Document, error: DocumentError) -> Document:
        with self._naming:
            if self._store.documents.revert(document):
                self._originals.remove_others(self._any(document.doc_id))
                # The version before may have been interrupted, too.
                self._incomplete = True
                raise error
            if self._originals.path(self._any(document.doc_id)) == self._originals.path(document):
                self._store.documents.set_state(
                    document.doc_id, DocumentState.FAILED, error.message, error.code
                )
        return self._any(document.doc_id)

    # --- going on -------------------------------------------------------------------------

    def resume(self) -> None:
        for document in self._store.documents.unfinished():
            if not self._lock.proceed():
                return
            with self._going_on("an unfinished document was given up"):
                self.ingest(document.doc_id)
        self._sweep_originals()

    def resume_held_up(self) -> None:
        # Else the worker would wait until another document is taken in.
        if self._held_up and not self.busy:
            with suppress(DiskFull):
                self.require_room()
                self._held_up = False
                self.resume()

    def install_samples(self, folder: Path) -> None:
        files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
        for name, path in files.items():
            if not self._lock.proceed():
                return
            with self._going_on("a sample document was left out"):
                document = self.accept(SAMPLE_OWNER, name, path, "replace")
                if document.state is DocumentState.READING:
                    self.ingest(document.doc_id)
        for document in self._store.documents.list(SAMPLE_OWNER):
            if document.name not in files:
                self._store.documents.mark_deleted(
                    SAMPLE_OWNER, document.doc_id, self._now() - timedelta(days=1)
                )

    def complete_vectors(self) -> bool:
        if self._incomplete and not self._waiting:
            # Raises while there is no embedder, so that nothing is tried in vain.
            embedder_id = self._layers.light.embedder_id
            self._incomplete = False
            self._waiting.extend(doc_id for doc_id, _owner in self._layers.waiting(embedder_id))
        if not self._waiting:
            return False
        until, begun = time.monotonic() + PIECE_S, count()

        def go_on() -> bool:
            return self._lock.proceed() and (next(begun) == 0 or time.monotonic() < until)

        with self._lock.within(0) as free:
            return free and self._complete(go_on)

    def _complete(self, go_on: Callable[[], bool]) -> bool:
        """Returns whether more may follow at once."""
        while self._waiting:
            try:
                if not self._embed(self._any(self._waiting[0]), go_on):
                    break
            except NotFound:
                log.debug("a document is gone before it has all its vectors")
            except InvalidInput as error:
                # Words find it all the same, and the others wait for theirs.
                log.warning("a document stays without some of its vectors: %s", error.message)
            self._waiting.popleft()
            if not go_on():
                break
        return bool(self._waiting) and self._lock.proceed()

    @contextmanager
    def _going_on(self, what: str) -> Iterator[None]:
        """One document that cannot be taken in does not hold up the others."""
        try:
            yield
        except CompanionError as error:
            if self._lock.proceed():
                log.warning("%s: %s", what, error.message)

    def _sweep_originals(self) -> None:
        with self._naming:
            self._originals.sweep(self._named())

    def _named(self) -> set[str]:
        return {original_name(*file) for file in self._store.documents.files()}

    def _any(self, doc_id: str) -> Document:
        return self._store.documents.get_any(doc_id)


def identified(doc_id: str, cuts: Sequence[Cut]) -> list[Passage]:
    """Passages with ids that stay as long as their text stays, whatever moves around them."""
    seen: dict[str, int] = {}
    passages = []
    for index, piece in enumerate(cuts):
        text_hash = hashlib.sha256(piece.text.encode()).hexdigest()
        occurrence = seen.get(text_hash, 0)
        seen[text_hash] = occurrence + 1
        chunk_id = f"{doc_id}:{text_hash[:16]}:{occurrence}"
        passages.append(Passage(chunk_id, doc_id, index, piece.text, text_hash, piece.place, piece.tokens))
    return passages


def _in_folder_of(document: str, name: str) -> str:
    """A file picked by hand comes without its folders; it stays where the document is."""
    folder, slash, _file = document.rpartition("/")
    return name if "/" in name else folder + slash + name
