"""The doctor says in one sentence each what is fine, what is not, and what to do; and changes nothing."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from companion import cli
from companion.config import REPOSITORY, Settings
from companion.doctor import examine as examining
from companion.doctor import findings
from companion.doctor.examine import Engine, examine, is_whole, listening_on, look_at_database, look_at_folder
from companion.doctor.findings import Finding, FolderFacts, healthy
from companion.domain import LOCAL_OWNER, MachineLoad
from companion.errors import DatabaseDamaged, DatabaseTooNew, StorageError
from companion.inference.weights import MANIFEST
from companion.library.vectors import VectorIndex
from companion.storage.folder import lock_folder
from companion.storage.store import Store
from companion.web import address_file
from tests.doors import opened
from tests.fakes import ScriptedEngine
from tests.ollama_server import OllamaServer, ServedModel
from tests.test_migrations import migrate_to

URL = "http://127.0.0.1:11434"
HERE = Path("/somewhere/data")
CODES = [
    "ollama", "ollama_exposure", "models", "weights_light_embedder", "weights_deep_embedder",
    "weights_built_in_model", "gpu", "disk", "sqlite", "database", "folder", "leftovers", "exposure", "index",
]  # fmt: skip


# --- each finding -----------------------------------------------------------------------


JUDGED = {
    "no Ollama": (findings.ollama(URL, None), "info", "ollama.com/download"),
    "old Ollama": (findings.ollama(URL, "0.17.0"), "warning", "Update it to 0.17.1"),
    "newer Ollama": (findings.ollama(URL, "0.17.1-rc2"), "ok", "0.17.1-rc2 answers"),
    "strange Ollama": (findings.ollama(URL, "from source"), "ok", "from source answers"),
    "Ollama for all": (findings.ollama_exposure(URL, {"0.0.0.0", "127.0.0.1"}), "warning", "0.0.0.0"),
    "Ollama for all by IPv6": (findings.ollama_exposure(URL, {"::"}), "warning", "OLLAMA_HOST=127.0.0.1"),
    "Ollama here": (findings.ollama_exposure(URL, {"127.0.0.1", "::1"}), "ok", "No other machine"),
    "Ollama unseen": (findings.ollama_exposure(URL, None), "info", "does not tell"),
    "Ollama afar": (findings.ollama_exposure("http://10.0.0.7:11434", set()), "warning", "10.0.0.7"),
    "Ollama afar, https": (findings.ollama_exposure("https://ai.lan:443", set()), "info", "encrypted"),
    "models": (findings.models(["a", "b", "c"], False), "ok", "a and 2 more"),
    "built-in only": (findings.models([], True), "info", "ollama pull"),
    "no model": (findings.models([], False), "error", "No model can answer"),
    "whole": (findings.weights("m", "x", "whole", needed=True, fetchable=False), "ok", "is there"),
    "damaged": (findings.weights("m", "x", "damaged", needed=False, fetchable=True), "error", "make weights"),
    "missing": (findings.weights("m", "x", "missing", needed=True, fetchable=True), "info", "next start"),
    "missing light": (findings.weights("m", "x", "missing", needed=True, fetchable=False), "error", "here"),
    "missing deep": (findings.weights("m", "x", "missing", needed=False, fetchable=False), "warning", "here"),
    "card": (findings.card(MachineLoad("gpu", percent=7, memory_free=8 * 10**9)), "ok", "7 % busy, 8.0 GB"),
    "dumb card": (findings.card(MachineLoad("gpu", notice="It is lost.")), "warning", "It is lost."),
    "no card": (findings.card(MachineLoad("cpu")), "info", "processor is watched"),
    "disk": (findings.disk(HERE, 10**10, 5 * 10**8), "ok", "10.0 GB free"),
    "full disk": (findings.disk(HERE, 10**8, 5 * 10**8), "error", "Free some space"),
    "unknown disk": (findings.disk(HERE, None, 5 * 10**8), "info", "cannot be found out"),
    "SQLite with the bug": (findings.sqlite_version((3, 40, 1), None), "info", "WAL-reset bug"),
    "SQLite": (findings.sqlite_version((3, 51, 3), None), "ok", "3.51.3"),
    "old SQLite": (findings.sqlite_version((3, 8, 0), "Too old."), "error", "Too old."),
    "no database": (findings.database(HERE / "d", there=False, trouble=None), "info", "first start"),
    "lost database": (
        findings.database(HERE / "d", there=False, trouble=None, orphans=True), "error", "Restore a backup"
    ),
    "bad database": (findings.database(HERE, there=True, trouble="torn."), "error", "companion restore"),
    "folder": (findings.folder(FolderFacts(HERE)), "ok", "in use by nobody"),
    "folder in use": (findings.folder(FolderFacts(HERE, in_use=True)), "ok", "by the running app"),
    "no folder": (findings.folder(FolderFacts(HERE, there=False)), "info", "not there yet"),
    "open folder": (findings.folder(FolderFacts(HERE, mode=0o755)), "warning", f"chmod 700 {HERE}"),
    "closed folder": (findings.folder(FolderFacts(HERE, writable=False)), "error", "permissions"),
    "useless part": (findings.folder(FolderFacts(HERE, blocked=(HERE / "index",))), "error", "permissions"),
    "damaged database": (findings.closed_database(DatabaseDamaged("x")), "error", "companion restore"),
    "newer database": (findings.closed_database(DatabaseTooNew("x")), "error", "Update LLM Companion"),
    "closed database": (findings.closed_database(StorageError("It is shut; open it.")), "error", "Open it."),
    "unread index": (findings.index("unread"), "info", "cannot be read"),
    "folder on NFS": (findings.folder(FolderFacts(HERE, disk="nfs4")), "warning", "network disk (nfs4)"),
    "nothing left": (findings.leftovers(FolderFacts(HERE)), "ok", "Nothing was left"),
    "left inside": (findings.leftovers(FolderFacts(HERE, leftovers=(HERE / "a",))), "info", "next start"),
    "left beside": (findings.leftovers(FolderFacts(HERE, leftovers=(Path("/b"),))), "info", "Remove it"),
    "set aside": (findings.leftovers(FolderFacts(HERE, aside=(HERE / "x",))), "warning", "Add them again"),
    "exposed": (findings.exposure("0.0.0.0", "shared"), "info", "sign in"),
    "shared": (findings.exposure("127.0.0.1", "demo"), "warning", "without --demo"),
    "private": (findings.exposure("::1", "local"), "ok", "::1"),
    "index": (findings.index("serving"), "ok", "answers"),
    "torn index": (findings.index("sound", "It is torn."), "warning", "Nothing is lost"),
    "hung app": (findings.unanswered("The running app does not answer."), "error", "end its process"),
}  # fmt: skip


@pytest.mark.parametrize("name", JUDGED)
def test_each_finding_says_how_it_is_and_what_to_do(name):
    finding, state, words = JUDGED[name]
    assert finding.state == state
    assert words in f"{finding.sentence} {finding.advice}"
    assert finding.advice or state in ("ok", "info")


@pytest.mark.parametrize("name", JUDGED)
def test_each_finding_is_one_line_of_whole_sentences(name):
    finding = JUDGED[name][0]
    assert finding.sentence[0].isupper()
    assert finding.sentence[-1] == "."
    assert "\n" not in finding.sentence + finding.advice


def test_only_an_error_makes_it_ill():
    ok, info, warning, error = (Finding("x", state, "x") for state in ("ok", "info", "warning", "error"))
    assert healthy([ok, info, warning])
    assert not healthy([ok, error])


# --- what is looked up ------------------------------------------------------------------


def test_who_listens_for_all_is_seen():
    for host in ("127.0.0.1", "0.0.0.0"):
        with socket.create_server((host, 0)) as listener:
            port = listener.getsockname()[1]
            assert listening_on(port) == {host}
    assert listening_on(port) == set()


@pytest.fixture
def fetched(tmp_path):
    """A folder of weights as fetching leaves it."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"numbers")
    digest = hashlib.sha256(b"numbers").hexdigest()
    (folder / MANIFEST).write_text(json.dumps({"files": {"model.safetensors": [7, digest]}}))
    return folder


def test_a_changed_or_missing_file_of_the_weights_is_noticed(fetched):
    assert is_whole(fetched)
    (fetched / "model.safetensors").write_bytes(b"numberz")
    assert not is_whole(fetched)
    (fetched / "model.safetensors").unlink()
    assert not is_whole(fetched)


def test_a_folder_of_ones_own_is_not_judged(tmp_path):
    assert is_whole(tmp_path)


def test_a_database_is_read_whole_beside_the_running_app(tmp_path):
    with opened(tmp_path, ScriptedEngine()) as (companion, _client):
        companion.library.add(LOCAL_OWNER, "bees.txt", b"Bees make honey. " * 3000)
        path = companion.settings.database_path
        assert look_at_database(path).state == "ok"
        companion.store.checkpoint()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3 * 4096] = b"\xff" * (3 * 4096)
    path.write_bytes(content)
    assert look_at_database(path).state == "error"
    path.write_bytes(b"no database at all" * 300)
    assert "damaged or not a database" in look_at_database(path).sentence


def test_the_folder_is_seen_as_it_is(tmp_path):
    data = tmp_path / "data"
    assert not look_at_folder(data, in_use=False).there
    (data / "originals").mkdir(parents=True)
    data.chmod(0o750)
    left = [data / "originals" / "incoming-1.txt", tmp_path / "data.before-20260101-000000"]
    left[0].write_text("x")
    left[1].mkdir()
    facts = look_at_folder(data, in_use=False)
    assert (facts.there, facts.writable, facts.mode) == (True, True, 0o750)
    assert set(facts.leftovers) == set(left)
    assert facts.disk
    assert look_at_folder(data, in_use=True).leftovers == (left[1],)


# --- the whole --------------------------------------------------------------------------


def by_code(found):
    return {each.code if isinstance(each, Finding) else each["code"]: each for each in found}


def settings_of(folder, **more):
    return Settings(data_dir=folder, offline=True, ollama_host="http://127.0.0.1:1", **more)


def silent(_settings):
    return Engine(None)


@pytest.fixture(autouse=True)
def without_asking_around(monkeypatch):
    monkeypatch.setattr(examining, "listening_on", lambda port: set())


def test_everything_is_examined_in_a_fixed_order(tmp_path):
    index = findings.index("none")
    found = examine(settings_of(tmp_path), index=lambda: index, in_use=False, ask=silent)
    assert [each.code for each in found] == CODES
    assert found[-1] is index


def test_a_folder_that_may_not_be_entered_is_named_by_every_command(monkeypatch, capsys, tmp_path):
    def closed(*_, **__):
        raise PermissionError(13, "Permission denied", "/closed/data")

    monkeypatch.setattr(cli, "restore", closed)
    assert cli.main(["restore", "/closed/b.zip", "--data-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "/closed/data cannot be used: Permission denied.\n"


@pytest.mark.parametrize("host", ["127.0.0.1:abc", "http://127.0.0.1:99999", "http://[::1"])
def test_an_address_that_is_none_is_explained(tmp_path, host):
    settings = settings_of(tmp_path).model_copy(update={"ollama_host": host})
    found = by_code(examine(settings, index=lambda: findings.index("none"), in_use=False))
    assert "is no address" in found["ollama"].sentence
    assert "COMPANION_OLLAMA_HOST" in found["ollama"].advice
    assert found["ollama_exposure"].state == "info"


def test_what_ollama_tells_is_told(tmp_path):
    with OllamaServer(
        [ServedModel("llama3.2:latest"), ServedModel("nomic:latest", ("embedding",))]
    ) as server:
        server.version = "0.18.0"
        settings = Settings(data_dir=tmp_path, offline=True, ollama_host=server.url)
        found = by_code(examine(settings, index=lambda: findings.index("none"), in_use=False))
    assert found["ollama"].sentence == f"Ollama 0.18.0 answers at {server.url}."
    assert found["models"].sentence == "Ollama has llama3.2:latest to chat with."


def test_the_embedders_that_were_chosen_on_the_page_are_examined(tmp_path):
    store = Store.open(tmp_path / "companion.db")
    store.settings.save({"embed_light": "some-light-one", "embed_deep": "ollama:nomic"})
    store.close()
    settings = settings_of(tmp_path, weights_dir=tmp_path / "weights")
    found = by_code(examine(settings, index=lambda: findings.index("none"), in_use=False, ask=silent))
    assert found["weights_light_embedder"].state == "error"
    assert "some-light-one" in found["weights_light_embedder"].sentence
    assert "weights_deep_embedder" not in found


def run(capsys, folder, *more):
    code = cli.main(["doctor", "--data-dir", str(folder), "--offline", "--ollama-host", "127.0.0.1:1", *more])
    return code, capsys.readouterr().out


def test_the_command_prints_a_line_for_each_finding(tmp_path, capsys):
    _code, said = run(capsys, tmp_path / "none")
    assert all(re.match(r"(ok|info|warning|error) +[A-Z0-9]", line) for line in said.splitlines())
    assert len(said.splitlines()) == len(CODES)
    assert not (tmp_path / "none").exists(), "it changes nothing"


def test_the_command_fails_exactly_when_something_does_not_work(tmp_path, capsys):
    data = tmp_path / "data"
    Store.open(data / "companion.db").close()
    data.chmod(0o700)
    code, said = run(capsys, data, "--json")
    answer = json.loads(said)
    errors = [each["code"] for each in answer["findings"] if each["state"] == "error"]
    assert code == (1 if errors else 0)
    assert answer["healthy"] is not bool(errors)
    (data / "companion.db").write_bytes(b"no database at all" * 300)
    code, said = run(capsys, data, "--json")
    assert code == 1
    assert by_code(json.loads(said)["findings"])["database"]["state"] == "error"


@pytest.fixture
def library_at_rest(tmp_path):
    """A folder with an index in it that no app has open."""
    with opened(tmp_path, ScriptedEngine()) as (companion, _client):
        companion.library.add(LOCAL_OWNER, "bees.txt", b"Bees make honey.")
        companion.library.open_index()
    return tmp_path / "data"


def test_a_sound_index_is_probed_while_no_app_runs(library_at_rest, capsys):
    _code, said = run(capsys, library_at_rest, "--json")
    found = by_code(json.loads(said)["findings"])
    assert found["index"]["state"] == "ok"
    assert found["database"]["state"] == "ok"
    lock_folder(library_at_rest).release()


def test_a_torn_index_is_noticed_and_left_as_it_is(library_at_rest, capsys):
    database = next(VectorIndex(library_at_rest / "index").generation().glob("*.sqlite3"))
    database.write_bytes(b"torn" * 1000)
    _code, said = run(capsys, library_at_rest, "--json")
    found = by_code(json.loads(said)["findings"])["index"]
    assert found["state"] == "warning"
    assert "next start builds it again" in found["advice"]
    assert database.read_bytes() == b"torn" * 1000


def test_an_old_database_is_not_brought_up_to_date_by_the_doctor(tmp_path, capsys):
    data = tmp_path / "data"
    migrate_to(data / "companion.db", "0001")
    (data / "index" / "0001").mkdir(parents=True)
    before = (data / "companion.db").read_bytes()
    _code, said = run(capsys, data, "--json")
    assert by_code(json.loads(said)["findings"])["index"]["state"] == "info"
    assert (data / "companion.db").read_bytes() == before


def test_an_app_that_has_the_folder_and_does_not_answer_is_an_error(tmp_path, capsys):
    lock = lock_folder(tmp_path)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.listen(0)
            address_file(settings_of(tmp_path)).write_text(f"http://127.0.0.1:{listener.getsockname()[1]}")
            listener.close()
            code, said = run(capsys, tmp_path, "--json")
    finally:
        lock.release()
    assert code == 1
    assert by_code(json.loads(said)["findings"])["app"]["state"] == "error"


def test_the_running_app_examines_itself_over_rest(tmp_path):
    with opened(tmp_path, ScriptedEngine(), ollama_host="http://127.0.0.1:1") as (companion, client):
        companion.library.add(LOCAL_OWNER, "bees.txt", b"Bees make honey.")
        found = client.get("/api/health/doctor").json()["findings"]
        assert [each["code"] for each in found] == CODES
        assert by_code(found)["index"]["sentence"].startswith("The index is being checked")
        companion.library.open_index()
        answer = client.get("/api/health/doctor").json()
    states = by_code(answer["findings"])
    assert states["index"]["state"] == states["database"]["state"] == "ok"
    assert "in use by the running app" in states["folder"]["sentence"]
    assert answer["healthy"] is not any(each["state"] == "error" for each in answer["findings"])


def test_what_a_torn_database_is_told_of_is_one_line_and_the_index_is_left_alone(library_at_rest, capsys):
    database = library_at_rest / "companion.db"
    database.write_bytes(database.read_bytes()[: database.stat().st_size // 2 // 4096 * 4096])
    code, said = run(capsys, library_at_rest)
    assert code == 1
    assert len(said.splitlines()) == len(CODES)
    _code, said = run(capsys, library_at_rest, "--json")
    found = by_code(json.loads(said)["findings"])
    assert found["database"]["advice"].startswith("Restore a backup")
    assert "cannot be read" in found["index"]["sentence"]


@pytest.mark.parametrize("name", [".lock", "companion.db", "originals", "index"])
def test_what_is_of_another_kind_is_said(tmp_path, capsys, name):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    if name in ("originals", "index"):
        (data / name).write_text("no folder")
    else:
        (data / name).mkdir()
    code, said = run(capsys, data, "--json")
    assert code == 1
    finding = by_code(json.loads(said)["findings"])["folder"]
    assert (finding["state"], str(data / name) in finding["sentence"]) == ("error", True)


def test_an_empty_folder_of_gradio_is_nothing_left_behind(tmp_path):
    (tmp_path / "uploads" / "vibe_edit_history").mkdir(parents=True)
    (tmp_path / "uploads" / "abc").mkdir()
    assert not look_at_folder(tmp_path, in_use=False).leftovers
    (tmp_path / "uploads" / "abc" / "a.txt").write_text("x")
    assert look_at_folder(tmp_path, in_use=False).leftovers == (tmp_path / "uploads" / "abc",)


@contextmanager
def closed_to_us(path, mode):
    before = path.stat().st_mode
    path.chmod(mode)
    yield
    path.chmod(before)


def powerless(folder, *command):
    """A command whose process obeys permissions, also where root runs the tests."""
    drop = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--ambient-caps=-all"]
    if os.geteuid() == 0 and shutil.which(drop[0]) is None:
        pytest.skip("root may write everywhere")
    return subprocess.run(
        [*(drop if os.geteuid() == 0 else ()), sys.executable, "-m", "companion", *command,
         "--data-dir", str(folder), "--offline", "--ollama-host", "127.0.0.1:1"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "mode", "starts"),
    [
        (".", 0o500, False),
        (".", 0o000, False),
        ("companion.db", 0o400, False),
        ("companion.db", 0o000, False),
        ("originals", 0o500, True),
        ("index", 0o000, True),
    ],
)
def test_what_may_not_be_used_is_said_by_the_doctor_and_at_the_start(library_at_rest, name, mode, starts):
    with closed_to_us(library_at_rest / name, mode):
        doctor = powerless(library_at_rest, "doctor", "--json")
        start = powerless(library_at_rest, "migrate")
        backup = powerless(library_at_rest, "backup", str(library_at_rest.parent / "a.zip"))
    assert "Traceback" not in doctor.stderr + start.stderr + backup.stderr
    assert doctor.returncode == 1
    assert by_code(json.loads(doctor.stdout)["findings"])["folder"]["state"] == "error"
    assert start.returncode == (0 if starts else 2)
    assert len(start.stderr.splitlines()) == (not starts)
    assert len(backup.stderr.splitlines()) == (backup.returncode != 0)
