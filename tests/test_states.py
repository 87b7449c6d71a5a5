"""Every state of the app has a sentence and an action, comes when it should, and goes by itself."""

import asyncio
import os
import re
import signal
import socket
import sqlite3
import subprocess
import threading
from contextlib import contextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from companion.api.app import create_api
from companion.app import build
from companion.conditions import Facts, Models, conditions
from companion.config import Settings
from companion.domain import LOCAL_OWNER, EmbedderChange
from companion.errors import DiskFull, EmbedderError, EngineUnavailable, NotFound
from companion.inference.catalog import Situation
from companion.inference.late_embedder import LateEmbedder
from tests.browser import free_port
from tests.fakes import MODEL, THINKER, TINY, FakeEmbedder, ScriptedEngine
from tests.test_web import App, assert_one_sentence, options, run
from tests.waiting import until

GUIDE = b"# Guide\n\nPress the blue button to add documents.\n"
AWAY = "Ollama does not answer at http://127.0.0.1:11434; start it with `ollama serve`."


class AwayEngine(ScriptedEngine):
    """Ollama that can be started and stopped."""

    here = False

    async def models(self):
        if not self.here:
            raise EngineUnavailable(AWAY)
        return await super().models()


class SilentEngine(ScriptedEngine):
    """Ollama that says nothing until the test lets it."""

    silent = True

    async def models(self):
        while self.silent:
            await asyncio.sleep(0.01)
        return await super().models()


class House:
    """The whole app behind its HTTP interface, with scripted engines."""

    def __init__(self, folder, *engines, light=None, **more):
        settings = Settings(data_dir=folder, offline=True, **more)
        self.companion = build(settings, engines=engines or [ScriptedEngine()], light=light or FakeEmbedder())
        outside = Starlette(routes=[Mount("/api", create_api(self.companion))])
        self.client = TestClient(outside, base_url="http://127.0.0.1", raise_server_exceptions=False)

    def conditions(self, session_id=None):
        params = {"session_id": session_id} if session_id else {}
        told = self.client.get("/api/health", params=params).json()["conditions"]
        return {each["code"]: each for each in told if each["code"] != "no_gpu"}

    def await_conditions(self, wanted, session_id=None):
        wait_for(lambda: wanted(self.conditions(session_id)))
        return self.conditions(session_id)

    def look_at_engines(self):
        """At once, not only when the list of models is five seconds old."""
        asyncio.run(self.companion.catalog.models(refresh=True))

    def start(self):
        self.companion.start()
        wait_for(lambda: self.companion.health().state != "warming")
        return self

    def upload(self, name="guide.md", content=GUIDE):
        return self.client.post("/api/documents", files={"files": (name, content)})


wait_for = until


@pytest.fixture
def house(tmp_path):
    built = []

    def make(*engines, folder=None, **more):
        built.append(House(folder or tmp_path / "data", *engines, **more))
        return built[-1]

    yield make
    for each in built:
        each.companion.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The program itself."""
    program = App(tmp_path_factory.mktemp("states") / "data")
    yield program
    program.kill()


# --- words --------------------------------------------------------------------------------


OK = Situation("ok", "llama3.2:3b")
ALL_FACTS = [
    Facts(),
    Facts(conversations=True),
    Facts(warming="The index is being checked", warming_s=12.3),
    Facts(trouble="The embedder all-MiniLM-L6-v2 is not there; it is fetched when there is a network."),
    Facts(change=EmbedderChange("all-mpnet-base-v2", "all-MiniLM-L6-v2", 0, 0)),
    Facts(change=EmbedderChange("all-mpnet-base-v2", "all-MiniLM-L6-v2", 1240, 5183)),
    Facts(english_embedder="all-MiniLM-L6-v2"),
    Facts(library_stuck=True),
    Facts(failed_documents=1),
    Facts(failed_documents=2),
    Facts(disk_full=True),
    Facts(free="120 MB"),
    Facts(open_pages=5),
    Facts(gpu=False),
    Facts(models=Models(OK, "gone:7b", "llama3.2:3b")),
    Facts(models=Models(Situation("no_ollama", "smollm2", AWAY), None, "smollm2")),
    Facts(models=Models(Situation("ollama_without_models", "smollm2", "Ollama has none."), None, "smollm2")),
    Facts(models=Models(Situation("no_ollama", None, AWAY), None, None)),
    Facts(models=Models(Situation("ollama_without_models", None, "Ollama has none."), None, None)),
]


@pytest.mark.parametrize("facts", ALL_FACTS, ids=str)
def test_each_state_has_one_sentence_and_one_action(facts):
    found = conditions(facts)
    assert found
    for each in found:
        assert each.sentence.endswith(".")
        assert ". " not in each.sentence
        assert "\n" not in each.sentence
        assert each.action.code
        assert each.action.label[0].isupper()


def test_the_most_important_state_comes_first():
    everything = Facts(
        models=Models(OK, "gone:7b", "llama3.2:3b"), disk_full=True, failed_documents=1, gpu=False
    )
    assert [each.severity for each in conditions(everything)] == [
        "error",
        "warning",
        "warning",
        "info",
        "info",
    ]
    assert conditions(everything)[0].code == "disk_full"


# --- documents ----------------------------------------------------------------------------


def test_a_first_run_an_empty_library_and_a_library_of_ones_own_are_told_apart(house):
    app = house()
    first = app.conditions()["first_run"]
    assert first["action"]["code"] == "add_documents"
    app.client.post("/api/sessions")
    now = app.conditions()
    assert "first_run" not in now
    assert "sample library" in now["empty_library"]["sentence"]
    app.upload()
    assert not {"first_run", "empty_library"} & set(app.conditions())


def test_documents_that_could_not_be_read_are_counted_until_they_are_gone(house):
    app = house()
    assert "failed_documents" not in app.conditions()
    for name in ("one.txt", "two.txt"):
        app.upload(name, b"")
    told = app.conditions()["failed_documents"]
    assert told["sentence"].startswith("2 documents could not be read")
    assert told["action"]["code"] == "show_failed_documents"
    for document in app.client.get("/api/documents").json()["documents"]:
        app.client.delete(f"/api/documents/{document['doc_id']}")
    assert "failed_documents" not in app.conditions()


# --- models -------------------------------------------------------------------------------


def test_without_ollama_it_says_who_answers_and_where_to_get_ollama_until_it_is_there(house):
    ollama = AwayEngine()
    app = house(ollama, ScriptedEngine(models=(TINY,), name="builtin"))
    told = app.await_conditions(lambda now: "no_ollama" in now)["no_ollama"]
    assert "smollm2 answers" in told["sentence"]
    assert told["action"] == {
        "code": "get_ollama", "label": "Get Ollama", "link": "https://ollama.com/download"
    }  # fmt: skip
    ollama.here = True
    app.look_at_engines()
    app.await_conditions(lambda now: "no_ollama" not in now)


def test_ollama_without_models_asks_to_pull_one_and_says_who_answers_meanwhile(house):
    ollama = ScriptedEngine(models=())
    app = house(ollama, ScriptedEngine(models=(TINY,), name="builtin"))
    told = app.await_conditions(lambda now: "ollama_without_models" in now)["ollama_without_models"]
    assert "smollm2 answers" in told["sentence"]
    assert told["action"]["code"] == "pull_model"
    ollama.offered = [MODEL]
    app.look_at_engines()
    app.await_conditions(lambda now: "ollama_without_models" not in now)


def test_with_nobody_to_answer_that_is_the_first_thing_said(house):
    app = house(AwayEngine(), ScriptedEngine(models=(), name="builtin"))
    app.await_conditions(lambda now: "no_model" in now)
    first = app.client.get("/api/health").json()["conditions"][0]
    assert (first["code"], first["severity"], first["action"]["code"]) == ("no_model", "error", "get_ollama")


def test_a_model_that_vanished_is_named_with_the_one_that_answers_for_its_conversation_only(house):
    engine = ScriptedEngine(models=(MODEL, THINKER))
    app = house(engine)
    thinking = app.client.post("/api/sessions", json={"model_name": THINKER.name}).json()["session_id"]
    other = app.client.post("/api/sessions", json={"model_name": MODEL.name}).json()["session_id"]
    assert "model_vanished" not in app.conditions(thinking)
    engine.offered = [MODEL]
    app.look_at_engines()
    told = app.await_conditions(lambda now: "model_vanished" in now, thinking)["model_vanished"]
    assert told["sentence"] == f"The model {THINKER.name} is no longer there; {MODEL.name} answers instead."
    assert told["action"]["code"] == "choose_model"
    assert "model_vanished" not in app.conditions(other)


def test_states_of_a_conversation_that_is_not_there_are_not_found(house):
    app = house()
    assert app.client.get("/api/health", params={"session_id": "nobodys"}).status_code == 404
    with pytest.raises(NotFound):
        app.companion.conditions(LOCAL_OWNER, "nobodys")


def test_a_silent_engine_holds_nobody_up(house):
    engine = SilentEngine()
    app = house(engine)
    assert "first_run" in app.conditions()
    assert app.companion.outlook.situation is None
    engine.silent = False
    wait_for(lambda: app.conditions() and app.companion.outlook.situation)


# --- warming up ---------------------------------------------------------------------------


class SlowStart:
    """An embedder that is loaded when the test says so, or fails to."""

    def __init__(self):
        self.proceed = threading.Event()
        self.error = None

    def load(self):
        self.proceed.wait(60)
        if self.error:
            raise EmbedderError(self.error)
        return FakeEmbedder()


def test_while_it_warms_up_it_says_what_is_loading_and_for_how_long(house):
    slow = SlowStart()
    app = house(light=LateEmbedder(slow.load, patience_s=0.1))
    app.companion.start()
    told = app.await_conditions(lambda now: "(0 s " not in now["warming"]["sentence"])["warming"]
    assert re.search(r"\(\d+ s so far\)", told["sentence"])
    assert told["sentence"].startswith("The embedder is being loaded")
    slow.proceed.set()
    app.await_conditions(lambda now: "warming" not in now)
    assert app.client.get("/api/health").json()["state"] == "ready"


def test_an_embedder_that_could_not_be_loaded_is_tried_again_when_asked(house):
    slow = SlowStart()
    slow.error = "The weights are not there; go online once."
    slow.proceed.set()
    app = house(light=LateEmbedder(slow.load, patience_s=0.1)).start()
    told = app.conditions()["embedder_missing"]
    assert (told["sentence"], told["action"]["code"]) == (slow.error, "try_again")
    slow.error = None
    assert app.client.post("/api/health/try-again").status_code == 204
    app.await_conditions(lambda now: not {"embedder_missing", "warming"} & set(now))
    wait_for(lambda: app.companion.library.status(LOCAL_OWNER).index == "ready")


# --- the disk -----------------------------------------------------------------------------


@contextmanager
def small_disk(folder, megabytes):
    """A disk of its own; skipped where mounting is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small disk needs more rights than there are")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, leave=0, name="ballast"):
    """Take all space but `leave` bytes; returns the file to remove."""
    ballast = folder / name
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
        if leave:
            file.truncate(file.tell() - leave)
    return ballast


def test_a_torn_database_is_said_and_nothing_more_is_written_into_it(tmp_path):
    app = App(tmp_path / "data")
    for number in range(30):
        words = f"Room {number} has a lamp. ".encode() * 200
        app.client.post("/api/documents", files={"files": (f"{number}.md", words)})
    app.kill()
    database = tmp_path / "data" / "companion.db"
    sqlite3.connect(database).execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    content = database.read_bytes()
    database.write_bytes(content[: len(content) // 3 // 4096 * 4096])
    torn = App(tmp_path / "data")
    try:
        wait_for(lambda: torn.client.get("/api/health").json()["state"] == "degraded")
        (told,) = torn.client.get("/api/health").json()["conditions"]
        assert told["code"] == "database_damaged"
        assert torn.client.post("/api/sessions").json()["error"]["code"] == "database_damaged"
        found = torn.client.get("/api/health/doctor").json()["findings"]
        assert next(each for each in found if each["code"] == "database")["state"] == "error"
        assert "Traceback" not in torn.read_errors()
    finally:
        torn.kill()


def test_a_nearly_full_disk_refuses_documents_answers_questions_and_heals(house, tmp_path):
    with small_disk(tmp_path / "disk", 40) as disk:
        app = house(folder=disk / "data", min_free_mb=5).start()
        kept = app.upload().json()["results"][0]["document"]["doc_id"]
        session_id = app.client.post("/api/sessions").json()["session_id"]
        ballast = fill(disk, leave=3_000_000)
        told = app.conditions()["disk_nearly_full"]
        assert told["action"]["code"] == "free_disk_space"
        for refused in (
            app.upload("new.md", b"# New\n\nNew words."),
            app.client.put(f"/api/documents/{kept}", files={"files": ("guide.md", b"# New\n")}),
        ):
            assert refused.status_code == 507
            assert refused.json()["error"]["code"] == "disk_full"
            assert "free some space" in refused.json()["error"]["message"]
        for not_through_http in (
            lambda: app.companion.library.accept(LOCAL_OWNER, "new.md", b"# New\n"),
            lambda: app.companion.library.replace(LOCAL_OWNER, kept, "guide.md", b"# New\n"),
        ):
            with pytest.raises(DiskFull, match="free some space"):
                not_through_http()
        asked = app.client.post(f"/api/sessions/{session_id}/messages", json={"content": "Blue button?"})
        assert (asked.status_code, asked.json()["state"]) == (200, "complete")
        ballast.unlink()
        assert "disk_nearly_full" not in app.conditions()
        assert app.upload("new.md", b"# New\n\nNew words.").status_code == 201
        app.companion.close()


def test_a_large_upload_is_refused_before_it_fills_the_disk(house, tmp_path):
    with small_disk(tmp_path / "disk", 40) as disk:
        app = house(folder=disk / "data", min_free_mb=20)
        free = os.statvfs(disk).f_bavail
        assert app.upload("big.txt", b"word " * 5_000_000).status_code == 507
        assert os.statvfs(disk).f_bavail == free
        app.companion.close()


def test_a_full_disk_leaves_reading_and_conversations_alone_and_heals(house, tmp_path):
    with small_disk(tmp_path / "disk", 40) as disk:
        app = house(folder=disk / "data", min_free_mb=1).start()
        app.upload()
        session_id = app.client.post("/api/sessions").json()["session_id"]
        question = {"content": "What does the blue button do? " * 2000}
        ballast = fill(disk)
        asked = ask_until_full(app, session_id, question)
        health = app.client.get("/api/health").json()
        assert health["state"] == "degraded"
        assert health["conditions"][0]["code"] == "disk_full"
        another = app.client.post("/api/sessions").json()["session_id"]
        answer = app.client.post(f"/api/sessions/{another}/messages", json={"content": "Blue button?"})
        assert (answer.status_code, answer.json()["state"]) == (200, "complete")
        refused = app.upload("new.md", b"# New\n")
        assert refused.status_code == 507
        assert_one_sentence(refused.json()["error"]["message"])
        assert app.client.get("/api/search", params={"q": "blue button"}).json()["hits"]
        assert len(app.client.get("/api/documents").json()["documents"]) > 1
        ballast.unlink()
        app.await_conditions(lambda now: "disk_full" not in now)
        assert app.upload("new.md", b"# New\n\nNew words.").status_code == 201
        assert app.client.get("/api/health").json()["state"] == "ready"
        app.companion.close()
        kept = house(folder=disk / "data", min_free_mb=1).client
        assert len(kept.get(f"/api/sessions/{session_id}/messages").json()["messages"]) == 2 * asked
        assert len(kept.get(f"/api/sessions/{another}/messages").json()["messages"]) == 2


def ask_until_full(app, session_id, question):
    """How often, for the log of the database may have some room of its own left; each is answered."""
    for number in range(50):
        answer = app.client.post(f"/api/sessions/{session_id}/messages", json=question)
        assert answer.status_code == 200
        if app.companion.store.full:
            # Somebody else takes most of what was given up for conversations.
            fill(app.companion.settings.data_dir.parent, leave=3_000_000, name=f"more{number}")
            if not app.companion.store.look_for_room():
                return number + 1
    raise AssertionError("a full disk took everything")


def test_a_start_on_a_full_disk_says_so_in_one_sentence(tmp_path):
    with small_disk(tmp_path / "disk", 4) as disk:
        (disk / "data").mkdir()
        fill(disk)
        said = run("companion_app.py", *options(disk / "data", free_port()))
    assert said.returncode == 2
    assert_one_sentence(said.stderr)
    assert "full" in said.stderr


# --- starts -------------------------------------------------------------------------------


def test_each_start_has_an_id_of_its_own_that_stays_until_the_next(house):
    app = house()
    first = app.client.get("/api/health").json()["started_id"]
    assert app.client.get("/api/health").json()["started_id"] == first
    app.companion.close()
    assert house().client.get("/api/health").json()["started_id"] != first


def test_a_second_copy_names_the_address_of_the_first(running):
    second = run("companion_app.py", *options(running.data_dir, free_port()))
    assert second.returncode == 2
    assert second.stdout == ""
    assert_one_sentence(second.stderr)
    assert f"open {running.url}" in second.stderr
    assert running.client.get("/api/health").status_code == 200


KILLED = """
import os, signal, sys
from pathlib import Path
from companion.app import build
from companion.config import Settings
settings = Settings(data_dir=Path(sys.argv[1]))
build(settings)
(settings.data_dir / "address").write_text("http://127.0.0.1:9")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_copy_that_was_killed_does_not_stand_in_the_way(house, tmp_path):
    assert run("-c", KILLED, tmp_path / "data").returncode == -signal.SIGKILL
    assert "first_run" in house(folder=tmp_path / "data").conditions()


def test_a_copy_that_has_no_page_yet_is_told_as_such(house, tmp_path):
    house()
    second = run("companion_app.py", *options(tmp_path / "data", free_port()))
    assert second.returncode == 2
    assert_one_sentence(second.stderr)
    assert "Another copy of LLM Companion" in second.stderr


def test_a_port_of_another_program_is_called_that(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = run("companion_app.py", *options(tmp_path / "data", port))
    assert refused.returncode == 2
    assert_one_sentence(refused.stderr)
    assert "another program uses it" in refused.stderr
    assert "--port" in refused.stderr


def test_open_pages_are_counted_and_five_are_enough(running):
    left = threading.Event()

    def page(number):
        with (
            httpx.Client(trust_env=False, timeout=60) as client,
            client.stream("GET", f"{running.url}/gradio_api/heartbeat/tab{number}"),
        ):
            left.wait(60)

    tabs = [threading.Thread(target=page, args=(number,)) for number in range(5)]
    for tab in tabs:
        tab.start()
    health = lambda: running.client.get("/api/health").json()  # noqa: E731
    wait_for(lambda: health()["open_pages"] == 5)
    told = {each["code"]: each for each in health()["conditions"]}["many_pages"]
    assert told["action"]["code"] == "close_page"
    left.set()
    wait_for(lambda: health()["open_pages"] == 0)
    assert "many_pages" not in {each["code"] for each in health()["conditions"]}
    for tab in tabs:
        tab.join()
