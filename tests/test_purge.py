"""What was deleted or replaced is found nowhere in the data folder, in whatever file one looks."""

import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest

from companion.background import upkeep
from companion.domain import LOCAL_OWNER, Role, SessionConfig, ThinkingMode
from companion.errors import IndexUnusable
from companion.library import intake
from companion.library.library import Library
from companion.library.vectors import collection_name, vector_id
from companion.storage import store as store_module
from tests.doors import opened
from tests.fakes import FakeEmbedder, ScriptedEngine
from tests.test_states import House
from tests.waiting import until

CANARY = "qvxkmzt"
"""A word that stemming leaves whole."""
KEPT = "Bees make honey from nectar and keep it in wax cells."


class Clock:
    def __init__(self, ahead=timedelta()):
        self.ahead = ahead

    def __call__(self):
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def app(tmp_path, caplog):
    """(companion, client, clock) with a document that stays."""
    caplog.set_level(logging.DEBUG, "companion")
    with opened(tmp_path, ScriptedEngine()) as (companion, client):
        clock = companion.library._now = Clock()
        companion.library.add(LOCAL_OWNER, "bees.txt", KEPT.encode())
        companion.library.open_index()
        yield companion, client, clock


def files_with(companion):
    """Names of files with the canary. The full text leaves out what a word shares with the one before."""
    folder, part = companion.settings.data_dir, CANARY[1:].encode()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) >= 5
    return [str(path.relative_to(folder)) for path in files if part in path.read_bytes().lower()]


def upload(client, name, text):
    answer = client.post("/api/documents", files={"files": (name, text.encode())})
    assert answer.is_success, answer.text
    return answer.json()["results"][0]["document"]["doc_id"]


def in_order(companion):
    """What the worker does every few seconds, three times."""
    for _ in range(3):
        companion.library.purge_due()
        companion.sessions.purge_due()


def test_a_deleted_document_is_found_nowhere_after_its_undo_time(app, caplog):
    companion, client, clock = app
    text = f"# The {CANARY}\n\nA {CANARY} is a word. " + f"{CANARY} and other words. " * 400
    doc_id = upload(client, f"{CANARY}.md", text)
    upload(client, "other.txt", "Lava flows out of a volcano.")
    found = client.get("/api/search", params={"q": CANARY}).json()["hits"][0]
    assert found["document_name"] == f"{CANARY}.md"
    assert any("originals" in name for name in files_with(companion))
    assert any("companion.db" in name for name in files_with(companion))
    client.delete(f"/api/documents/{doc_id}")
    in_order(companion)
    assert files_with(companion), "it can be undone still"
    clock.ahead = timedelta(seconds=11)
    in_order(companion)
    assert files_with(companion) == []
    assert CANARY not in caplog.text
    assert companion.library.search(LOCAL_OWNER, "honey").hits[0].document_name == "bees.txt"


def test_a_word_that_sqlite_moved_about_in_its_page_is_found_nowhere(tmp_path):
    """Beside the sample library it stayed between the rows of the full text, whatever was deleted."""
    house = House(tmp_path / "data").start()
    library, store = house.companion.library, house.companion.store
    doc_id = library.add(LOCAL_OWNER, "notes.txt", f"A {CANARY} was here.".encode()).doc_id
    library.add(LOCAL_OWNER, "large.txt", KEPT.encode())
    library.delete(LOCAL_OWNER, doc_id)
    library._now = Clock(timedelta(seconds=11))
    until(lambda: not store.documents.due_for_purge(library._now()))
    in_order(house.companion)
    house.companion.close()
    assert files_with(house.companion) == []


@pytest.mark.parametrize("canary", ["龘靐", "ชฎฬ", "ضظغ"])
def test_words_of_any_script_are_found_nowhere_after_the_undo_time(app, canary):
    companion, client, clock = app
    # Each of its letters may stand alone in the full text, which leaves out what a word shares with
    # the one before.
    parts = [canary.encode(), canary[1:].encode()]

    def left():
        files = [path for path in companion.settings.data_dir.rglob("*") if path.is_file()]
        return [path.name for path in files if any(part in path.read_bytes() for part in parts)]

    doc_id = upload(client, "notes.txt", f"新しい{canary} {canary} " * 200)
    assert client.get("/api/search", params={"q": canary}).json()["hits"][0]["document_name"] == "notes.txt"
    assert "companion.db" in "".join(left())
    client.delete(f"/api/documents/{doc_id}")
    clock.ahead = timedelta(seconds=11)
    in_order(companion)
    assert left() == []


def test_a_document_that_could_not_be_read_is_found_nowhere_after_it_was_deleted(app, caplog):
    companion, client, clock = app
    client.post("/api/documents", files={"files": (f"{CANARY}.pdf", b"%PDF-1.4 " + CANARY.encode())})
    [failed] = [d for d in companion.store.documents.list(LOCAL_OWNER) if d.name != "bees.txt"]
    assert failed.error
    companion.library.delete(LOCAL_OWNER, failed.doc_id)
    clock.ahead = timedelta(seconds=11)
    in_order(companion)
    assert files_with(companion) == []
    assert CANARY not in caplog.text


def test_a_replaced_version_is_found_nowhere(app):
    companion, client, _ = app
    doc_id = upload(client, "notes.txt", f"First a {CANARY} was here. {KEPT}")
    files = {"files": ("notes.txt", f"Now there is none. {KEPT}".encode())}
    assert client.put(f"/api/documents/{doc_id}", files=files).is_success
    in_order(companion)
    assert files_with(companion) == []


def test_a_deleted_conversation_is_found_nowhere(app):
    companion, client, _ = app
    config = SessionConfig("s", "m", ThinkingMode.COT, 5, "a", "b", 600)
    companion.store.sessions.create(LOCAL_OWNER, "s", config, title=f"About {CANARY}")
    for _ in range(40):
        companion.store.sessions.add_message(LOCAL_OWNER, "s", Role.USER, f"What is a {CANARY}? " * 30)
    assert client.delete("/api/sessions/s").is_success
    companion.store.sessions.purge(datetime.now(UTC) + timedelta(days=1))
    in_order(companion)
    assert files_with(companion) == []


def test_words_of_an_edited_question_are_found_nowhere(app):
    companion, _, _ = app
    config = SessionConfig("s", "m", ThinkingMode.COT, 5, "a", "b", 600)
    companion.store.sessions.create(LOCAL_OWNER, "s", config)
    asked = companion.store.sessions.add_message(LOCAL_OWNER, "s", Role.USER, f"What is a {CANARY}?")
    companion.store.sessions.rewrite_question(LOCAL_OWNER, "s", asked.message_id, "What is a bee?")
    in_order(companion)
    assert files_with(companion) == []


class Killed(BaseException):
    pass


def die(*_, **__):
    raise Killed


def test_what_a_kill_interrupted_is_forgotten_after_the_next_start(tmp_path, monkeypatch):
    """Between the rows and the words, and between the new version and the old file."""
    with opened(tmp_path, ScriptedEngine()) as (companion, client):
        doc_id = upload(client, "notes.txt", f"First a {CANARY} was here.")
        monkeypatch.setattr(companion.library._originals, "remove_others", die)
        with pytest.raises(Killed):
            companion.library.add(LOCAL_OWNER, "notes.txt", b"Now there is none.")
        with monkeypatch.context() as patch:
            patch.setattr(store_module, "forget_some_words", die)
            with pytest.raises(Killed):
                companion.library.purge_due()
        left = files_with(companion)
        assert any("originals" in name for name in left)
        assert any("companion.db" in name for name in left)
    with opened(tmp_path, ScriptedEngine()) as (companion, client):
        companion.library.resume()
        in_order(companion)
        assert files_with(companion) == []
        assert client.get(f"/api/documents/{doc_id}/original").content == b"Now there is none."


def test_a_version_that_could_not_be_read_leaves_the_earlier_original(app):
    companion, client, _ = app
    doc_id = upload(client, "notes.txt", "An earlier version.")
    earlier = companion.library.original(LOCAL_OWNER, doc_id)
    companion.library.accept(LOCAL_OWNER, "notes.txt", b"A later version.")
    companion.library._originals._leftovers = sorted(earlier.parent.iterdir())
    companion.library._intake._sweep_originals()
    assert earlier.exists()
    assert companion.library.original(LOCAL_OWNER, doc_id).exists()


def test_a_document_is_purged_also_while_the_index_cannot_be_opened(tmp_path, monkeypatch):
    def unusable(_library):
        raise IndexUnusable("The vector index cannot be used.")

    monkeypatch.setattr(Library, "open_index", unusable)
    with opened(tmp_path, ScriptedEngine()) as (companion, client):
        doc_id = upload(client, "notes.txt", f"A {CANARY} was here.")
        companion.start()
        until(lambda: companion.health().state == "degraded")
        client.delete(f"/api/documents/{doc_id}")
        companion.library._now = Clock(timedelta(seconds=11))
        companion.work.worker.wake()
        until(lambda: not list(companion.settings.originals_dir.glob(f"{doc_id}*")), 60)
        until(lambda: not companion.store.documents.due_for_purge(companion.library._now()))
        assert companion.work.worker.failing


class SlowEmbedder(FakeEmbedder):
    """Waits in each batch while it is held."""

    def __init__(self, name="bag-of-words"):
        super().__init__(name)
        self.free = threading.Event()
        self.free.set()
        self.waiting = threading.Event()

    def embed_passages(self, texts):
        if not self.free.is_set():
            self.waiting.set()
            assert self.free.wait(60)
        return super().embed_passages(texts)


def test_a_deleted_document_goes_while_a_large_one_is_embedded(tmp_path):
    embedder = SlowEmbedder()
    house = House(tmp_path / "data", light=embedder)
    library, store = house.companion.library, house.companion.store
    library.open_index()
    doc_id = upload(house.client, "notes.txt", f"A {CANARY} was here.")
    embedder.free.clear()
    large = threading.Thread(target=lambda: upload(house.client, "large.txt", KEPT))
    large.start()
    assert embedder.waiting.wait(60)
    house.client.delete(f"/api/documents/{doc_id}")
    library._now = Clock(timedelta(seconds=11))
    in_order(house.companion)
    assert files_with(house.companion) == []
    assert library.busy
    embedder.free.set()
    large.join(60)
    assert library.search(LOCAL_OWNER, "honey").hits[0].document_name == "large.txt"
    embedder_id = embedder.identity.embedder_id
    stored = {vector_id(*key) for key in store.embeddings.keys(embedder_id, LOCAL_OWNER)}
    assert library._index.ids(collection_name(embedder_id, LOCAL_OWNER)) == stored
    house.companion.close()


def test_a_deleted_document_goes_while_a_library_gets_its_vectors(tmp_path, monkeypatch):
    monkeypatch.setattr(upkeep, "EVERY_S", 0.0)
    monkeypatch.setattr(intake, "PIECE_S", 0.0)
    with opened(tmp_path, ScriptedEngine()) as (_companion, client):
        doc_id = upload(client, "notes.txt", f"A {CANARY} was here.")
        for number in range(5):
            upload(client, f"{number}.txt", f"{KEPT} Number {number}.")
    house = House(tmp_path / "data", light=SlowEmbedder("another"))
    library, tick = house.companion.library, house.companion.work.upkeep.tick
    until(lambda: library.status(LOCAL_OWNER).embedded, pause=tick)
    house.client.delete(f"/api/documents/{doc_id}")
    library._now = Clock(timedelta(seconds=11))
    tick()
    assert not list(house.companion.settings.originals_dir.glob(f"{doc_id}*"))
    assert not house.companion.store.passages.of_anybody(doc_id)
    assert library.status(LOCAL_OWNER).embedded < 5
    until(lambda: library.status(LOCAL_OWNER).embedded == 5, pause=tick)
    house.companion.close()


def test_words_of_many_purged_documents_are_forgotten_in_one_round(app, monkeypatch):
    companion, client, clock = app
    ids = [upload(client, f"{number}.txt", f"{CANARY} number {number}.") for number in range(5)]
    for doc_id in ids:
        companion.library.delete(LOCAL_OWNER, doc_id)
    rounds, forget = [], store_module.forget_some_words

    def counted(connection, *, first):
        rounds.append(first)
        return forget(connection, first=first)

    monkeypatch.setattr(store_module, "forget_some_words", counted)
    clock.ahead = timedelta(seconds=11)
    assert companion.library.purge_due() == 5
    assert rounds.count(True) == 1
    assert files_with(companion) == []
    companion.library.purge_due()
    assert rounds.count(True) == 1, "nothing is owed any more"


def test_others_write_while_words_are_forgotten_and_nothing_of_theirs_is_lost(app):
    companion, client, clock = app
    doc_id = upload(client, "notes.txt", f"A {CANARY}. " + " ".join(f"word{n}" for n in range(3000)))
    companion.library.delete(LOCAL_OWNER, doc_id)
    clock.ahead = timedelta(seconds=11)
    end, written = threading.Event(), []

    def write():
        while not end.is_set():
            name = f"{len(written)}.txt"
            written.append(companion.library.add(LOCAL_OWNER, name, f"Plain zebra {name}.".encode()))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while companion.store.documents.due_for_purge(clock()) or len(written) < 3:
            companion.library.purge_due()
    finally:
        end.set()
        writer.join()
    in_order(companion)
    assert files_with(companion) == []
    found = companion.store.words.search([LOCAL_OWNER], ["zebra"], 1000)
    assert len(found) == len(written)


def test_somebody_who_reads_meanwhile_delays_the_forgetting_but_does_not_prevent_it(app):
    companion, client, clock = app
    doc_id = upload(client, "notes.txt", f"A {CANARY} was here.")
    with companion.store.documents._database.reading() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM documents").scalar()
        companion.library.delete(LOCAL_OWNER, doc_id)
        clock.ahead = timedelta(seconds=11)
        in_order(companion)
    in_order(companion)
    assert files_with(companion) == []
