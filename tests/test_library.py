"""The library through its own face: real SQLite, real Chroma, real reading child, small embedder."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from companion.domain import SAMPLE_OWNER, DocumentState
from companion.errors import (
    Conflict,
    DiskFull,
    DocumentTooLarge,
    EmptyDocument,
    IndexUnusable,
    NotFound,
    Refused,
    UnreadableDocument,
)
from companion.library import intake
from companion.library.library import Library
from companion.library.readers import ReaderProcess
from companion.library.vectors import VectorIndex, collection_name
from companion.storage.store import Store
from tests.fakes import FakeEmbedder, Gate
from tests.waiting import until

ME = "local"
TEXT = """# Bees

Bees make honey from nectar and keep it in wax cells.

# Volcanoes

Lava flows out of a volcano when magma reaches the surface.
"""


class Clock:
    """A time that tests can move."""

    def __init__(self):
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self):
        return self.time


class CountingEmbedder(FakeEmbedder):
    """Counts the texts it embedded."""

    def __init__(self, name="bag-of-words"):
        super().__init__(name)
        self.embedded = 0
        self.gate = None

    def embed_passages(self, texts):
        gate, self.gate = self.gate, None
        if gate is not None:
            gate.reached.set()
            assert gate.open.wait(60)
        self.embedded += len(texts)
        return super().embed_passages(texts)


class SharedReader:
    """One reading child for all tests; a library that closes does not end it."""

    def __init__(self):
        self.process = ReaderProcess()
        self.read = self.process.read

    def close(self):
        """Left to the end of the module."""


@pytest.fixture(scope="module")
def reader():
    reader = SharedReader()
    yield reader
    reader.process.close()


class Shelf:
    """A library that can be closed and opened again on the same folder."""

    def __init__(self, folder, reader):
        self.folder = folder
        self.reader = reader
        self.clock = Clock()
        self.open()

    def open(self, embedder=None):
        self.store = Store.open(self.folder / "companion.db")
        self.embedder = embedder or CountingEmbedder()
        self.index = VectorIndex(self.folder / "index")
        self.library = Library(
            self.store, self.embedder, self.index,
            originals=self.folder / "originals", max_bytes=1_000_000, now=self.clock, reader=self.reader,
        )  # fmt: skip
        return self.library

    def close(self):
        self.library.close()
        self.store.close()

    def reopen(self, embedder=None):
        self.close()
        return self.open(embedder)

    def found(self, question, owner=ME):
        return [hit.passage.text for hit in self.library.search(owner, question).hits]


@pytest.fixture
def shelf(tmp_path, reader):
    shelf = Shelf(tmp_path, reader)
    yield shelf
    shelf.close()


def test_a_document_comes_in_and_is_found(shelf):
    document = shelf.library.add(ME, "nature.md", TEXT.encode())
    assert document.state is DocumentState.SEARCHABLE
    assert document.source_type == "markdown"
    assert document.passages == len(shelf.library.passages(ME, document.doc_id)) > 0
    hit = shelf.library.search(ME, "Where does lava come from?").hits[0]
    assert "magma" in hit.passage.text
    assert hit.document_name == "nature.md"
    assert {"lexical", "light"} <= set(hit.layers)
    assert hit.similarity is not None
    assert hit.similarity > 0


def test_the_same_content_is_already_there(shelf):
    first = shelf.library.add(ME, "nature.md", TEXT.encode())
    embedded = shelf.embedder.embedded
    again = shelf.library.add(ME, "nature.md", TEXT.encode())
    assert again == first
    assert shelf.embedder.embedded == embedded


def test_the_same_content_under_another_name_reuses_its_vectors(shelf):
    shelf.library.add(ME, "nature.md", TEXT.encode())
    embedded = shelf.embedder.embedded
    twin = shelf.library.add(ME, "copy.md", TEXT.encode())
    assert twin.state is DocumentState.SEARCHABLE
    assert len(shelf.library.documents(ME)) == 2
    assert shelf.embedder.embedded == embedded
    shelf.library.add("somebody else", "nature.md", TEXT.encode())
    assert shelf.embedder.embedded == 2 * embedded, "never across owners"


def test_other_content_replaces_or_stays_beside(shelf):
    first = shelf.library.add(ME, "notes.txt", b"The cellar is full of apples.")
    newer = shelf.library.add(ME, "notes.txt", b"The cellar is full of pears.")
    assert newer.doc_id == first.doc_id
    assert "pears" in shelf.found("cellar")[0]
    assert not any("apples" in text for text in shelf.found("apples"))
    beside = shelf.library.add(ME, "notes.txt", b"The attic is full of hats.", if_exists="keep")
    assert beside.name == "notes (2).txt"
    assert len(shelf.library.documents(ME)) == 2


def test_a_changed_file_embeds_only_what_changed(shelf):
    long = "\n\n".join(f"# Part {n}\n\n" + f"Sentence about topic{n}. " * 150 for n in range(6))
    document = shelf.library.add(ME, "book.md", long.encode())
    before = shelf.embedder.embedded
    changed = long.replace("topic3", "subject3")
    shelf.library.replace(ME, document.doc_id, "book.md", changed.encode())
    shelf.library.ingest(document.doc_id)
    assert 0 < shelf.embedder.embedded - before < before / 2
    assert "subject3" in shelf.found("subject3")[0]


def test_a_new_version_that_cannot_be_read_leaves_the_old_one(shelf):
    document = shelf.library.add(ME, "notes.txt", b"The cellar is full of apples.")
    shelf.library.replace(ME, document.doc_id, "notes.txt", b"")
    with pytest.raises(Exception, match="empty"):
        shelf.library.ingest(document.doc_id)
    kept = shelf.library.document(ME, document.doc_id)
    assert kept.state is DocumentState.SEARCHABLE
    assert "apples" in shelf.found("cellar")[0]
    assert shelf.library.original(ME, document.doc_id).read_bytes() == b"The cellar is full of apples."


def test_a_new_version_that_cannot_be_read_leaves_the_old_name_too(shelf):
    document = shelf.library.add(ME, "notes.txt", b"The cellar is full of apples.")
    shelf.library.replace(ME, document.doc_id, "other.pdf", b"no pdf at all")
    with pytest.raises(UnreadableDocument):
        shelf.library.ingest(document.doc_id)
    assert shelf.library.document(ME, document.doc_id).name == "notes.txt"
    assert shelf.library.original(ME, document.doc_id).read_bytes() == b"The cellar is full of apples."


def in_a_thread(work):
    """The result of `work`, started now; ask for it with `.result()`."""
    executor = ThreadPoolExecutor(1)
    future = executor.submit(work)
    executor.shutdown(wait=False)
    return future


def test_a_version_accepted_while_the_old_one_is_embedded_wins(shelf):
    gate = shelf.embedder.gate = Gate()
    old = in_a_thread(lambda: shelf.library.add(ME, "notes.txt", b"The cellar is full of apples."))
    assert gate.reached.wait(60)
    newer = shelf.library.accept(ME, "notes.txt", b"The cellar is full of pears.")
    gate.open.set()
    assert old.result(60).state is DocumentState.READING, "the newer version still waits"
    assert shelf.library.ingest(newer.doc_id).state is DocumentState.SEARCHABLE
    assert shelf.library.original(ME, newer.doc_id).read_bytes() == b"The cellar is full of pears."
    assert "pears" in shelf.found("cellar")[0]


def test_a_broken_version_leaves_text_and_file_of_the_last_one_that_was_read(shelf):
    document = shelf.library.add(ME, "notes.txt", b"The cellar is full of apples.")
    gate = shelf.embedder.gate = Gate()
    pears = in_a_thread(lambda: shelf.library.add(ME, "notes.txt", b"The cellar is full of pears."))
    assert gate.reached.wait(60)
    shelf.library.accept(ME, "notes.txt", b"")
    gate.open.set()
    pears.result(60)
    with pytest.raises(EmptyDocument):
        shelf.library.ingest(document.doc_id)
    assert_has(shelf, document.doc_id, "notes.txt", "The cellar is full of pears.")


def test_a_kill_before_a_broken_version_is_read_mixes_no_two_versions(shelf, monkeypatch):
    document = shelf.library.add(ME, "notes.txt", b"The cellar is full of apples.")
    monkeypatch.setattr(shelf.library._intake, "_embed", killed)
    with pytest.raises(KeyboardInterrupt):
        shelf.library.add(ME, "notes.txt", b"The cellar is full of pears.")
    shelf.library.accept(ME, "notes.txt", b"")
    shelf.reopen()
    shelf.library.resume()
    shelf.library.complete_vectors()
    assert_has(shelf, document.doc_id, "notes.txt", "The cellar is full of pears.")
    assert shelf.library.status(ME).embedded == 1


def killed(*_):
    raise KeyboardInterrupt


def assert_has(shelf, doc_id, name, text):
    """Nothing of another version is left."""
    document = shelf.library.document(ME, doc_id)
    assert (document.name, document.state) == (name, DocumentState.SEARCHABLE)
    assert [each.text for each in shelf.library.passages(ME, doc_id)] == [text]
    assert shelf.library.original(ME, doc_id).read_text() == text
    assert len(list((shelf.folder / "originals").glob(f"{doc_id}-*"))) == 1


def test_a_file_that_gets_another_suffix_while_it_is_embedded_is_kept(shelf):
    gate = shelf.embedder.gate = Gate()
    first = in_a_thread(lambda: shelf.library.add(ME, "notes.txt", b"The cellar is full of apples."))
    assert gate.reached.wait(60)
    [document] = shelf.library.documents(ME)
    shelf.library.replace(ME, document.doc_id, "notes.md", b"The cellar is full of apples.")
    gate.open.set()
    assert first.result(60).state is DocumentState.READING, "the newer version still waits"
    shelf.library.ingest(document.doc_id)
    assert_has(shelf, document.doc_id, "notes.md", "The cellar is full of apples.")


class SlowReader:
    """Holds the first file until the test lets it go."""

    def __init__(self, reader):
        self.reader = reader
        self.gate = Gate()
        self.close = reader.close

    def read(self, path, name):
        if not self.gate.reached.is_set():
            self.gate.reached.set()
            assert self.gate.open.wait(60)
        return self.reader.read(path, name)


def test_a_file_that_gets_the_right_suffix_while_it_is_read_is_kept(tmp_path, reader):
    slow = SlowReader(reader)
    shelf = Shelf(tmp_path, slow)
    document = shelf.library.accept(ME, "notes.pdf", b"The cellar is full of apples.")
    first = in_a_thread(lambda: shelf.library.ingest(document.doc_id))
    assert slow.gate.reached.wait(60)
    shelf.library.replace(ME, document.doc_id, "notes.txt", b"The cellar is full of apples.")
    slow.gate.open.set()
    assert first.result(60).state is DocumentState.READING, "the newer version still waits"
    shelf.library.ingest(document.doc_id)
    assert_has(shelf, document.doc_id, "notes.txt", "The cellar is full of apples.")
    shelf.close()


def test_an_undo_that_was_acknowledged_is_not_purged(shelf, monkeypatch):
    document = shelf.library.add(ME, "nature.md", TEXT.encode())
    shelf.library.delete(ME, document.doc_id)
    started, passages_of = shelf.clock.time, shelf.store.passages.of_anybody

    def meanwhile(doc_id):
        shelf.clock.time = started + timedelta(seconds=5)
        shelf.library.undo(ME, doc_id)
        return passages_of(doc_id)

    monkeypatch.setattr(shelf.store.passages, "of_anybody", meanwhile)
    shelf.clock.time = started + timedelta(seconds=11)
    assert shelf.library.purge_due() == 0
    assert "honey" in shelf.found("honey")[0]


def test_a_document_that_is_purged_while_it_waits_is_not_written_again(shelf):
    gate = shelf.embedder.gate = Gate()
    busy = in_a_thread(lambda: shelf.library.add(ME, "long.txt", b"Something long is embedded."))
    assert gate.reached.wait(60)
    waiting = shelf.library.accept(ME, "nature.md", TEXT.encode())
    ingest = in_a_thread(lambda: shelf.library.ingest(waiting.doc_id))
    until(lambda: shelf.library.progress(waiting.doc_id))
    shelf.library.delete(ME, waiting.doc_id)
    shelf.clock.time += timedelta(seconds=11)
    assert shelf.library.purge_due() == 1
    gate.open.set()
    busy.result(60)
    with pytest.raises(NotFound):
        ingest.result(60)
    assert [each.name for each in shelf.library.documents(ME)] == ["long.txt"]
    assert shelf.store.words.passages() == 1
    assert len(list((shelf.folder / "originals").iterdir())) == 1


def begin_a_book(shelf):
    """A document of several batches, the gate that its first one waits for, and what becomes of it."""
    gate = shelf.embedder.gate = Gate()
    long = "\n\n".join(f"# Part {n}\n\n" + f"Sentence about topic{n}. " * 150 for n in range(150))
    busy = in_a_thread(lambda: shelf.library.add(ME, "book.md", long.encode()))
    assert gate.reached.wait(60)
    [document] = shelf.library.documents(ME)
    return document, gate, busy


def test_a_document_that_is_deleted_while_it_is_embedded_is_embedded_no_further(shelf):
    shelf.library.open_index()
    document, gate, busy = begin_a_book(shelf)
    shelf.library.delete(ME, document.doc_id)
    shelf.clock.time += timedelta(seconds=11)
    assert shelf.library.purge_due() == 0, "it is being written"
    gate.open.set()
    busy.result(60)
    assert 0 < shelf.embedder.embedded < document.passages
    assert shelf.library.purge_due() == 1
    assert shelf.store.embeddings.total() == shelf.store.words.passages() == 0
    assert shelf.index.ids(collection_name(shelf.embedder.identity.embedder_id, ME)) == set()


def test_an_undo_comes_too_late_after_its_time_even_before_the_purge(shelf):
    document = shelf.library.add(ME, "nature.md", TEXT.encode())
    shelf.library.delete(ME, document.doc_id)
    shelf.clock.time += timedelta(seconds=11)
    with pytest.raises(NotFound):
        shelf.library.undo(ME, document.doc_id)


def test_a_name_taken_meanwhile_is_not_taken_back(shelf):
    document = shelf.library.add(ME, "nature.md", TEXT.encode())
    shelf.library.delete(ME, document.doc_id)
    shelf.library.add(ME, "nature.md", b"Another text about owls.")
    assert shelf.library.undo(ME, document.doc_id).name == "nature (2).md"


def test_a_document_just_deleted_does_not_crowd_out_others(shelf):
    shelf.library.open_index()
    shelf.library.add(ME, "small.txt", b"Whales sing in the cold sea.")
    many = "\n\n".join(f"# Part {n}\n\n" + f"Whales sing number{n}. " * 80 for n in range(12))
    big = shelf.library.add(ME, "big.md", many.encode())
    shelf.library.delete(ME, big.doc_id)
    assert shelf.found("whales sing") == ["Whales sing in the cold sea."]


def test_an_upload_during_the_start_is_not_swept_away(shelf, monkeypatch):
    there = sorted((shelf.folder / "originals").glob("*"))
    monkeypatch.setattr(shelf.library._originals, "_leftovers", there)
    accepted = shelf.library.accept(ME, "nature.md", TEXT.encode())
    incoming = shelf.folder / "originals" / "incoming-456.txt"
    incoming.write_bytes(b"on its way")
    shelf.library.resume()
    assert incoming.exists()
    assert shelf.library.original(ME, accepted.doc_id).exists()


def test_what_comes_in_while_the_index_opens_is_indexed(shelf, monkeypatch):
    shelf.library.add(ME, "nature.md", TEXT.encode())
    listed = shelf.index.ids

    def meanwhile(collection):
        found = listed(collection)
        monkeypatch.setattr(shelf.index, "ids", listed)
        shelf.library.add(ME, "owls.txt", b"Owls hunt mice at night.")
        return found

    monkeypatch.setattr(shelf.index, "ids", meanwhile)
    shelf.library.open_index()
    assert shelf.library.status(ME).index == "ready"
    collection = collection_name(shelf.embedder.identity.embedder_id, ME)
    assert len(shelf.index.ids(collection)) == shelf.library.status(ME).embedded
    assert "mice" in shelf.found("owls")[0]


def test_closing_while_the_index_opens_keeps_a_healthy_index(shelf, monkeypatch):
    shelf.library.add(ME, "nature.md", TEXT.encode())
    shelf.library.open_index()
    shelf.reopen()
    generation = shelf.index.generation()
    monkeypatch.setattr(shelf.index, "ids", closing_first(shelf))
    shelf.library.open_index()
    assert shelf.index.generation() == generation


def closing_first(shelf):
    listed = shelf.index.ids

    def ids(collection):
        shelf.library.close()
        return listed(collection)

    return ids


def test_a_failed_index_is_mended_until_it_works(shelf, monkeypatch):
    shelf.library.add(ME, "nature.md", TEXT.encode())
    shelf.library.open_index()
    shelf.library.layers.light.serving = False
    connect = shelf.index.connect
    monkeypatch.setattr(shelf.index, "connect", torn)
    with pytest.raises(IndexUnusable):
        shelf.library.mend_index()
    monkeypatch.setattr(shelf.index, "connect", connect)
    shelf.library.mend_index()
    assert shelf.library.status(ME).index == "ready"


def torn():
    raise IndexUnusable("The vector index is torn.")


def test_a_file_that_cannot_be_read_says_why_and_can_be_tried_again(shelf):
    failed = shelf.library.add(ME, "broken.pdf", b"%PDF-1.4 nothing follows")
    assert failed.state is DocumentState.FAILED
    assert failed.error
    assert "broken.pdf" in failed.error
    again = shelf.library.add(ME, "broken.pdf", b"%PDF-1.4 nothing follows")
    assert (again.doc_id, again.state) == (failed.doc_id, DocumentState.FAILED)


def test_a_new_version_whose_row_finds_no_room_leaves_no_file(shelf, monkeypatch):
    document = shelf.library.add(ME, "notes.txt", b"The cellar is full of apples.")
    monkeypatch.setattr(shelf.store.documents, "replace_content", full)
    for name in ("notes.txt", "notes.md"):
        with pytest.raises(DiskFull):
            shelf.library.replace(ME, document.doc_id, name, b"The cellar is full of pears.")
    with pytest.raises(DiskFull):
        shelf.library.replace(ME, document.doc_id, "other.txt", b"The cellar is full of apples.")
    assert_has(shelf, document.doc_id, "notes.txt", "The cellar is full of apples.")


def test_a_new_version_of_a_document_that_was_purged_meanwhile_leaves_no_file(shelf, monkeypatch):
    document = shelf.library.add(ME, "notes.txt", b"The cellar is full of apples.")
    keep = shelf.library._originals.keep

    def purged_first(*arguments):
        monkeypatch.setattr(shelf.library._originals, "keep", keep)
        shelf.library.delete(ME, document.doc_id)
        shelf.clock.time += timedelta(seconds=11)
        assert shelf.library.purge_due() == 1
        return keep(*arguments)

    monkeypatch.setattr(shelf.library._originals, "keep", purged_first)
    with pytest.raises(NotFound):
        shelf.library.replace(ME, document.doc_id, "notes.txt", b"The cellar is full of pears.")
    assert list((shelf.folder / "originals").iterdir()) == []


def test_a_file_above_the_limit_is_refused_before_anything_is_kept(shelf, tmp_path):
    with pytest.raises(DocumentTooLarge, match="limit"):
        shelf.library.accept(ME, "big.txt", b"x" * 1_000_001)
    assert list((tmp_path / "originals").iterdir()) == []
    assert shelf.library.documents(ME) == []


def test_a_deleted_document_is_gone_at_once_and_comes_back(shelf):
    document = shelf.library.add(ME, "nature.md", TEXT.encode())
    shelf.library.delete(ME, document.doc_id)
    assert shelf.library.documents(ME) == []
    assert shelf.found("honey") == []
    shelf.library.undo(ME, document.doc_id)
    assert "honey" in shelf.found("honey")[0]


def test_a_document_that_comes_back_is_found_by_meaning_in_a_chosen_scope(shelf):
    scope = [shelf.library.add(ME, f"{n}.txt", f"Bees of kind{n} make honey.".encode()).doc_id for n in "ab"]
    shelf.library.open_index()

    def found_by_meaning():
        hits = shelf.library.search(ME, "honey of bees", doc_ids=scope).hits
        return {hit.document_name for hit in hits if "light" in hit.layers}

    shelf.library.delete(ME, scope[0])
    assert found_by_meaning() == {"b.txt"}
    shelf.library.undo(ME, scope[0])
    assert found_by_meaning() == {"a.txt", "b.txt"}


def test_a_document_that_found_no_room_and_comes_back_is_read_when_there_is(shelf, monkeypatch):
    accepted = shelf.library.accept(ME, "nature.md", TEXT.encode())
    with monkeypatch.context() as patch:
        patch.setattr(shelf.store.passages, "write", full)
        with pytest.raises(DiskFull):
            shelf.library.ingest(accepted.doc_id)
    shelf.library.delete(ME, accepted.doc_id)
    shelf.library.resume_held_up()
    shelf.library.undo(ME, accepted.doc_id)
    shelf.library.resume_held_up()
    assert shelf.library.document(ME, accepted.doc_id).state is DocumentState.SEARCHABLE


def test_a_document_that_comes_back_while_its_ingest_is_ended_is_embedded_all_the_same(shelf):
    document, gate, busy = begin_a_book(shelf)
    shelf.library.delete(ME, document.doc_id)
    started = shelf.clock.time
    shelf.clock.time = started + timedelta(seconds=11)
    assert shelf.library.purge_due() == 0
    shelf.clock.time = started + timedelta(seconds=9)
    assert shelf.library.undo(ME, document.doc_id).state is DocumentState.READING
    shelf.library.resume_held_up()
    gate.open.set()
    assert busy.result(60).state is DocumentState.READING
    shelf.library.resume_held_up()
    assert shelf.library.document(ME, document.doc_id).state is DocumentState.SEARCHABLE
    assert shelf.library.status(ME).embedded == document.passages


def full(*_, **__):
    raise DiskFull("The disk is full.")


def test_after_its_time_a_deleted_document_leaves_no_trace(shelf, tmp_path):
    canary = b"zanzibarquokka"
    document = shelf.library.add(ME, "secret.txt", b"The word is " + canary + b" and nothing else.")
    shelf.library.add(ME, "other.txt", b"Something else stays.")
    shelf.library.delete(ME, document.doc_id)
    assert shelf.library.purge_due() == 0
    shelf.clock.time += timedelta(seconds=11)
    assert shelf.library.purge_due() == 1
    with pytest.raises(NotFound):
        shelf.library.undo(ME, document.doc_id)
    shelf.close()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert canary not in path.read_bytes().lower(), path
    shelf.open()
    assert "stays" in shelf.found("something")[0]


def test_one_person_neither_finds_nor_touches_anothers_documents(shelf):
    document = shelf.library.add("anna", "diary.txt", b"Anna keeps a hedgehog called Bruno.")
    shelf.library.add("bert", "list.txt", b"Bert buys bread and butter.")
    assert not any("hedgehog" in text for text in shelf.found("hedgehog Bruno", owner="bert"))
    for call in (
        lambda: shelf.library.document("bert", document.doc_id),
        lambda: shelf.library.passages("bert", document.doc_id),
        lambda: shelf.library.delete("bert", document.doc_id),
        lambda: shelf.library.replace("bert", document.doc_id, "diary.txt", b"x"),
    ):
        with pytest.raises(NotFound):
            call()
    assert shelf.library.search("bert", "hedgehog", doc_ids=[document.doc_id]).hits == ()


def test_the_sample_library_answers_until_there_is_something_of_ones_own(shelf, tmp_path):
    samples = tmp_path / "samples"
    samples.mkdir()
    (samples / "guide.md").write_text("# Guide\n\nDrop files on the Documents tab.")
    shelf.library.install_samples(samples)
    assert shelf.library.uses_samples(ME)
    assert "Drop files" in shelf.found("documents tab")[0]
    sample = shelf.library.documents(ME)[0]
    assert sample.owner == SAMPLE_OWNER
    with pytest.raises((Refused, NotFound)):
        shelf.library.delete(ME, sample.doc_id)
    shelf.library.add(ME, "own.txt", b"My own documents are about tabs of guitars.")
    assert not shelf.library.uses_samples(ME)
    assert not any("Drop files" in text for text in shelf.found("documents tab"))


def test_a_chosen_scope_is_kept(shelf):
    bees = shelf.library.add(ME, "bees.txt", b"Bees make honey in summer.")
    shelf.library.add(ME, "bears.txt", b"Bears love honey in summer.")
    hits = shelf.library.search(ME, "honey in summer", doc_ids=[bees.doc_id]).hits
    assert {hit.document_name for hit in hits} == {"bees.txt"}


def test_index_and_stored_vectors_give_the_same_passages(shelf):
    for number in range(12):
        shelf.library.add(
            ME, f"{number}.txt", f"Chapter {number}: the river number {number} is cold.".encode()
        )
    exact = shelf.found("river number 7")
    shelf.library.open_index()
    assert shelf.library.status(ME).index == "ready"
    assert shelf.found("river number 7") == exact


def test_what_a_kill_left_half_done_is_finished_at_the_next_start(shelf):
    accepted = shelf.library.accept(ME, "nature.md", TEXT.encode())
    stray = shelf.folder / "originals" / "incoming-123.txt"
    stray.write_bytes(b"torn copy")
    shelf.reopen()
    assert shelf.library.document(ME, accepted.doc_id).state is DocumentState.READING
    shelf.library.resume()
    assert shelf.library.document(ME, accepted.doc_id).state is DocumentState.SEARCHABLE
    assert not stray.exists()
    assert "honey" in shelf.found("honey")[0]


def test_an_index_that_lost_its_files_is_rebuilt_without_embedding(shelf):
    shelf.library.add(ME, "nature.md", TEXT.encode())
    shelf.library.open_index()
    shelf.reopen()
    shutil.rmtree(shelf.folder / "index")
    shelf.library.open_index()
    assert shelf.library.status(ME).index == "ready"
    assert shelf.embedder.embedded == 0
    assert "magma" in shelf.found("lava volcano")[0]


def test_another_embedder_embeds_the_library_again_and_the_way_back_is_free(shelf):
    shelf.library.add(ME, "nature.md", TEXT.encode())
    shelf.reopen(CountingEmbedder("another"))
    shelf.library.open_index()
    shelf.library.complete_vectors()
    assert shelf.embedder.embedded > 0
    assert "light" in shelf.library.search(ME, "lava volcano").hits[0].layers
    shelf.reopen(CountingEmbedder())
    shelf.library.open_index()
    shelf.library.complete_vectors()
    assert shelf.embedder.embedded == 0
    assert "magma" in shelf.found("lava volcano")[0]


class NotANumber(CountingEmbedder):
    """Has no vector for some texts."""

    def embed_passages(self, texts):
        rows = super().embed_passages(texts)
        rows[["number3" in text for text in texts]] = np.nan
        return rows


def test_a_text_that_gets_no_vector_holds_up_no_other_document(shelf, monkeypatch):
    for number in range(8):
        shelf.library.add(ME, f"{number}.txt", f"The river number{number} is cold.".encode())
    shelf.reopen(NotANumber("another"))
    monkeypatch.setattr(intake, "PIECE_S", 0.0)
    for _ in range(20):
        shelf.library.complete_vectors()
    assert shelf.library.status(ME).embedded == 7
    assert shelf.embedder.embedded == 8, "it is not tried again and again"
    assert "light" in shelf.library.search(ME, "river number0").hits[0].layers
    assert "number3" in shelf.found("river number3")[0], "words find it all the same"


@pytest.mark.parametrize("damage", ["garbage", "truncated", "deleted sqlite", "huge links"])
def test_a_torn_index_is_noticed_and_rebuilt(shelf, damage):
    chapters = (f"# Chapter {n}\n\n" + f"Whales of kind{n} sing at night. " * 60 for n in range(40))
    assert shelf.library.add(ME, "whales.md", "\n\n".join(chapters).encode()).passages >= 40
    shelf.library.open_index()
    shelf.reopen()
    sqlite = next((shelf.folder / "index").glob("*/chroma.sqlite3"))
    if damage == "garbage":
        sqlite.write_bytes(np.random.default_rng(0).bytes(50_000))
    elif damage == "truncated":
        sqlite.write_bytes(sqlite.read_bytes()[: sqlite.stat().st_size // 2])
    elif damage == "deleted sqlite":
        sqlite.unlink()
    else:
        segment = sqlite.parent / "segment"
        segment.mkdir()
        (segment / "data_level0.bin").write_bytes(b"x" * 10)
        (segment / "link_lists.bin").write_bytes(b"x" * 1000)
    shelf.library.open_index()
    assert shelf.library.status(ME).index == "ready"
    assert shelf.embedder.embedded == 0
    assert "kind17" in shelf.found("whales kind17")[0]


def test_vectors_that_the_index_missed_are_healed(shelf):
    shelf.library.add(ME, "nature.md", TEXT.encode())
    shelf.library.open_index()
    collection = collection_name(shelf.embedder.identity.embedder_id, ME)
    before = shelf.index.ids(collection)
    shelf.index.delete(collection, [sorted(before)[0]])
    shelf.index.upsert(
        collection, ["stranger#0"], np.ones((1, shelf.embedder.identity.dimension), np.float32)
    )
    shelf.library.layers.light.heal([ME], lambda: True)
    assert shelf.index.ids(collection) == before


@pytest.fixture(scope="module")
def open_and_closed(tmp_path_factory, reader):
    """One shelf that answers from its index, and one that answers exactly."""
    shelves = [Shelf(tmp_path_factory.mktemp(name), reader) for name in ("index", "exact")]
    for shelf in shelves:
        shelf.library.add(ME, "nature.md", TEXT.encode())
    shelves[0].library.open_index()
    yield shelves
    for shelf in shelves:
        shelf.close()


@pytest.mark.parametrize(
    "question",
    [
        *("what's new?", "a-b", "foo:bar", '"', "'", '"unbalanced', "NEAR(a b)", "AND OR NOT", "col:x*", "x"),
        *("é", "", "   ", "🐝", "🐝 honey", "(((", "^a", "a\x00b", "\ud800", "-honey", "honey*", "{a b}:c"),
        *("DROP TABLE x; --", "word " * 10_000, "蜂蜜はどこ", "عسل"),
    ],
    ids=lambda question: repr(question)[:30],
)
def test_a_hostile_question_never_raises(open_and_closed, question):
    for shelf in open_and_closed:
        shelf.library.search(ME, question)


def test_two_documents_cannot_take_one_name(shelf):
    shelf.library.add(ME, "one.txt", b"The first text.")
    two = shelf.library.add(ME, "two.txt", b"The second text.")
    with pytest.raises(Conflict, match="already called"):
        shelf.library.replace(ME, two.doc_id, "one.txt", b"A third text.")


def test_reading_errors_are_of_the_documents_kind(shelf):
    document = shelf.library.add(ME, "good.txt", b"A good text about owls.")
    shelf.library.replace(ME, document.doc_id, "good.pdf", b"no pdf at all")
    with pytest.raises(UnreadableDocument):
        shelf.library.ingest(document.doc_id)
    assert "owls" in shelf.found("owls")[0]
