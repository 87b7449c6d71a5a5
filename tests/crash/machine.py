"""A library against a dictionary: whatever is done in whatever order, both hold the same.

A kill is an exception that nobody catches, at any step of what is being done; then the objects are
thrown away, and others begin with what is on the disk.
"""

import shutil
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from companion.backup.restore import restore
from companion.backup.take import take
from companion.config import Settings
from companion.domain import Reading, Section
from companion.errors import Conflict, NotFound
from companion.library.library import Library
from companion.library.vectors import VectorIndex, collection_name, vector_id
from companion.storage.store import Store
from tests.fakes import FakeDeep, FakeEmbedder

ME = "local"
LIGHT = ("bag-of-words", "other-bag")
WORDS = st.lists(st.sampled_from("bee lava owl harbour lamp whale tea moss".split()), min_size=2, max_size=6)
NAMES = st.sampled_from(["one.txt", "two.txt", "three.txt", "four.txt", "five.txt"])
DEEP = ("deep-bag", "deeper-bag")
STEPS = st.sampled_from([
    "documents.add", "documents.replace_content", "passages.write", "documents.finish",
    "documents.purge", "embeddings.save", "index.upsert", "index.delete", "index.drop", "index.set_aside",
    "index.connect", "layers.put_in_force", "settings.save", "originals.remove_others",
])  # fmt: skip
"""Where somebody is killed: before the step, or right after it."""


class Killed(BaseException):
    """Nobody catches it."""


class Reader:
    """Reads text without a child: what is sandboxed about reading is tested elsewhere."""

    def read(self, path, name):
        return Reading("text", (Section(path.read_text()),))

    def close(self):
        """Nothing to end."""


class LibraryMachine(RuleBasedStateMachine):
    documents = Bundle("documents")
    hidden = Bundle("hidden")

    @initialize()
    def begin(self):
        self.place = Path(tempfile.mkdtemp(prefix="machine-"))
        self.folder = self.place / "data"
        self.saved = None
        self.restores = 0
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.kept = {}
        """Document to its name and text."""
        self.light, self.deep = LIGHT[0], DEEP[0]
        self.open()

    def open(self):
        self.make()
        self.get_ready()

    def make(self):
        self.store = Store.open(self.folder / "companion.db")
        self.embedders = {name: FakeDeep(name) for name in DEEP}
        for each in self.embedders.values():
            each.start()
        self.index = VectorIndex(self.folder / "index")
        self.library = Library(
            self.store, FakeEmbedder(self.light), self.index,
            originals=self.folder / "originals", max_bytes=10_000, reader=Reader(), now=lambda: self.now,
        )  # fmt: skip

    def get_ready(self):
        self.library.resume()
        self.library.open_index()
        while self.library.complete_vectors():
            pass

    def close(self):
        self.library.close()
        self.store.close()

    def drop(self, lost=False):
        """Without a word to anybody; perhaps with the last writes of the index lost."""
        self.index.close()
        self.store.close()
        if lost:
            shutil.rmtree(self.index.generation(), ignore_errors=True)

    @contextmanager
    def killed_at(self, step, after, lost):
        """What is done inside is cut off at the step, if it comes to that, and all starts anew."""
        room, _, name = step.partition(".")
        places = {"index": self.index, "originals": self.library._originals}
        place = places.get(room) or getattr(self.store, room)
        usual = getattr(place, name)

        def die(*arguments, **more):
            if after:
                usual(*arguments, **more)
            raise Killed

        setattr(place, name, die)
        try:
            yield
        except Killed:
            pass
        finally:
            delattr(place, name)
        self.drop(lost)
        self.open()

    def teardown(self):
        if hasattr(self, "library"):
            self.close()
            shutil.rmtree(self.place)

    # --- what is done -------------------------------------------------------------------

    @rule(target=documents, name=NAMES, words=WORDS, clash=st.sampled_from(["replace", "keep"]))
    def upload(self, name, words, clash):
        text = " ".join(words)
        added = self.library.add(ME, name, text.encode(), if_exists=clash)
        assert added.name == name or clash == "keep"
        known = added.doc_id in self.kept
        self.kept[added.doc_id] = added.name, text
        return multiple() if known else added.doc_id

    @rule(doc=documents, words=WORDS)
    def change(self, doc, words):
        if doc in self.kept:
            name, text = self.kept[doc][0], " ".join(words)
            self.library.replace(ME, doc, name, text.encode())
            self.library.ingest(doc)
            self.kept[doc] = name, text

    @rule(doc=documents, name=NAMES)
    def rename(self, doc, name):
        """The same file under another name."""
        if doc in self.kept:
            text = self.kept[doc][1]
            try:
                self.library.replace(ME, doc, name, text.encode())
            except Conflict:
                assert name in {other for key, (other, _text) in self.kept.items() if key != doc}
                return
            self.library.ingest(doc)
            self.kept[doc] = name, text

    @rule(target=hidden, doc=consumes(documents))
    def delete(self, doc):
        if doc not in self.kept:
            return multiple()
        self.library.delete(ME, doc)
        return doc, self.kept.pop(doc)[1], self.now, self.restores

    @rule(target=documents, gone=consumes(hidden))
    def undo(self, gone):
        doc, text, at, restores = gone
        if restores != self.restores:
            return multiple()
        try:
            back = self.library.undo(ME, doc)
        except NotFound:
            assert self.now - at > timedelta(seconds=10)
            return multiple()
        self.kept[doc] = back.name, text
        # Another embedder may have come meanwhile; what follows is what the worker does.
        while self.library.complete_vectors():
            pass
        return doc

    @rule(seconds=st.integers(1, 8))
    def time_goes_by(self, seconds):
        self.now += timedelta(seconds=seconds)
        self.library.purge_due()

    @rule(name=st.sampled_from(DEEP))
    def deepen(self, name):
        """With this embedder, which may be another one than before."""
        embedder = self.embedders[name]
        embedder_id = embedder.identity.embedder_id
        for doc, owner in self.library.layers.waiting(embedder_id):
            missing = self.store.embeddings.missing(embedder_id, doc)
            self.library.layers.fill(embedder, owner, missing, lambda _done: True)
        self.library.layers.settle(embedder_id, ())
        self.library.layers.drop_unused("deep", {embedder_id}, self.now)

    @rule()
    def look_after_the_index(self):
        self.library.mend_index()
        self.library.check_index()

    @rule(name=st.sampled_from(LIGHT))
    def switch_embedder(self, name):
        self.close()
        self.light = name
        self.open()

    @rule()
    def restart(self):
        self.close()
        self.open()

    @rule(lost=st.booleans())
    def be_killed(self, lost):
        self.drop(lost)
        self.open()

    @rule(name=NAMES, words=WORDS)
    def be_killed_before_it_was_read(self, name, words):
        if any(each.name == name for each in self.library.documents(ME)):
            return
        accepted = self.library.accept(ME, name, " ".join(words).encode())
        self.be_killed(lost=False)
        self.kept[accepted.doc_id] = name, " ".join(words)

    @rule(target=documents, name=NAMES, words=WORDS, step=STEPS, after=st.booleans(), lost=st.booleans())
    def be_killed_while_it_comes_in(self, name, words, step, after, lost):
        """Nobody was told anything, so it may be there or not, but not by halves."""
        before = {name: (doc, text) for doc, (name, text) in self.kept.items()}
        with self.killed_at(step, after, lost):
            self.library.add(ME, name, " ".join(words).encode())
        for document in self.library.documents(ME):
            if document.name == name:
                [text] = [each.text for each in self.library.passages(ME, document.doc_id)]
                assert text in (" ".join(words), *before.get(name, ())[1:])
                self.kept[document.doc_id] = name, text
                return document.doc_id if name not in before else multiple()
        assert name not in before
        return multiple()

    @rule(doc=documents, words=WORDS, step=STEPS, after=st.booleans(), lost=st.booleans())
    def be_killed_while_a_change_is_read(self, doc, words, step, after, lost):
        """It was accepted, so it comes."""
        if doc in self.kept:
            name, text = self.kept[doc][0], " ".join(words)
            self.library.replace(ME, doc, name, text.encode())
            with self.killed_at(step, after, lost):
                self.library.ingest(doc)
            self.kept[doc] = name, text

    @rule(step=STEPS, after=st.booleans())
    def be_killed_while_it_is_purged(self, step, after):
        with self.killed_at(step, after, lost=False):
            self.time_goes_by(11)

    @rule(name=st.sampled_from(DEEP), step=STEPS, after=st.booleans(), lost=st.booleans())
    def be_killed_while_it_deepens(self, name, step, after, lost):
        with self.killed_at(step, after, lost):
            self.deepen(name)

    @rule(light=st.sampled_from(LIGHT), step=STEPS, after=st.booleans(), lost=st.booleans())
    def be_killed_while_it_starts(self, light, step, after, lost):
        self.drop(lost)
        self.light = light
        self.make()
        with self.killed_at(step, after, lost=False):
            self.get_ready()

    @rule()
    def back_up(self):
        take(Settings(data_dir=self.folder), self.place / "backup.zip")
        self.saved = dict(self.kept)

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore(self):
        self.close()
        restore(self.place / "backup.zip", Settings(data_dir=self.folder), replace=True)
        self.kept = dict(self.saved)
        self.restores += 1
        self.open()

    # --- what always holds --------------------------------------------------------------

    @invariant()
    def both_hold_the_same_documents(self):
        if not hasattr(self, "library"):
            return
        assert {each.doc_id: each.name for each in self.library.documents(ME)} == {
            doc: name for doc, (name, _text) in self.kept.items()
        }
        for doc, (_name, text) in self.kept.items():
            assert " ".join(each.text for each in self.library.passages(ME, doc)) == text
            assert self.library.original(ME, doc).read_text() == text

    @invariant()
    def index_and_database_agree(self):
        if not hasattr(self, "library"):
            return
        for embedder_id in self.store.embeddings.embedders():
            stored = {vector_id(*key) for key in self.store.embeddings.keys(embedder_id, ME)}
            assert self.index.ids(collection_name(embedder_id, ME)) == stored

    @invariant()
    def each_text_finds_itself_and_nothing_deleted(self):
        if not hasattr(self, "library"):
            return
        for doc, (_name, text) in self.kept.items():
            hits = self.library.search(ME, text, 40).hits
            assert doc in {hit.passage.doc_id for hit in hits}
            assert {hit.passage.doc_id for hit in hits} <= set(self.kept)
