"""The library: documents come in, change, go, and are found.

The one face of the rooms behind it: intake, originals, search and layers. Knows what may be done to a
document, and when the index is looked after. It does not know conversations, or doors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from companion.domain import (
    SAMPLE_OWNER,
    Document,
    DocumentState,
    Embedder,
    LayerInfo,
    Passage,
    SearchResult,
    Totals,
)
from companion.errors import EmbedderError, IndexUnusable, Refused
from companion.library.ingest_lock import IngestLock
from companion.library.intake import Admit, IfExists, Intake, Progress
from companion.library.language import foreign_share
from companion.library.layers import Layers
from companion.library.originals import Originals
from companion.library.readers import ReaderProcess
from companion.library.search import ScopeSummary, Search
from companion.library.vectors import VectorIndex

if TYPE_CHECKING:
    from companion.storage.space import Space
    from companion.storage.store import Store

UNDO_S = 10
FORGET_S = 30.0
"""Words of replaced versions stay no longer in the files, however much is taken in."""
BEGINNINGS, BEGINNING = 24, 400
"""Documents, and letters of each, that show in which languages a library is."""
MANY_FOREIGN = 0.25
"""Share of documents not in English, from which a multilingual embedder is worth a word. A judgement."""
OWNERS_KNOWN = 100
CLOSING_S = 5.0

IndexState = Literal["opening", "ready", "exact"]
"""Of the index: on its way, answering, or not, so that stored vectors do."""


def _everything(owner: str, size: int, *, documents: int = 0) -> None:
    """There are no limits."""


@dataclass(frozen=True, slots=True)
class LibraryStatus:
    """What search stands on at this moment."""

    embedder: str | None
    """Name of the light embedder; None while it loads."""
    ready: bool
    index: IndexState
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
        space: Space | None = None,
        reader: ReaderProcess | None = None,
        admit: Admit = _everything,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._index = index
        self._now = now
        self._reader = reader or ReaderProcess()
        self._lock = IngestLock()
        self._originals = Originals(originals, max_bytes)
        self.layers = Layers(store, index, light)
        self.deep_reader: Callable[[], Embedder | None] = lambda: None
        """Who reads questions in a deep space, if anybody does just now."""
        self._search = Search(store, self.layers, lambda: self.deep_reader())
        self._intake = Intake(
            store,
            self.layers,
            self._originals,
            self._lock,
            reader=self._reader,
            space=space,
            admit=admit,
            now=now,
        )
        self._foreign: dict[str, tuple[Totals, bool]] = {}
        """Of owners: whether many of their documents were not in English, when they had so many."""
        self._opened = False
        self._compared = False
        self._forgotten_at = time.monotonic()
        self._seen = 0

    # --- coming in ------------------------------------------------------------------------

    def accept(
        self, owner: str, name: str, source: Path | bytes, *, if_exists: IfExists = "replace"
    ) -> Document:
        """Keep the original and list the document as `reading`; `ingest` does the rest.

        The same content under the same name is already there and returned as it is. Other
        content replaces the document or is kept beside it under a name of its own.
        """
        return self._intake.accept(owner, name, source, if_exists)

    def add(
        self, owner: str, name: str, source: Path | bytes, *, if_exists: IfExists = "replace"
    ) -> Document:
        """`accept` and `ingest` in one call."""
        document = self.accept(owner, name, source, if_exists=if_exists)
        return self.ingest(document.doc_id) if document.state is DocumentState.READING else document

    def replace(self, owner: str, doc_id: str, name: str, source: Path | bytes) -> Document:
        """Accept new content for a document; passages whose text stays keep their vectors."""
        return self._intake.replace(self._own(owner, doc_id), name, source)

    def ingest(self, doc_id: str) -> Document:
        """Read, cut, store and embed an accepted document. One at a time; others wait.

        Ends `searchable`, or `failed` with a sentence. Raises `DocumentError` when a new version
        of a document cannot be read: the old one stays in force; and `DiskFull`, after which it goes
        on by itself when there is room.
        """
        return self._intake.ingest(doc_id)

    def progress(self, doc_id: str) -> Progress | None:
        """How far an ingest is; None when none is running."""
        return self._intake.progress(doc_id)

    @property
    def busy(self) -> bool:
        """Documents are being taken in."""
        return self._intake.busy

    def require_room(self, size: int = 0) -> None:
        """Raises `DiskFull` if the disk has too little left for documents of `size` bytes."""
        self._intake.require_room(size)

    def install_samples(self, folder: Path) -> None:
        """Take in the bundled sample library; a changed or vanished file follows."""
        self._intake.install_samples(folder)

    def resume(self) -> None:
        """Finish what an earlier run of the app left half done."""
        self._intake.resume()

    def resume_held_up(self) -> None:
        """Go on with documents that a full disk stopped, once there is room for documents."""
        self._intake.resume_held_up()

    def complete_vectors(self) -> bool:
        """Embed for some seconds passages that have no vectors yet, such as those of an earlier embedder,
        while nothing is taken in; returns whether the next call may follow at once.

        Raises `EmbedderError` where there is none.
        """
        return self._intake.complete_vectors()

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
            texts = self._store.passages.beginnings(owner, BEGINNINGS, BEGINNING)
            if len(self._foreign) >= OWNERS_KNOWN:
                self._foreign.clear()
            self._foreign[owner] = known = totals, foreign_share(texts) >= MANY_FOREIGN
        return known[1]

    def document(self, owner: str, doc_id: str) -> Document:
        return self._store.documents.get(owner, doc_id)

    def passages(self, owner: str, doc_id: str) -> list[Passage]:
        return self._store.passages.of(owner, doc_id)

    def openings(self, owner: str, source_type: str) -> dict[str, str]:
        """The text that each document of a kind begins with, by its id."""
        return self._store.passages.openings(owner, source_type)

    def passage(self, owner: str, chunk_id: str) -> tuple[Passage, Document]:
        return self._store.passages.get(owner, chunk_id)

    def neighbours(self, owner: str, chunk_id: str, before: int = 1, after: int = 1) -> list[Passage]:
        """The passages around one, without it, in order."""
        self.passage(owner, chunk_id)
        return self._store.passages.neighbours(chunk_id, before, after)

    def original(self, owner: str, doc_id: str) -> Path:
        """The file as it was given."""
        return self._originals.path(self.document(owner, doc_id))

    def status(self, owner: str) -> LibraryStatus:
        """What search stands on at this moment: one's own documents, or the sample library as long
        as it answers."""
        owners = self._search.scope(owner, None).owners
        total = self._store.documents.totals(owners).passages
        try:
            identity = self.layers.serving.embedder.identity
        except EmbedderError as error:
            return LibraryStatus(None, False, "opening", total, 0, error.message)
        embedded = self._store.embeddings.count(identity.embedder_id, owners)
        return LibraryStatus(identity.name, True, self.index_state, total, embedded, None)

    @property
    def index_state(self) -> IndexState:
        """Nothing is read for it, so it is known of a torn database too."""
        return "ready" if self.layers.light.serving else "exact" if self._opened else "opening"

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
        self._intake.take_back(owner, doc_id, self._now() - timedelta(seconds=UNDO_S))
        return self.document(owner, doc_id)

    def purge_due(self) -> int:
        """Remove for good what was deleted more than `UNDO_S` ago, and every trace of it and of what
        was replaced; returns how many."""
        before = self._now() - timedelta(seconds=UNDO_S)
        due = self._store.documents.due_for_purge(before)
        purged = sum(self._purge(document, before) for document in due)
        # Many versions may be replaced one after the other; their words are forgotten together.
        if purged or not self.busy or time.monotonic() - self._forgotten_at >= FORGET_S:
            self._store.forget_deleted(self._lock.proceed)
            self._forgotten_at = time.monotonic()
        self._store.tidy()
        return purged

    def _own(self, owner: str, doc_id: str) -> Document:
        document = self._store.documents.get(owner, doc_id)
        if document.owner != owner:
            raise Refused("The sample library cannot be changed.")
        return document

    def _purge(self, document: Document, before: datetime) -> bool:
        """False if it was brought back meanwhile, is taken in just now, or the app is closing."""
        with self._lock.purging(document.doc_id) as free:
            if not free:
                return False
            chunk_ids = [p.chunk_id for p in self._store.passages.of_anybody(document.doc_id)]
            leaving = self.layers.vector_ids(chunk_ids)
            if not self._store.documents.purge(document.doc_id, before):
                return False
            self.layers.forget(document.owner, leaving)
            self._originals.remove(document)
        return True

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
        return self._search.find(owner, query, top_k, doc_ids, embed_deep)

    def uses_samples(self, owner: str) -> bool:
        """Whether questions are answered from the sample library, for want of own documents."""
        return self._search.uses_samples(owner)

    def scope_of(self, owner: str, doc_ids: Sequence[str] | None = None) -> ScopeSummary:
        """What `search` looks through with these arguments, counted; nothing of it is read."""
        return self._search.summary(owner, doc_ids)

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
                self.layers.open(self._lock.proceed)
        finally:
            self._opened = True
        self.compare_index()

    def mend_index(self) -> None:
        """Rebuild the index if it failed since it was opened; open it if that had to wait."""
        if not self._opened:
            self.open_index()
            return
        with self._room_for_the_index():
            self.layers.mend(self._lock.proceed)

    def check_index(self) -> None:
        """After a job, when nothing was written any more since the last call, compare; and make the index
        anew if much of it was deleted."""
        before, self._seen = self._seen, self.layers.changes
        if not self._opened or self._seen != before:
            return
        if not (self._compared and self.layers.agreed):
            self.compare_index()
        if not self.busy:
            with self._room_for_the_index():
                self.layers.renew(self._lock.proceed)

    def compare_index(self) -> None:
        """Make index and SQLite agree, to the last id. Not during an ingest: `check_index` comes back to
        that."""
        with self._lock.within(0) as free:
            if free:
                self.layers.agree(self._lock.proceed)
            self._compared = free

    def change_light(self, embedder: Embedder) -> bool:
        """Answer with this light embedder from now on. False, and nothing happens, while a passage has
        no vectors of it, or a document is being taken in."""
        with self._lock.within(0) as free:
            return free and self.layers.take_over(embedder)

    @contextmanager
    def _room_for_the_index(self) -> Iterator[None]:
        """Where an index cannot be written for want of room, that is what is said."""
        try:
            yield
        except IndexUnusable:
            self.require_room()
            raise

    # --- ending ---------------------------------------------------------------------------

    def stop_working(self) -> None:
        """Have everything long end soon: a reading at once, an embedding after its batch."""
        self._lock.close()
        self._reader.close()

    def close(self) -> None:
        """Let the small batch in flight end, then close the index."""
        self.stop_working()
        with self._lock.within(CLOSING_S):
            self.layers.close()
