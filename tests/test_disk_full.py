"""A disk that fills up at any moment: nothing acknowledged is lost, and all goes on when there is room."""

import shutil
import sqlite3
from dataclasses import replace

import pytest

from companion.app import build
from companion.config import Settings
from companion.domain import (
    LOCAL_OWNER,
    DocumentState,
    MessageState,
    Role,
    RunOutcome,
    SessionConfig,
    ThinkingMode,
    Why,
    WorkState,
)
from companion.errors import DatabaseDamaged, DiskFull
from companion.library.vectors import VectorIndex, collection_name, vector_id
from companion.storage.store import Store
from tests.fakes import MODEL, FakeDeep, FakeEmbedder, FakeLoad, ScriptedEngine
from tests.house import house
from tests.test_states import House, fill, small_disk, wait_for

ME = LOCAL_OWNER
BOOK = "\n\n".join(f"# Part {n}\n\n" + f"In harbour{n} the lamp{n} is lit. " * 90 for n in range(40)).encode()
CONFIG = SessionConfig("s", "llama3.2:3b", ThinkingMode.HYBRID, 5, "light", "deep", 600)
LOADED = replace(MODEL, loaded=True, loaded_window=8192)


class Flood:
    """Fills the disk when something is done, once, after so many times."""

    def __init__(self, disk, doing, after=0):
        self.disk = disk
        self.doing = doing
        self.after = after
        self.ballast = None

    def __call__(self, *arguments, **more):
        if self.ballast is None:
            self.after -= 1
            if self.after < 0:
                self.ballast = fill(self.disk)
        return self.doing(*arguments, **more)


def before_passages(app, disk):
    return app.companion.store.passages, "write", 0


def before_vectors(app, disk):
    return app.companion.store.embeddings, "save", 0


def between_vectors(app, disk):
    return app.companion.store.embeddings, "save", 1


def before_the_index(app, disk):
    return app.companion.library._index, "upsert", 1


def before_the_end(app, disk):
    return app.companion.store.documents, "finish", 0


@pytest.mark.parametrize(
    "moment", [before_passages, before_vectors, between_vectors, before_the_index, before_the_end]
)
def test_a_disk_that_fills_while_a_document_comes_in_loses_nothing_and_goes_on(tmp_path, monkeypatch, moment):
    with small_disk(tmp_path / "disk", 30) as disk:
        app = House(disk / "data", min_free_mb=1).start()
        library, store = app.companion.library, app.companion.store
        library.add(ME, "guide.md", b"# Guide\n\nPress the blue button to add documents.")
        session_id = app.client.post("/api/sessions").json()["session_id"]
        place, name, after = moment(app, disk)
        flood = Flood(disk, getattr(place, name), after)
        monkeypatch.setattr(place, name, flood)
        accepted = library.accept(ME, "book.md", BOOK)
        try:
            library.ingest(accepted.doc_id)
        except DiskFull:
            assert store.full
        assert flood.ballast is not None
        asked = app.client.post(f"/api/sessions/{session_id}/messages", json={"content": "Blue button?"})
        assert (asked.status_code, asked.json()["state"]) == (200, "complete")
        assert any("blue" in hit.passage.text for hit in library.search(ME, "blue button").hits)
        assert library.original(ME, accepted.doc_id).read_bytes() == BOOK
        flood.ballast.unlink()
        wait_for(lambda: library.document(ME, accepted.doc_id).state is DocumentState.SEARCHABLE)
        wait_for(lambda: library.status(ME).index == "ready" and library.layers.agreed)
        assert "lamp7" in library.search(ME, "harbour7 lamp7").hits[0].passage.text
        assert_agreed(app)
        assert app.companion.health().state == "ready"
        assert len(app.client.get(f"/api/sessions/{session_id}/messages").json()["messages"]) == 2
        app.companion.close()


def test_a_disk_that_fills_while_another_embedder_reads_the_library_only_delays_it(tmp_path, monkeypatch):
    with small_disk(tmp_path / "disk", 30) as disk:
        app = House(disk / "data", min_free_mb=1).start()
        app.companion.library.add(ME, "book.md", BOOK)
        app.companion.close()
        other = FakeEmbedder("other-bag")
        again = House(disk / "data", light=other, min_free_mb=1)
        flood = Flood(disk, again.companion.store.embeddings.save)
        monkeypatch.setattr(again.companion.store.embeddings, "save", flood)
        again.companion.start()
        wait_for(lambda: again.companion.store.full)
        assert "lamp7" in again.companion.library.search(ME, "harbour7 lamp7").hits[0].passage.text
        flood.ballast.unlink()
        library = again.companion.library
        wait_for(lambda: (status := library.status(ME)).embedded == status.passages)
        wait_for(lambda: library.status(ME).index == "ready")
        assert_agreed(again, other)
        again.companion.close()


def test_a_disk_that_fills_while_the_library_is_deepened_only_delays_it(tmp_path, monkeypatch):
    deep = FakeDeep("deep-bag")
    with small_disk(tmp_path / "disk", 30) as disk:
        companion = build(
            Settings(data_dir=disk / "data", offline=True, min_free_mb=1, embed_deep="deep-bag"),
            engines=[ScriptedEngine()], light=FakeEmbedder(), deep=lambda _name, _may_fetch: deep,
            reader=FakeLoad(),
        )  # fmt: skip
        library, store = companion.library, companion.store
        companion.start()
        wait_for(lambda: companion.health().state == "ready")
        library.add(ME, "book.md", BOOK)
        flood = Flood(disk, store.embeddings.save)
        monkeypatch.setattr(store.embeddings, "save", flood)
        companion.work.deepening.press("start")
        wait_for(lambda: flood.ballast is not None and store.full)
        assert "lamp7" in library.search(ME, "harbour7 lamp7").hits[0].passage.text
        flood.ballast.unlink()
        wait_for(lambda: not store.full)
        wait_for(lambda: companion.work.deepening.press("start") or _is_whole(library))
        assert "deep" in library.search(ME, "harbour7 lamp7").layers
        companion.close()


def test_on_a_full_disk_deepening_gives_the_machine_back_and_does_not_begin_again(tmp_path, monkeypatch):
    deep, engine = FakeDeep("deep-bag"), ScriptedEngine(models=[LOADED])
    with small_disk(tmp_path / "disk", 30) as disk:
        companion = build(
            Settings(data_dir=disk / "data", offline=True, min_free_mb=1, embed_deep="deep-bag"),
            engines=[engine], light=FakeEmbedder(), deep=lambda _name, _may_fetch: deep,
            reader=FakeLoad(),
        )  # fmt: skip
        companion.start()
        wait_for(lambda: companion.health().state == "ready")
        companion.library.add(ME, "book.md", BOOK)
        flood = Flood(disk, companion.store.embeddings.save)
        monkeypatch.setattr(companion.store.embeddings, "save", flood)
        companion.work.deepening.press("start")
        wait_for(lambda: flood.ballast is not None and companion.store.full)
        status = companion.work.deepening.status
        wait_for(lambda: (now := status()).state is WorkState.WATCHING and now.reason.why is Why.FAILED)
        assert "full" in status().reason.text
        assert not deep.running
        pressed_at = companion.work.deepening._watch.wished_at
        companion.work.deepening.press("start")
        wait_for(lambda: companion.work.deepening._watch.wished_at > pressed_at)
        assert (status().state, status().reason.why) == (WorkState.WATCHING, Why.FAILED)
        assert engine.loads == [(MODEL.name, 0), (MODEL.name, 8192)]
        assert deep.starts == 1
        companion.close()


def test_with_a_torn_database_deepening_gives_the_machine_back(tmp_path):
    deep, engine = FakeDeep("deep-bag"), ScriptedEngine(models=[LOADED])
    deep.held.set()
    companion = build(
        Settings(data_dir=tmp_path / "data", offline=True, embed_deep="deep-bag"),
        engines=[engine], light=FakeEmbedder(), deep=lambda _name, _may_fetch: deep,
        reader=FakeLoad(),
    )  # fmt: skip
    companion.start()
    wait_for(lambda: companion.health().state == "ready")
    book = companion.library.add(ME, "book.md", BOOK)
    companion.work.deepening.press("start")
    assert deep.waiting.wait(60)
    companion.store.checkpoint()
    with (tmp_path / "data" / "companion.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"?" * 1_000_000)
    with pytest.raises(DatabaseDamaged):
        companion.store.passages.of(ME, book.doc_id)
    deep.held.clear()
    wait_for(lambda: engine.loads == [(MODEL.name, 0), (MODEL.name, 8192)])
    assert not deep.running
    companion.close()


def _is_whole(library):
    return [(layer.in_force, layer.coverage) for layer in library.deep_layers(ME)] == [(True, 1.0)]


def assert_agreed(app, embedder=None):
    embedder_id = (embedder or FakeEmbedder()).identity.embedder_id
    stored = {vector_id(*key) for key in app.companion.store.embeddings.keys(embedder_id, ME)}
    assert app.companion.library._index.ids(collection_name(embedder_id, ME)) == stored


def test_an_index_that_cannot_be_rebuilt_for_want_of_room_is_rebuilt_when_there_is(tmp_path):
    with small_disk(tmp_path / "disk", 30) as disk:
        app = House(disk / "data", min_free_mb=1).start()
        app.companion.library.add(ME, "book.md", BOOK)
        app.companion.close()
        tear = next(disk.rglob("chroma.sqlite3"))
        tear.write_bytes(tear.read_bytes()[: tear.stat().st_size // 2])
        again = House(disk / "data", min_free_mb=1)
        ballast = fill(disk)
        again.companion.start()
        library = again.companion.library
        wait_for(lambda: library._opened)
        assert library.status(ME).index == "exact"
        assert "lamp7" in library.search(ME, "harbour7 lamp7").hits[0].passage.text
        wait_for(lambda: again.companion.health().state == "degraded")
        assert "disk_full" in again.conditions()
        ballast.unlink()
        wait_for(lambda: library.status(ME).index == "ready")
        assert_agreed(again)
        again.companion.close()


def test_an_app_starts_on_a_disk_that_filled_while_it_was_away(tmp_path):
    with small_disk(tmp_path / "disk", 30) as disk:
        app = House(disk / "data", min_free_mb=1).start()
        app.companion.library.add(ME, "guide.md", b"# Guide\n\nPress the blue button to add documents.")
        app.companion.close()
        fill(disk)
        again = House(disk / "data", min_free_mb=1)
        again.companion.start()
        session_id = again.client.post("/api/sessions").json()["session_id"]
        asked = again.client.post(f"/api/sessions/{session_id}/messages", json={"content": "Blue button?"})
        assert asked.status_code == 200
        again.companion.close()


def test_an_app_that_was_killed_while_it_deepened_starts_on_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", 50) as disk:
        app = House(disk / "data", min_free_mb=1).start()
        runs, embedder = app.companion.store.index_runs, FakeDeep().identity
        app.companion.store.embeddings.register(embedder)
        runs.begin(embedder.embedder_id)
        # As a kill leaves it.
        shutil.copytree(disk / "data", disk / "killed")
        app.companion.close()
        ballast = fill(disk)
        again = House(disk / "killed", min_free_mb=1).start()
        assert again.client.get("/api/documents").status_code == 200
        ballast.unlink()
        wait_for(lambda: not again.companion.store.full)
        runs = again.companion.store.index_runs
        runs.end(runs.begin(embedder.embedder_id), RunOutcome.COMPLETE, 1, "done")
        assert [run.outcome for run in runs.latest()] == [RunOutcome.COMPLETE, RunOutcome.BROKEN]
        again.companion.close()


def test_what_was_said_on_a_full_disk_is_kept_over_a_kill(tmp_path):
    with small_disk(tmp_path / "disk", 20) as disk:
        path = disk / "companion.db"
        store = Store.open(path, 2_000_000)
        store.sessions.create(ME, "s", CONFIG)
        fill(disk)
        said = 0
        while not store.full or said < 20:
            store.sessions.add_message(ME, "s", Role.USER, "What? " * 5000)
            store.sessions.add_answer(ME, "s", "This.", state=MessageState.COMPLETE)
            said += 1
        copy = sqlite3.connect(path)
        assert copy.execute("SELECT count(*) FROM messages").fetchone()[0] == 2 * said
        copy.close()
        store.close()


def test_on_a_full_disk_only_conversations_use_the_room_that_is_kept_for_them(tmp_path):
    with small_disk(tmp_path / "disk", 20) as disk:
        store = Store.open(disk / "companion.db", 8_000_000)
        store.sessions.create(ME, "s", CONFIG)
        fill(disk)
        while not store.full:
            store.sessions.add_message(ME, "s", Role.USER, "What? " * 5000)
        fill(disk, leave=4_000_000, name="more")
        with pytest.raises(DiskFull):
            store.embeddings.register(FakeEmbedder().identity)
        with pytest.raises(DiskFull):
            store.settings.save({"cot_iterations": 3})
        store.sessions.rename(ME, "s", "Kept all the same")
        (disk / "more").unlink()
        (disk / "ballast").unlink()
        store.embeddings.register(FakeEmbedder().identity)
        assert not store.full
        store.close()


def test_a_deletion_makes_room_on_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", 30) as disk:
        app = House(disk / "data", min_free_mb=1).start()
        added = app.companion.library.add(ME, "book.md", BOOK)
        fill(disk)
        app.companion.library.delete(ME, added.doc_id)
        hits = app.companion.library.search(ME, "harbour7 lamp7").hits
        assert not any("lamp7" in hit.passage.text for hit in hits)
        wait_for(lambda: not list((disk / "data").rglob(f"{added.doc_id}*")))
        app.companion.close()


def test_the_index_says_which_generation_is_the_newest_after_a_rebuild(tmp_path):
    index = VectorIndex(tmp_path)
    index.connect()
    index.set_aside()
    assert index.generation().name == "0002"
    assert [path.name for path in tmp_path.iterdir()] == ["0002"]
    index.close()


def test_a_file_whose_row_finds_no_room_is_not_left(tmp_path, monkeypatch):
    app = House(tmp_path / "data")

    def refuse(_document):
        raise DiskFull("The disk is full.")

    monkeypatch.setattr(app.companion.store.documents, "add", refuse)
    assert app.upload().status_code == 422
    assert list((tmp_path / "data" / "originals").iterdir()) == []
    app.companion.close()


def test_an_upload_of_the_page_is_refused_with_the_reason_before_it_is_taken(tmp_path):
    with house(tmp_path / "data", min_free_mb=1_000_000) as home:
        answer = home.client().post("/gradio_api/upload", files={"files": ("a.txt", b"words")})
        assert answer.status_code == 507
        assert answer.json()["error"]["code"] == "disk_full"
        assert not [path for path in home.companion.settings.uploads_dir.rglob("*") if path.is_file()]


def test_an_engine_is_not_asked_for_what_cannot_be_kept(tmp_path):
    """The question is stored first, so a disk without any room refuses before a model begins."""
    engine = ScriptedEngine()
    with small_disk(tmp_path / "disk", 30) as disk:
        app = House(disk / "data", engine, min_free_mb=1)
        session_id = app.client.post("/api/sessions").json()["session_id"]
        fill(disk)
        (disk / "data" / "companion.db-reserve").unlink()
        fill(disk, name="more")
        question = {"content": "Why? " * 15_000}
        answers = [app.client.post(f"/api/sessions/{session_id}/messages", json=question) for _ in range(80)]
        refused = [answer for answer in answers if answer.status_code != 200]
        assert {answer.status_code for answer in refused} == {507}
        assert len(engine.requests) <= len(answers) - len(refused) + 1
        app.companion.close()
