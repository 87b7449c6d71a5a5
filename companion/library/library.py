"""The library: documents come in, change, go, and are found.

Knows the order of steps that loses nothing: original, rows, vectors, index. It does not know
conversations, doors, or how a file is read and a question ranked.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from companion.domain import (
    SAMPLE_OWNER,
    Cut,
    Document,
    DocumentState,
    Embedder,
    Hit,
    LayerInfo,
    Passage,
    SearchResult,
    Totals,
)
from companion.errors import (
    FULL,
    CompanionError,
    Conflict,
    DiskFull,
    DocumentError,
    DocumentTooLarge,
    EmbedderError,
    IndexUnusable,
    InvalidInput,
    NotFound,
    Refused,
    StorageError,
)
from companion.inference.files import flush
from companion.library.chunking import cut
from companion.library.language import foreign_share
from companion.library.layer import Layer, Scope
from companion.library.layers import Layers
from companion.library.originals import original_name, suffix
from companion.library.readers import ReaderProcess, clean_name
from companion.library.vectors import VectorIndex

if TYPE_CHECKING:
    from companion.storage.space import Space
    from companion.storage.store import Store

log = logging.getLogger(__name__)

UNDO_S = 10
WAIT_S = 0.2
FORGET_S = 30.0
BEGINNINGS, BEGINNING = 24, 400
"""Documents, and letters of each, that show in which languages a library is."""
MANY_FOREIGN = 0.25
"""Share of documents not in English, from which a multilingual embedder is worth a word. A judgement."""
OWNERS_KNOWN = 100
"""Words of replaced versions stay no longer in the files, however much is taken in."""
IfExists = Literal["replace", "keep"]


class Admit(Protocol):
    """Whether an owner may have so many more bytes and documents. Raises TooMany."""

    def __call__(self, owner: str, size: int, *, documents: int = 0) -> None: ...


def _everything(owner: str, size: int, *, documents: int = 0) -> None:
    """There are no limits."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a document is that is being taken in."""

    stage: Literal["waiting", "reading", "embedding"]
    done: int = 0
    """Passages embedded."""
    total: int = 0


@dataclass(frozen=True, slots=True)
class LibraryStatus:
    """What search stands on at this moment."""

    embedder: str | None
    """Name of the light embedder; None while it loads."""
    ready: bool
    index: Literal["opening", "ready", "exact"]
    passages: int
    embedded: int
    error: str | None


@dataclass(frozen=True, slots=True)
class ScopeSummary:
    """What a search looks through, counted."""

    documents: int
    """Those that have passages."""
    passages: int
    samples: bool
    """The sample library or a part of it: chosen, or for want of anything of one's own."""
    chosen: bool
    """Chosen documents only; else everything of one's own."""
    missing: int
    """Chosen documents that are gone."""


class Library:
    """Documents of all owners. Sync and thread-safe; long calls belong in threads."""

    def __init__(
        self,
        store: Store,
        light: Embedder,
        index: VectorIndex,
        *,
        originals: Path,
        max_bytes: int,
        space: Space | None = None,
        reader: ReaderProcess | None = None,
        admit: Admit = _everything,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self.layers = Layers(store, index, light)
        self._index = index
        self._originals = originals
        self._max_bytes = max_bytes
        self._space = space
        self._may_have = admit
        self._reader = reader or ReaderProcess()
        self._now = now
        self.deep_reader: Callable[[], Embedder | None] = lambda: None
        """Who reads questions in a deep space, if anybody does just now."""
        self._progress: dict[str, Progress] = {}
        self._foreign: dict[str, tuple[Totals, bool]] = {}
        """Of owners: whether many of their documents were not in English, when they had so many."""
        self._ingesting = threading.Lock()
        # Held while files are moved and rows follow: both must tell of the same version.
        self._naming = threading.Lock()
        self._closing = threading.Event()
        self._opened = False
        self._incomplete = True
        self._forgotten_at = time.monotonic()
        self._seen = 0
        self._held_up = False
        # Only what lay there before anybody could upload may be swept.
        self._leftovers = sorted(originals.glob("*"))

    # --- coming in ------------------------------------------------------------------------

    def accept(
        self, owner: str, name: str, source: Path | bytes, *, if_exists: IfExists = "replace"
    ) -> Document:
        """Keep the original and list the document as `reading`; `ingest` does the rest.

        The same content under the same name is already there and returned as it is. Other
        content replaces the document or is kept beside it under a name of its own.
        """
        # Without the samples there would be nothing to show.
        if owner != SAMPLE_OWNER:
            self.require_room()
        name = clean_name(name)
        with self._stored_original(name, source) as (original, content_hash, size), self._naming:
            existing = self._store.documents.find(owner, name)
            if existing and existing[0].content_hash == content_hash:
                return self._again(existing[0], original)
            if existing and if_exists == "replace":
                return self._take_over(existing[0], name, original, content_hash, size)
            self._may_have(owner, size, documents=1)
            return self._admit(owner, self._free_name(owner, name), original, content_hash, size)

    def add(
        self, owner: str, name: str, source: Path | bytes, *, if_exists: IfExists = "replace"
    ) -> Document:
        """`accept` and `ingest` in one call."""
        document = self.accept(owner, name, source, if_exists=if_exists)
        return self.ingest(document.doc_id) if document.state is DocumentState.READING else document

    def replace(self, owner: str, doc_id: str, name: str, source: Path | bytes) -> Document:
        """Accept new content for a document; passages whose text stays keep their vectors."""
        document = self._own(owner, doc_id)
        self.require_room()
        name = _in_folder_of(document.name, clean_name(name))
        with self._stored_original(name, source) as (original, content_hash, size), self._naming:
            if any(other.doc_id != doc_id for other in self._store.documents.find(owner, name)):
                raise Conflict(
                    f"Another document is already called {name}; replace that one, or rename the file."
                )
            return self._take_over(document, name, original, content_hash, size)

    def ingest(self, doc_id: str) -> Document:
        """Read, cut, store and embed an accepted document. One at a time; others wait.

        Ends `searchable`, or `failed` with a sentence. Raises `DocumentError` when a new version
        of a document cannot be read: the old one stays in force; and `DiskFull`, after which it goes
        on by itself when there is room.
        """
        self._progress[doc_id] = Progress("waiting")
        try:
            with self._ingesting:
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

    def require_room(self, size: int = 0) -> None:
        """Raises `DiskFull` if the disk has too little left for documents of `size` bytes."""
        if self._store.full and not self._store.look_for_room():
            raise DiskFull("The disk is full; free some space and add the document again.")
        if self._space is not None:
            self._space.require(size)

    def progress(self, doc_id: str) -> Progress | None:
        """How far an ingest is; None when none is running."""
        return self._progress.get(doc_id)

    def resume(self) -> None:
        """Finish what an earlier run of the app left half done."""
        for document in self._store.documents.unfinished():
            if self._closing.is_set():
                return
            with self._going_on("an unfinished document was given up"):
                self.ingest(document.doc_id)
        self._sweep_originals()

    def resume_held_up(self) -> None:
        """Go on with documents that a full disk stopped, once there is room for documents."""
        if self._held_up:
            with suppress(DiskFull):
                self.require_room()
                self._held_up = False
                self.resume()

    def install_samples(self, folder: Path) -> None:
        """Take in the bundled sample library; a changed or vanished file follows."""
        files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
        for name, path in files.items():
            if self._closing.is_set():
                return
            with self._going_on("a sample document was left out"):
                self.add(SAMPLE_OWNER, name, path)
        for document in self._store.documents.list(SAMPLE_OWNER):
            if document.name not in files:
                self._store.documents.mark_deleted(
                    SAMPLE_OWNER, document.doc_id, self._now() - timedelta(days=1)
                )

    # --- being there ----------------------------------------------------------------------

    def documents(self, owner: str) -> list[Document]:
        """One's own documents, newest first, then the sample library's."""
        return self._store.documents.list(owner) + self._store.documents.list(SAMPLE_OWNER)

    def totals(self, owner: str) -> Totals:
        """One's own documents, counted; nothing of them is read."""
        return self._store.documents.totals((owner,))

    def is_foreign(self, owner: str) -> bool:
        """Whether many of one's own documents are not in English; looked at again when they change."""
        totals = self.totals(owner)
        known = self._foreign.get(owner)
        if known is None or known[0] != totals:
            texts = self._store.documents.beginnings(owner, BEGINNINGS, BEGINNING)
            if len(self._foreign) >= OWNERS_KNOWN:
                self._foreign.clear()
            self._foreign[owner] = known = totals, foreign_share(texts) >= MANY_FOREIGN
        return known[1]

    def document(self, owner: str, doc_id: str) -> Document:
        return self._store.documents.get(owner, doc_id)

    def passages(self, owner: str, doc_id: str) -> list[Passage]:
        return self._store.documents.passages(owner, doc_id)

    def openings(self, owner: str, source_type: str) -> dict[str, str]:
        """The text that each document of a kind begins with, by its id."""
        return self._store.documents.openings(owner, source_type)

    def passage(self, owner: str, chunk_id: str) -> tuple[Passage, Document]:
        return self._store.documents.passage(owner, chunk_id)

    def neighbours(self, owner: str, chunk_id: str, before: int = 1, after: int = 1) -> list[Passage]:
        """The passages around one, without it, in order."""
        self.passage(owner, chunk_id)
        return self._store.documents.neighbours(chunk_id, before, after)

    def original(self, owner: str, doc_id: str) -> Path:
        """The file as it was given."""
        return self._original(self.document(owner, doc_id))

    def status(self, owner: str) -> LibraryStatus:
        """What search stands on at this moment."""
        total = self._store.documents.totals((owner, SAMPLE_OWNER)).passages
        try:
            identity = self.layers.serving.embedder.identity
        except EmbedderError as error:
            return LibraryStatus(None, False, "opening", total, 0, error.message)
        embedded = self._store.embeddings.count(identity.embedder_id, (owner, SAMPLE_OWNER))
        index: Literal["opening", "ready", "exact"] = (
            "ready" if self.layers.light.serving else "exact" if self._opened else "opening"
        )
        return LibraryStatus(identity.name, True, index, total, embedded, None)

    def deep_layers(self, owner: str) -> list[LayerInfo]:
        """Those of one's own documents, or of the sample library as long as it answers."""
        return self.layers.deep(SAMPLE_OWNER if self.uses_samples(owner) else owner)

    # --- going ----------------------------------------------------------------------------

    def delete(self, owner: str, doc_id: str) -> None:
        """Hide a document now; it can be undone for `UNDO_S` seconds, then it is purged."""
        self._own(owner, doc_id)
        self._store.documents.mark_deleted(owner, doc_id, self._now())
        self.layers.changed()

    def undo(self, owner: str, doc_id: str) -> Document:
        """Bring a deleted document back. `NotFound` once it is purged."""
        since = self._now() - timedelta(seconds=UNDO_S)
        with self._naming:
            name = self._free_name(owner, self._any(doc_id).name)
            self._store.documents.restore(owner, doc_id, since, name)
        self.layers.changed()
        # Another light embedder may have taken over meanwhile.
        self._incomplete = True
        return self._store.documents.get(owner, doc_id)

    def purge_due(self) -> int:
        """Remove for good what was deleted more than `UNDO_S` ago, and every trace of it and of what
        was replaced; returns how many."""
        before = self._now() - timedelta(seconds=UNDO_S)
        due = self._store.documents.due_for_purge(before)
        purged = sum(self._purge(document, before) for document in due)
        # Many versions may be replaced one after the other; their words are forgotten together.
        if purged or not self._progress or time.monotonic() - self._forgotten_at >= FORGET_S:
            self._store.forget_deleted(self._proceed)
            self._forgotten_at = time.monotonic()
        self._store.tidy()
        return purged

    # --- being found ----------------------------------------------------------------------

    def search(
        self,
        owner: str,
        query: str,
        top_k: int = 5,
        doc_ids: Sequence[str] | None = None,
        *,
        embed_deep: str | None = None,
    ) -> SearchResult:
        """The passages that answer a question best. Never raises on any text.

        Without `doc_ids` the scope is everything of one's own, or the sample library as long
        as there is nothing of one's own. `embed_deep`: the deep embedder to prefer, if its layer
        was whole once.
        """
        from companion.library.retriever import Deep, HybridRetriever

        started = time.perf_counter()
        # A tokenizer refuses half a surrogate pair.
        query = query.encode("utf-8", "replace").decode()
        scope = self._scope(owner, doc_ids)
        light, deep = self.layers.serving, self.layers.deep_for(scope, embed_deep)
        retriever = HybridRetriever(
            self._store.documents,
            scope,
            top_k,
            light.layer,
            light.embedder,
            Deep(*deep, self._reader_for(deep[0])) if deep else None,
        )
        nodes = retriever.retrieve(query)
        cosines = retriever.similarity([node.node.node_id for node in nodes])
        hits = []
        for node in nodes:
            key = node.node.node_id
            passage, name = retriever.found[key]
            layers = tuple(layer for layer, ranking in retriever.rankings.items() if key in ranking)
            hits.append(Hit(passage, name, node.score or 0.0, layers, cosines.get(key)))
        took_ms = (time.perf_counter() - started) * 1000
        return SearchResult(tuple(hits), tuple(retriever.rankings), took_ms, tuple(retriever.notices))

    def _reader_for(self, layer: Layer) -> Embedder | None:
        reader = self.deep_reader()
        return reader if reader and reader.identity.embedder_id == layer.embedder_id else None

    def uses_samples(self, owner: str) -> bool:
        """Whether questions are answered from the sample library, for want of own documents."""
        return not self._store.documents.has_passages(owner)

    def scope_of(self, owner: str, doc_ids: Sequence[str] | None = None) -> ScopeSummary:
        """What `search` looks through with these arguments, counted; nothing of it is read."""
        own = self._store.documents.totals((owner,), doc_ids)
        samples = self._store.documents.totals((SAMPLE_OWNER,), doc_ids)
        if doc_ids is None:
            searched = own if own.passages else samples
            return ScopeSummary(searched.searchable, searched.passages, not own.passages, False, 0)
        return ScopeSummary(
            documents=own.searchable + samples.searchable,
            passages=own.passages + samples.passages,
            samples=samples.documents > 0,
            chosen=True,
            missing=len(set(doc_ids)) - own.documents - samples.documents,
        )

    # --- the index ------------------------------------------------------------------------

    def warm(self) -> None:
        """Import what search needs, so that the first question does not wait for it."""
        import companion.library.retriever  # noqa: F401

        self._index.warm()

    def open_index(self) -> None:
        """Probe the index in a child, open it, make it agree with SQLite; rebuild it if torn.

        Stored vectors answer exactly until this is done. Raises `EmbedderError` while there is no
        embedder: nobody knows then what the index should hold.
        """
        _ = self.layers.light.embedder_id
        try:
            with self._room_for_the_index():
                self.layers.open(self._proceed)
        finally:
            self._opened = True
        self.compare_index()

    def mend_index(self) -> None:
        """Rebuild the index if it failed since it was opened; open it if that had to wait."""
        if not self._opened:
            self.open_index()
            return
        with self._room_for_the_index():
            self.layers.mend(self._proceed)

    def check_index(self) -> None:
        """After a job, when nothing was written any more since the last call, compare; and make the index
        anew if much of it was deleted."""
        before, self._seen = self._seen, self.layers.changes
        if not self._opened or self._seen != before:
            return
        if not self.layers.agreed:
            self.compare_index()
        if not self.busy:
            with self._room_for_the_index():
                self.layers.renew(self._proceed)

    def compare_index(self) -> None:
        """Make index and SQLite agree, to the last id."""
        with self._between_ingests() as free:
            if free:
                self.layers.agree(self._proceed)

    def complete_vectors(self) -> None:
        """Embed passages that have no vectors yet, such as those of an earlier embedder.

        Raises `EmbedderError` where there is none.
        """
        if not self._incomplete:
            return
        # Raises while there is no embedder, so that nothing is tried in vain.
        embedder_id = self.layers.light.embedder_id
        self._incomplete = False
        try:
            for doc_id, _owner in self.layers.waiting(embedder_id):
                with self._between_ingests() as free, suppress(NotFound):
                    if not free:
                        return
                    self._embed(self._any(doc_id))
        except StorageError:
            self._incomplete = True
            raise

    @property
    def busy(self) -> bool:
        """Documents are being taken in."""
        return bool(self._progress)

    def change_light(self, embedder: Embedder) -> bool:
        """Answer with this light embedder from now on. False, and nothing happens, while a passage has
        no vectors of it, or a document is being taken in."""
        if not self._ingesting.acquire(blocking=False):
            return False
        try:
            return self.layers.take_over(embedder)
        finally:
            self._ingesting.release()

    def stop_working(self) -> None:
        """Have everything long end soon: a reading at once, an embedding after its batch."""
        self._closing.set()
        self._reader.close()

    def close(self) -> None:
        """Let the small batch in flight end, then close the index."""
        self.stop_working()
        ended = self._ingesting.acquire(timeout=5)
        self.layers.close()
        if ended:
            self._ingesting.release()

    # --- inside ---------------------------------------------------------------------------

    @contextmanager
    def _going_on(self, what: str) -> Iterator[None]:
        """One document that cannot be taken in does not hold up the others."""
        try:
            yield
        except CompanionError as error:
            if not self._closing.is_set():
                log.warning("%s: %s", what, error.message)

    @contextmanager
    def _room_for_the_index(self) -> Iterator[None]:
        """Where an index cannot be written for want of room, that is what is said."""
        try:
            yield
        except IndexUnusable:
            self.require_room()
            raise

    @contextmanager
    def _between_ingests(self) -> Iterator[bool]:
        """A time in which nothing is taken in; False, and no such time, when the app is closing."""
        held = False
        while not held and not self._closing.is_set():
            held = self._ingesting.acquire(timeout=WAIT_S)
        try:
            yield held
        finally:
            if held:
                self._ingesting.release()

    def _proceed(self) -> bool:
        return not self._closing.is_set()

    def _ingest(self, document: Document) -> Document:
        doc_id = document.doc_id
        try:
            self._progress[doc_id] = Progress("reading")
            reading = self._reader.read(self._original(document), document.name)
            passages = identified(doc_id, cut(reading))
        except DocumentError as error:
            return self._failed(document, error)
        gone = {p.chunk_id for p in self._store.documents.passages_any(doc_id)}
        gone.difference_update(p.chunk_id for p in passages)
        leaving = self.layers.vector_ids(list(gone))
        self._store.documents.write_passages(doc_id, reading.source_type, reading.notes, passages)
        self._store.layers.forget_trouble(doc_id)
        self.layers.forget(document.owner, leaving)
        self.layers.changed()
        if self._embed(document):
            with self._naming:
                # Not if a newer version was accepted meanwhile: its own ingest waits already.
                if self._store.documents.finish(doc_id, document.content_hash):
                    self._remove_other_originals(document)
        return self._any(doc_id)

    def _embed(self, document: Document) -> bool:
        """False when the app is closing. Without an embedder, words find the document all the same."""
        try:
            light = self.layers.serving
            missing = self._store.embeddings.missing(light.layer.embedder_id, document.doc_id)

            def proceed(done: int) -> bool:
                self._progress[document.doc_id] = Progress("embedding", done, len(missing))
                return not self._closing.is_set()

            return light.layer.fill(light.embedder, document.owner, missing, proceed)
        except EmbedderError as error:
            log.debug("a document stays without vectors for now: %s", error.message)
            self._incomplete = True
            return True
        finally:
            self._progress.pop(document.doc_id, None)

    def _failed(self, document: Document, error: DocumentError) -> Document:
        with self._naming:
            if self._store.documents.revert(document.doc_id, document.content_hash):
                self._remove_other_originals(self._any(document.doc_id))
                raise error
            if self._any(document.doc_id).content_hash == document.content_hash:
                self._store.documents.set_state(
                    document.doc_id, DocumentState.FAILED, error.message, error.code
                )
        return self._any(document.doc_id)

    def _scope(self, owner: str, doc_ids: Sequence[str] | None) -> Scope:
        if doc_ids is not None:
            return Scope((owner, SAMPLE_OWNER), tuple(doc_ids))
        return Scope((SAMPLE_OWNER if self.uses_samples(owner) else owner,))

    def _own(self, owner: str, doc_id: str) -> Document:
        document = self._store.documents.get(owner, doc_id)
        if document.owner != owner:
            raise Refused("The sample library cannot be changed.")
        return document

    def _any(self, doc_id: str) -> Document:
        return self._store.documents.get_any(doc_id)

    @contextmanager
    def _stored_original(self, name: str, source: Path | bytes) -> Iterator[tuple[Path, str, int]]:
        """A safe copy of the source in the originals' folder, until the block names it."""
        incoming = self._originals / f"incoming-{uuid.uuid4().hex}{suffix(name)}"
        try:
            self._originals.mkdir(parents=True, exist_ok=True)
            content_hash, size = _copy(source, incoming, self._max_bytes, name)
            yield incoming, content_hash, size
        except OSError as error:
            if error.errno in FULL:
                raise DiskFull(
                    f"{name} could not be kept, the disk is full; make room and add it again."
                ) from error
            raise StorageError(
                f"{name} could not be kept ({error.strerror or error}); mend this and add it again."
            ) from error
        finally:
            incoming.unlink(missing_ok=True)

    def _again(self, document: Document, incoming: Path) -> Document:
        """The same content once more: done already, or tried again if it had failed."""
        original = self._original(document)
        if document.state is not DocumentState.FAILED and original.exists():
            return document
        self._keep(incoming, original)
        self._store.documents.set_state(document.doc_id, DocumentState.READING)
        return self._any(document.doc_id)

    def _take_over(
        self, document: Document, name: str, incoming: Path, content_hash: str, size: int
    ) -> Document:
        self._may_have(document.owner, size - document.size)
        path = self._original_path(document.doc_id, content_hash, name)
        self._keep(incoming, path)
        return self._store.documents.replace_content(
            document.owner,
            document.doc_id,
            name=name,
            source_path=str(path),
            content_hash=content_hash,
            size=size,
        )

    def _admit(self, owner: str, name: str, incoming: Path, content_hash: str, size: int) -> Document:
        doc_id = uuid.uuid4().hex
        path = self._original_path(doc_id, content_hash, name)
        self._keep(incoming, path)
        now = self._now()
        return self._store.documents.add(
            Document(
                doc_id=doc_id, owner=owner, name=name, source_type=suffix(name).lstrip(".") or "text",
                source_path=str(path), content_hash=content_hash, size=size, state=DocumentState.READING,
                created_at=now, updated_at=now,
            )
        )  # fmt: skip

    def _keep(self, incoming: Path, path: Path) -> None:
        """Under this name, also when the power goes: the row that follows says that it is there."""
        incoming.replace(path)
        flush(self._originals)

    def _free_name(self, owner: str, name: str) -> str:
        stem, suffix = os.path.splitext(name)
        candidate, number = name, 2
        while self._store.documents.find(owner, candidate):
            candidate, number = f"{stem} ({number}){suffix}", number + 1
        return candidate

    def _original_path(self, doc_id: str, content_hash: str, name: str) -> Path:
        return self._originals / original_name(doc_id, content_hash, name)

    def _original(self, document: Document) -> Path:
        return self._original_path(document.doc_id, document.content_hash, document.name)

    def _originals_of(self, document: Document) -> list[Path]:
        return sorted(self._originals.glob(f"{document.doc_id}-*"))

    def _remove_other_originals(self, document: Document) -> None:
        current = self._original(document)
        for path in self._originals_of(document):
            if path != current:
                path.unlink(missing_ok=True)

    def _sweep_originals(self) -> None:
        """Remove files that no document names: a kill between file and row leaves one."""
        with self._naming:
            named = {original_name(*file) for file in self._store.documents.files()}
            for path in self._leftovers:
                if path.name not in named:
                    path.unlink(missing_ok=True)

    def _purge(self, document: Document, before: datetime) -> bool:
        """False if it was brought back meanwhile, or the app is closing."""
        with self._between_ingests() as free:
            if not free:
                return False
            chunk_ids = [p.chunk_id for p in self._store.documents.passages_any(document.doc_id)]
            leaving = self.layers.vector_ids(chunk_ids)
            if not self._store.documents.purge(document.doc_id, before):
                return False
            self.layers.forget(document.owner, leaving)
            for path in self._originals_of(document):
                path.unlink(missing_ok=True)
        return True


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


def _copy(source: Path | bytes, target: Path, max_bytes: int, name: str) -> tuple[str, int]:
    """Copy into place, synced to disk; returns sha256 and size. Refuses what is too large."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > max_bytes:
        raise DocumentTooLarge(
            f"{name} has {size / 1e6:.0f} MB; the limit is {max_bytes / 1e6:.0f} MB. "
            "Split it and add the parts."
        )
    if isinstance(source, bytes):
        target.write_bytes(source)
    else:
        shutil.copyfile(source, target)
    with target.open("rb") as written:
        os.fsync(written.fileno())
    return _hash_file(target)


def _hash_file(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
