"""The library: documents come in, change, go, and are found.

Knows the order of steps that loses nothing: original, rows, vectors, index. It does not know
conversations, doors, or how a file is read and a question ranked.
"""

from __future__ import annotations

import errno
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
from typing import TYPE_CHECKING, Literal

from companion.domain import (
    SAMPLE_OWNER,
    Cut,
    Document,
    DocumentState,
    Embedder,
    Hit,
    Passage,
    SearchResult,
)
from companion.errors import (
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
from companion.library.chunking import cut
from companion.library.layer import Layer, Scope
from companion.library.readers import ReaderProcess, clean_name
from companion.library.vectors import VectorIndex, vector_id

if TYPE_CHECKING:
    from companion.storage.store import Store

log = logging.getLogger(__name__)

UNDO_S = 10
WAIT_S = 0.2
FULL = (errno.ENOSPC, errno.EDQUOT)
IfExists = Literal["replace", "keep"]


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
        reader: ReaderProcess | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._light_embedder = light
        self._light = Layer(store.embeddings, index, light)
        self._index = index
        self._originals = originals
        self._max_bytes = max_bytes
        self._reader = reader or ReaderProcess()
        self._now = now
        self._progress: dict[str, Progress] = {}
        self._ingesting = threading.Lock()
        # Held while files are moved and rows follow: both must tell of the same version.
        self._naming = threading.Lock()
        self._closing = threading.Event()
        self._opened = False
        self._incomplete = True
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
        name = clean_name(name)
        with self._stored_original(name, source) as (original, content_hash, size), self._naming:
            existing = self._store.documents.find(owner, name)
            if existing and existing[0].content_hash == content_hash:
                return self._again(existing[0], original)
            if existing and if_exists == "replace":
                return self._take_over(existing[0], name, original, content_hash, size)
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
        name = clean_name(name)
        with self._stored_original(name, source) as (original, content_hash, size), self._naming:
            if any(other.doc_id != doc_id for other in self._store.documents.find(owner, name)):
                raise Conflict(f"Another document is already called {name}.")
            return self._take_over(document, name, original, content_hash, size)

    def ingest(self, doc_id: str) -> Document:
        """Read, cut, store and embed an accepted document. One at a time; others wait.

        Ends `searchable`, or `failed` with a sentence. Raises `DocumentError` when a new version
        of a document cannot be read: the old one stays in force.
        """
        self._progress[doc_id] = Progress("waiting")
        try:
            with self._ingesting:
                return self._ingest(self._any(doc_id))
        except (StorageError, InvalidInput) as error:
            # Else it would stay `reading` for ever, without a word.
            with suppress(StorageError):
                self._store.documents.set_state(doc_id, DocumentState.FAILED, error.message)
            raise
        finally:
            self._progress.pop(doc_id, None)

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

    def document(self, owner: str, doc_id: str) -> Document:
        return self._store.documents.get(owner, doc_id)

    def passages(self, owner: str, doc_id: str) -> list[Passage]:
        return self._store.documents.passages(owner, doc_id)

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
        total = self._store.documents.count_passages(owner) + self._store.documents.count_passages(
            SAMPLE_OWNER
        )
        try:
            identity = self._light_embedder.identity
        except EmbedderError as error:
            return LibraryStatus(None, False, "opening", total, 0, error.message)
        embedded = self._store.embeddings.count(identity.embedder_id, (owner, SAMPLE_OWNER))
        index: Literal["opening", "ready", "exact"] = (
            "ready" if self._light.serving else "exact" if self._opened else "opening"
        )
        return LibraryStatus(identity.name, True, index, total, embedded, None)

    # --- going ----------------------------------------------------------------------------

    def delete(self, owner: str, doc_id: str) -> None:
        """Hide a document now; it can be undone for `UNDO_S` seconds, then it is purged."""
        self._own(owner, doc_id)
        self._store.documents.mark_deleted(owner, doc_id, self._now())

    def undo(self, owner: str, doc_id: str) -> Document:
        """Bring a deleted document back. `NotFound` once it is purged."""
        since = self._now() - timedelta(seconds=UNDO_S)
        with self._naming:
            name = self._free_name(owner, self._any(doc_id).name)
            self._store.documents.restore(owner, doc_id, since, name)
        return self._store.documents.get(owner, doc_id)

    def purge_due(self) -> int:
        """Remove for good what was deleted more than `UNDO_S` ago; returns how many."""
        before = self._now() - timedelta(seconds=UNDO_S)
        due = self._store.documents.due_for_purge(before)
        purged = sum(self._purge(document, before) for document in due if self._wait_for_ingest())
        if purged:
            self._store.checkpoint()
        return purged

    # --- being found ----------------------------------------------------------------------

    def search(
        self, owner: str, query: str, top_k: int = 5, doc_ids: Sequence[str] | None = None
    ) -> SearchResult:
        """The passages that answer a question best. Never raises on any text.

        Without `doc_ids` the scope is everything of one's own, or the sample library as long
        as there is nothing of one's own.
        """
        from companion.library.retriever import HybridRetriever

        started = time.perf_counter()
        # A tokenizer refuses half a surrogate pair.
        query = query.encode("utf-8", "replace").decode()
        retriever = HybridRetriever(self._store.documents, self._scope(owner, doc_ids), top_k, self._light)
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

    def uses_samples(self, owner: str) -> bool:
        """Whether questions are answered from the sample library, for want of own documents."""
        return self._store.documents.count_passages(owner) == 0

    # --- the index ------------------------------------------------------------------------

    def warm(self) -> None:
        """Import what search needs, so that the first question does not wait for it."""
        import companion.library.retriever  # noqa: F401

        self._index.warm()

    def open_index(self) -> None:
        """Probe the index in a child, open it, make it agree with SQLite; rebuild it if torn.

        Stored vectors answer exactly until this is done. Needs the embedder to be loaded.
        """
        try:
            if self._index.exists:
                self._index.probe(self._light.samples(self._store.documents.owners()))
            self._connect()
        except IndexUnusable as unusable:
            log.warning("the vector index is set aside and rebuilt: %s", unusable.message)
            self._rebuild()
        finally:
            self._opened = True

    def mend_index(self) -> None:
        """Rebuild the index if it failed since it was opened."""
        if self._opened and not self._light.serving:
            self._rebuild()

    def complete_vectors(self) -> None:
        """Embed passages that have no vectors yet, such as those of an earlier embedder.

        Raises `EmbedderError` where there is none.
        """
        if not self._incomplete:
            return
        # Raises while there is no embedder, so that nothing is tried in vain.
        _ = self._light.embedder_id
        self._incomplete = False
        for owner in self._store.documents.owners():
            for document in self._store.documents.list(owner):
                if not self._wait_for_ingest():
                    return
                with self._ingesting:
                    self._embed(document)

    def stop_working(self) -> None:
        """Have everything long end soon: a reading at once, an embedding after its batch."""
        self._closing.set()
        self._reader.close()

    def close(self) -> None:
        """Let the small batch in flight end, then close the index."""
        self.stop_working()
        ended = self._ingesting.acquire(timeout=5)
        self._index.close()
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

    def _wait_for_ingest(self) -> bool:
        """Wait until nothing is being taken in; False when the app is closing."""
        while not self._closing.is_set():
            if self._ingesting.acquire(timeout=WAIT_S):
                self._ingesting.release()
                return True
        return False

    def _rebuild(self) -> None:
        if not self._closing.is_set():
            self._index.set_aside()
            self._connect()

    def _connect(self) -> None:
        self._index.connect()
        # Asked for only now: what comes in from here on goes into the open index by itself.
        owners = self._store.documents.owners()
        differed = self._light.heal(owners, lambda: not self._closing.is_set())
        if differed is None:
            return
        if differed:
            log.info("the vector index took %d changes from the database", differed)
        self._light.serving = True
        self._light.release()

    def _ingest(self, document: Document) -> Document:
        doc_id = document.doc_id
        try:
            self._progress[doc_id] = Progress("reading")
            reading = self._reader.read(self._original(document), document.name)
            passages = _identified(doc_id, cut(reading))
        except DocumentError as error:
            return self._failed(document, error)
        gone = {p.chunk_id for p in self._store.documents.passages_any(doc_id)}
        gone.difference_update(p.chunk_id for p in passages)
        leaving = self._vector_ids(list(gone))
        self._store.documents.write_passages(doc_id, reading.source_type, reading.notes, passages)
        if leaving:
            self._light.forget(document.owner, leaving)
        if self._embed(document):
            with self._naming:
                # Not if a newer version was accepted meanwhile: its own ingest waits already.
                if self._store.documents.finish(doc_id, document.content_hash):
                    self._remove_other_originals(document)
        return self._any(doc_id)

    def _embed(self, document: Document) -> bool:
        """False when the app is closing. Without an embedder, words find the document all the same."""
        try:
            missing = self._store.embeddings.missing(self._light.embedder_id, document.doc_id)

            def proceed(done: int) -> bool:
                self._progress[document.doc_id] = Progress("embedding", done, len(missing))
                return not self._closing.is_set()

            return self._light.fill(document.owner, missing, proceed)
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
                self._store.documents.set_state(document.doc_id, DocumentState.FAILED, error.message)
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
        incoming = self._originals / f"incoming-{uuid.uuid4().hex}{_suffix(name)}"
        try:
            self._originals.mkdir(parents=True, exist_ok=True)
            content_hash, size = _copy(source, incoming, self._max_bytes, name)
            yield incoming, content_hash, size
        except OSError as error:
            kind = DiskFull if error.errno in FULL else StorageError
            raise kind(f"{name} could not be kept: {error.strerror or error}.") from error
        finally:
            incoming.unlink(missing_ok=True)

    def _again(self, document: Document, incoming: Path) -> Document:
        """The same content once more: done already, or tried again if it had failed."""
        original = self._original(document)
        if document.state is not DocumentState.FAILED and original.exists():
            return document
        incoming.replace(original)
        self._store.documents.set_state(document.doc_id, DocumentState.READING)
        return self._any(document.doc_id)

    def _take_over(
        self, document: Document, name: str, incoming: Path, content_hash: str, size: int
    ) -> Document:
        path = self._original_path(document.doc_id, content_hash, name)
        incoming.replace(path)
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
        incoming.replace(path)
        now = self._now()
        return self._store.documents.add(
            Document(
                doc_id=doc_id, owner=owner, name=name, source_type=_suffix(name).lstrip(".") or "text",
                source_path=str(path), content_hash=content_hash, size=size, state=DocumentState.READING,
                created_at=now, updated_at=now,
            )
        )  # fmt: skip

    def _free_name(self, owner: str, name: str) -> str:
        stem, suffix = os.path.splitext(name)
        candidate, number = name, 2
        while self._store.documents.find(owner, candidate):
            candidate, number = f"{stem} ({number}){suffix}", number + 1
        return candidate

    def _original_path(self, doc_id: str, content_hash: str, name: str) -> Path:
        return self._originals / f"{doc_id}-{content_hash[:16]}{_suffix(name)}"

    def _original(self, document: Document) -> Path:
        # Rebuilt from its parts, so that a moved data folder keeps working.
        return self._original_path(document.doc_id, document.content_hash, document.name)

    def _originals_of(self, document: Document) -> list[Path]:
        return sorted(self._originals.glob(f"{document.doc_id}-*"))

    def _remove_other_originals(self, document: Document) -> None:
        current = self._original(document)
        for path in self._originals_of(document):
            if path != current:
                path.unlink(missing_ok=True)

    def _sweep_originals(self) -> None:
        """Remove files that no document names: a kill between copy and row leaves one."""
        for path in self._leftovers:
            try:
                self._any(path.name.partition("-")[0])
            except NotFound:
                path.unlink(missing_ok=True)

    def _vector_ids(self, chunk_ids: Sequence[str]) -> list[str]:
        if not chunk_ids:
            return []
        try:
            vectors = self._light.vectors(chunk_ids)
        except EmbedderError:
            return []
        return [vector_id(key, window) for key, rows in vectors.items() for window in range(len(rows))]

    def _purge(self, document: Document, before: datetime) -> bool:
        """False if it was brought back meanwhile."""
        with self._ingesting:
            chunk_ids = [p.chunk_id for p in self._store.documents.passages_any(document.doc_id)]
            ids = self._vector_ids(chunk_ids)
            if not self._store.documents.purge(document.doc_id, before):
                return False
            self._light.forget(document.owner, ids)
            for path in self._originals_of(document):
                path.unlink(missing_ok=True)
        return True


def _identified(doc_id: str, cuts: Sequence[Cut]) -> list[Passage]:
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


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()[:16]


def _copy(source: Path | bytes, target: Path, max_bytes: int, name: str) -> tuple[str, int]:
    """Copy into place, synced to disk; returns sha256 and size. Refuses what is too large."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > max_bytes:
        raise DocumentTooLarge(f"{name} has {size / 1e6:.0f} MB; the limit is {max_bytes / 1e6:.0f} MB.")
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
