"""The index through the library's face: what a start looks at, what it trusts, and what it heals."""

import errno
import os
import shutil
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from companion.errors import EmbedderError, IndexUnusable
from companion.library import clean_mark, layers, vectors
from companion.library.library import Library
from companion.library.vectors import VectorIndex, collection_name
from companion.storage.store import Store
from tests.crash.torn import ME, Shelf, open_eagerly
from tests.fakes import FakeEmbedder


@pytest.fixture
def shelf(tmp_path):
    opened = [Shelf(tmp_path)]
    opened[0].write("first", 30)

    def reopen():
        opened.append(Shelf(tmp_path))
        return opened[-1]

    opened[0].reopen = reopen
    yield opened[0]
    opened[-1].close()


@pytest.fixture
def probes(monkeypatch):
    """What each start asked of the child: (samples, thorough)."""
    asked = []
    usual = VectorIndex.probe

    def probe(index, samples, *, thorough=True):
        asked.append((len(samples), thorough))
        usual(index, samples, thorough=thorough)

    monkeypatch.setattr(VectorIndex, "probe", probe)
    return asked


def ids(shelf, embedder=None):
    return shelf.index.ids(collection_name((embedder or shelf.light).identity.embedder_id, ME))


def kill(shelf):
    """The files as they are now, without a word to anybody."""
    shelf.index.close()
    shelf.store.close()


def test_after_a_clean_stop_a_start_only_tries_whether_the_index_opens(shelf, probes):
    shelf.close()
    shelf.reopen()
    (samples, thorough) = probes[0]
    assert not thorough
    assert samples < 2 * 30


def test_after_a_kill_a_start_reads_all_of_the_index(shelf, probes):
    kill(shelf)
    again = shelf.reopen()
    assert probes == [(60, True)]
    kill(again)
    shelf.reopen()
    assert probes[1:] == [(60, True)], "a start takes the mark away"


def test_files_that_changed_since_a_clean_stop_are_read_again(shelf, probes):
    shelf.close()
    file = next((shelf.folder / "index").rglob("chroma.sqlite3"))
    os.utime(file, ns=(1, time.time_ns()))
    shelf.reopen()
    assert [thorough for _samples, thorough in probes] == [True]


def test_an_index_that_did_not_answer_is_not_called_clean(shelf, probes):
    shelf.library.layers.light.serving = False
    shelf.close()
    shelf.reopen()
    assert [thorough for _samples, thorough in probes] == [True]


def test_files_that_may_not_be_on_the_disk_are_not_called_clean(shelf, probes, monkeypatch):
    def full(_folder):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(clean_mark, "flush_all", full)
        shelf.close()
    shelf.reopen()
    assert [thorough for _samples, thorough in probes] == [True]


def test_a_file_in_the_place_of_the_index_makes_way(shelf):
    shelf.close()
    shutil.rmtree(shelf.folder / "index")
    (shelf.folder / "index").write_text("What a repair of the disk has left.")
    assert len(ids(shelf.reopen())) == 30


def test_what_the_index_missed_or_kept_too_long_is_healed_after_a_job(shelf):
    right = ids(shelf)
    lost = sorted(right)[:3]
    shelf.index.delete(collection_name(shelf.light.identity.embedder_id, ME), lost)
    stranger = np.ones((1, shelf.light.identity.dimension), np.float32)
    shelf.index.upsert(collection_name(shelf.light.identity.embedder_id, ME), ["stranger#0"], stranger)
    shelf.library.check_index()
    assert ids(shelf) != right, "not while something was written just now"
    shelf.library.check_index()
    assert ids(shelf) == right


def test_an_index_in_agreement_is_not_compared_again(shelf, monkeypatch):
    for _ in range(2):
        shelf.library.check_index()
    monkeypatch.setattr(shelf.index, "ids", lambda collection: pytest.fail("compared for nothing"))
    for _ in range(3):
        shelf.library.check_index()


def test_collections_of_owners_and_layers_that_are_gone_leave_at_the_next_start(shelf):
    mine = set(shelf.index.collections())
    row = np.ones((1, 8), np.float32)
    shelf.index.upsert("of-a-dropped-layer", ["x#0"], row)
    shelf.index.upsert(collection_name(shelf.light.identity.embedder_id, "gone"), ["x#0"], row)
    kill(shelf)
    again = shelf.reopen()
    assert set(again.index.collections()) == mine


def test_a_comparison_that_an_ingest_hindered_comes_after_it(shelf):
    in_quiet(shelf)
    mine = set(shelf.index.collections())
    shelf.index.upsert("of-a-dropped-layer", ["x#0"], np.ones((1, 8), np.float32))
    with shelf.library._lock.ingesting("another"):
        shelf.library.compare_index()
    assert set(shelf.index.collections()) > mine
    in_quiet(shelf)
    assert set(shelf.index.collections()) == mine


def test_a_purge_that_a_kill_cut_off_leaves_nothing_in_the_index(shelf):
    now = datetime.now(UTC)
    shelf.store.documents.mark_deleted(ME, "first", now - timedelta(days=1))
    assert shelf.store.documents.purge("first", now)
    kill(shelf)
    again = shelf.reopen()
    assert again.index.collections() == []
    assert again.library.search(ME, "the secret word7").hits == ()


def purge(shelf, doc_id):
    shelf.store.documents.mark_deleted(ME, doc_id, datetime.now(UTC) - timedelta(seconds=11))
    assert shelf.library.purge_due() == 1


def in_quiet(shelf):
    for _ in range(3):
        shelf.library.check_index()


def files_with(shelf, part):
    """Of the index."""
    files = [path for path in (shelf.folder / "index").rglob("*") if path.is_file()]
    return [path.name for path in files if part in path.read_bytes()]


@pytest.fixture
def eager(tmp_path, monkeypatch):
    """A library whose index is written to its files after 20 vectors."""
    monkeypatch.setattr(vectors, "open_collection", open_eagerly)
    shelf = Shelf(tmp_path / "eager")
    shelf.write("first", 30)
    yield shelf
    shelf.close()


def test_vectors_of_what_was_deleted_do_not_pile_up_in_the_index(eager):
    largest = 0
    for number in range(10):
        eager.write(f"come-and-gone-{number}", 60)
        purge(eager, f"come-and-gone-{number}")
        in_quiet(eager)
        largest = max(largest, eager.index.elements())
    assert largest < 60 + 200 + 2 * 120
    assert len(ids(eager)) == 30
    assert eager.library.search(ME, "first keeps the secret word7").hits


def test_an_index_of_which_much_was_deleted_holds_nothing_of_it_after_a_quiet_moment(eager):
    eager.write("qvxkmzt", 150)
    assert files_with(eager, b"qvxkmzt")
    purge(eager, "qvxkmzt")
    in_quiet(eager)
    assert files_with(eager, b"first")
    assert not files_with(eager, b"qvxkmzt")
    assert all(layer.serving for layer in eager.library.layers._all())


def test_an_index_of_which_little_was_deleted_is_left_as_it_is(eager):
    before = eager.index.generation()
    eager.write("gone", 20)
    purge(eager, "gone")
    in_quiet(eager)
    assert eager.index.generation() == before
    assert len(ids(eager)) == 30


def test_an_older_index_that_a_kill_left_goes_at_the_next_start(shelf):
    kill(shelf)
    index = shelf.folder / "index"
    (index / "0001").rename(index / "10000")
    (index / "9999" / "a-graph").mkdir(parents=True)
    again = shelf.reopen()
    assert [path.name for path in index.iterdir()] == ["10000"]
    assert len(ids(again)) == 30


def test_an_index_that_hangs_at_open_is_given_up(eager, monkeypatch):
    monkeypatch.setattr(vectors, "PROBE_TIMEOUT_S", 5.0)
    eager.close()
    # Of all graphs: the samples may be of any of them.
    for header in list((eager.folder / "index").rglob("header.bin")):
        header.unlink()
        os.mkfifo(header)
    with pytest.raises(IndexUnusable, match="does not open"):
        eager.index.probe(samples_of(eager.folder), thorough=False)


def test_an_index_that_wants_more_memory_than_there_is_harms_nobody(eager):
    eager.close()
    for header in (eager.folder / "index").rglob("header.bin"):
        content = bytearray(header.read_bytes())
        # The elements of the graph.
        content[20:28] = (2**40).to_bytes(8, "little")
        header.write_bytes(content)
    with pytest.raises(IndexUnusable, match="torn"):
        eager.index.probe(samples_of(eager.folder), thorough=False)


def test_an_index_of_many_people_is_looked_at_in_not_many_more_places_and_has_more_time(shelf, monkeypatch):
    looked_at = []
    usual = VectorIndex.probe

    def probe(index, samples, **how):
        looked_at.append(Counter(sample.collection for sample in samples))
        usual(index, samples, **how)

    for number in range(20):
        shelf.write(f"of person {number}", 3, f"person {number}")
    monkeypatch.setattr(VectorIndex, "probe", probe)
    monkeypatch.setattr(layers, "MOST_SAMPLES", 60)
    # Nobody opens so many collections in the time that one may take.
    monkeypatch.setattr(vectors, "PROBE_TIMEOUT_S", 0.0)
    monkeypatch.setattr(vectors, "PROBE_COLLECTION_S", 3.0)
    before = shelf.index.generation()
    kill(shelf)
    again = shelf.reopen()
    assert again.index.generation() == before
    (each,) = looked_at
    largest = {collection_name(e.identity.embedder_id, ME) for e in (again.light, again.deep)}
    assert (len(each), each.total()) == (42, 60)
    assert {name for name, _count in each.most_common(1)} <= largest <= set(each)
    assert min(each.values()) == 1


def test_of_more_collections_than_places_to_look_at_the_largest_are_looked_at(shelf, monkeypatch):
    for number in range(5):
        shelf.write(f"of person {number}", 3, f"person {number}")
    monkeypatch.setattr(layers, "MOST_SAMPLES", 2)
    samples = shelf.library.layers.samples(60)
    largest = {collection_name(e.identity.embedder_id, ME) for e in (shelf.light, shelf.deep)}
    assert {sample.collection for sample in samples} == largest


def samples_of(folder):
    """What a start asks the index for, of a library that is closed."""
    store, light = Store.open(folder / "companion.db"), FakeEmbedder()
    try:
        return Library(
            store, light, VectorIndex(folder / "other"), originals=folder, max_bytes=1
        ).layers.samples(60)
    finally:
        store.close()


@pytest.mark.parametrize("more", [0, 60, 100])
def test_a_whole_index_is_opened_after_a_kill_however_small_it_is(eager, more):
    eager.write("second", more)
    before = eager.index.generation()
    kill(eager)
    again = Shelf(eager.folder)
    assert again.index.generation() == before
    assert len(ids(again)) == 30 + more
    again.close()


SECRET = b"qvxkmzt"


class Spilling:
    """Chroma on a machine whose free memory is full of words, which its first empty graphs show."""

    def __init__(self, collection, folder):
        self.collection = collection
        self.folder = folder
        self.spilled = 0

    def upsert(self, **what):
        before = set(self.folder.glob("*/*/"))
        self.collection.upsert(**what)
        for graph in set(self.folder.glob("*/*/")) - before:
            for file in (graph / "data_level0.bin", graph / "length.bin"):
                file.write_bytes((SECRET * file.stat().st_size)[: file.stat().st_size])
                self.spilled += 1

    def __getattr__(self, name):
        return getattr(self.collection, name)


@pytest.mark.parametrize("how", ["in use", "after a kill"])
def test_memory_that_chroma_writes_into_empty_places_is_not_kept(tmp_path, monkeypatch, how):
    usual, spilling = vectors.open_collection, []

    def open_spilling(client, name):
        spilling.append(Spilling(usual(client, name), tmp_path / "index"))
        return spilling[-1]

    monkeypatch.setattr(vectors, "open_collection", open_spilling)
    if how == "after a kill":
        monkeypatch.setattr(vectors, "blank_empty_places", lambda _folder: None)
    shelf = Shelf(tmp_path)
    shelf.write("first", 30)
    assert sum(each.spilled for each in spilling) == 4
    if how == "after a kill":
        assert files_with(shelf, SECRET)
        kill(shelf)
        monkeypatch.undo()
        shelf = Shelf(tmp_path)
    assert not files_with(shelf, SECRET)
    shelf.close()
    again = Shelf(tmp_path)
    assert len(ids(again)) == 30
    again.write("second", 1100)
    assert len(ids(again)) == 1130
    assert again.index.elements() > 1000
    assert again.library.search(ME, "second keeps the secret word1007").hits
    again.close()


def test_an_index_that_begins_to_grow_while_it_is_used_is_replaced(shelf):
    shelf.index.close()
    shelf = shelf.reopen()
    folder = next(path for path in (shelf.folder / "index").glob("*/*") if path.is_dir())
    with (folder / "link_lists.bin").open("ab") as links:
        # Sparse: it only looks large.
        links.truncate(200_000_000)
    shelf.library.mend_index()
    assert all(layer.serving for layer in shelf.library.layers._all())
    largest = max(path.stat().st_size for path in (shelf.folder / "index").rglob("*"))
    assert largest < 10_000_000
    assert shelf.library.search(ME, "the secret word7").hits


def test_an_index_without_its_files_is_made_again(shelf):
    kill(shelf)
    shutil.rmtree(shelf.folder / "index")
    again = shelf.reopen()
    assert len(ids(again)) == 30
    assert len(ids(again, again.deep)) == 30


class LateLight(FakeEmbedder):
    """An embedder that is not there yet."""

    here = False

    @property
    def identity(self):
        if not self.here:
            raise EmbedderError("The embedder is not there.")
        return self._identity

    @identity.setter
    def identity(self, value):
        self._identity = value


def test_without_an_embedder_a_healthy_index_is_left_alone_until_there_is_one(shelf):
    shelf.close()
    generation = shelf.index.generation()
    light, store = LateLight(), Store.open(shelf.folder / "companion.db")
    library = Library(
        store,
        light,
        VectorIndex(shelf.folder / "index"),
        originals=shelf.folder / "originals",
        max_bytes=1,
    )
    for _ in range(3):
        with pytest.raises(EmbedderError):
            library.mend_index()
    light.here = True
    library.mend_index()
    assert library.status(ME).index == "ready"
    assert library.layers.light.serving
    library.close()
    store.close()
    assert [path for path in generation.parent.iterdir() if path.is_dir()] == [generation]


def test_an_index_that_no_process_can_look_at_is_kept_and_opened_later(shelf, monkeypatch):
    def refuse(*_arguments):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    before = shelf.index.generation()
    kill(shelf)
    monkeypatch.setattr(vectors, "Child", refuse)
    again = shelf.reopen()
    again.library.mend_index()
    assert again.library.status(ME).index == "exact"
    assert again.library.search(ME, "word7").hits
    monkeypatch.undo()
    again.library.mend_index()
    assert again.library.status(ME).index == "ready"
    assert again.index.generation() == before


def test_an_open_index_is_not_probed_by_a_second_process(shelf, probes):
    shelf.library.open_index()
    assert probes == []
    assert shelf.library.status(ME).index == "ready"
