"""The real program as a process: it serves, guards, refuses and ends as promised."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import httpx
import psutil
import pytest

from companion.cli import serve_app
from companion.door.guard import CONTENT_SECURITY_POLICY
from tests.browser import free_port
from tests.waiting import until

REPOSITORY = Path(__file__).resolve().parent.parent
OPEN_GRADIO = {"GRADIO_ALLOWED_PATHS": "/", "GRADIO_SHARE": "True", "GRADIO_SERVER_NAME": "0.0.0.0"}
"""What may be left in a person's environment, and must not open our server."""


def environment(**more):
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("COMPANION_", "GRADIO_"))
    }
    return {**ours, **more}


def options(data_dir, port):
    """No weights, no Ollama, no network: what is tested here needs none."""
    return [
        "--data-dir", str(data_dir), "--port", str(port), "--offline", "--max-upload-mb", "1",
        "--weights-dir", str(data_dir / "no-weights"), "--ollama-host", "127.0.0.1:9",
    ]  # fmt: skip


def run(*command, **more):
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=REPOSITORY, env=environment(**more), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


class App:
    """The program, started as a person starts it, with its address once it says so."""

    def __init__(self, data_dir, *, env=None, more=()):
        self.data_dir = data_dir
        self.port = free_port()
        self.errors = (data_dir.parent / f"{data_dir.name}.stderr").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "companion_app.py", *options(data_dir, self.port), *more],
            cwd=REPOSITORY, env=environment(**(env or {})),
            stdout=subprocess.PIPE, stderr=self.errors, text=True,
        )  # fmt: skip
        self.said = self.process.stdout.readline()
        self.url = f"http://127.0.0.1:{self.port}"
        assert self.url in self.said, self.read_errors()
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def read_errors(self):
        self.errors.seek(0)
        return self.errors.read()

    def end(self, number=signal.SIGTERM):
        """The exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def kill(self):
        self.client.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    app = App(tmp_path_factory.mktemp("web") / "data", env=OPEN_GRADIO)
    yield app
    app.kill()


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(name="data"):
        started.append(App(tmp_path / name))
        return started[-1]

    yield begin
    for app in started:
        app.kill()


# --- serving ------------------------------------------------------------------------------


def test_the_page_and_the_interface_answer_at_the_one_address_it_prints(app):
    page = app.client.get("/")
    assert page.status_code == 200
    assert "gradio" in page.text
    assert app.client.get("/api/health").json()["state"] in ("warming", "degraded", "ready")
    assert app.client.get("/api/openapi.json").json()["servers"] == [{"url": "/api"}]
    assert app.client.get("/api/nothing").json()["error"]["code"] == "not_found"
    assert app.client.get("/api/line%0Abreak").json()["error"]["code"] == "not_found"
    assert app.client.get("/v1/models").json()["object"] == "list"
    assert app.said.count("http") == 1


def test_every_answer_names_this_start_and_the_page_begins_with_what_is_ours(app):
    started = app.client.get("/api/health").json()["started_id"]
    page = app.client.get("/")
    assert [answer.headers["x-companion-start"] for answer in (page, app.client.get("/config"))] == [
        started
    ] * 2
    assert page.text.count("lcServer =") == 1
    assert page.text.index("lcServer =") < page.text.index('<script type="module"')
    assert page.text.rstrip().endswith("</html>")
    assert len(page.content) == int(page.headers["content-length"])


def test_nothing_is_recorded_in_the_browser_and_no_sdk_is_advertised(app):
    config = app.client.get("/config").json()
    assert config["run_history"] is False
    assert config["analytics_enabled"] is False
    assert config["footer_links"] == []
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert app.client.get(path).status_code == 404


def test_it_listens_on_this_machine_only(app):
    assert f"127.0.0.1:{app.port}" in app.said
    listening = [
        each.laddr.ip
        for each in psutil.Process(app.process.pid).net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}


# --- the guard in the whole app -----------------------------------------------------------

ROUTES = [
    ("GET", "/"),
    ("GET", "/config"),
    ("GET", "/api/sessions"),
    ("POST", "/api/sessions"),
    ("DELETE", "/api/sessions/x"),
    ("GET", "/api/docs"),
    ("GET", "/v1/models"),
    ("POST", "/v1/chat/completions"),
    ("OPTIONS", "/v1/chat/completions"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/call/x"),
    ("GET", "/gradio_api/file=/etc/passwd"),
    ("GET", "/theme.css"),
    ("GET", "/nothing"),
    ("OPTIONS", "/gradio_api/queue/join"),
    ("OPTIONS", "/api/sessions"),
]


def headers_for(app, host, origin):
    own = f"127.0.0.1:{app.port}"
    headers = {"Host": host.format(own=own, port=app.port), "Access-Control-Request-Method": "POST"}
    return headers if origin is None else {**headers, "Origin": origin.format(own=own, port=app.port)}


def assert_guarded(answer):
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_refuses_foreign_sites_and_rebound_names(app, method, path):
    for host in ("{own}", "localhost:{port}", "evil.example", "evil.example:{port}", "127.0.0.1"):
        for origin in (
            None,
            "null",
            "http://evil.example",
            "https://{own}",
            "http://localhost:7",
            "http://{own}",
        ):
            answer = app.client.request(method, path, headers=headers_for(app, host, origin))
            assert_guarded(answer)
            if host == "{own}" and origin in (None, "http://{own}"):
                assert answer.status_code != 403 or "file=" in path, (host, origin)
            elif not (host == "localhost:{port}" and origin is None):
                assert answer.status_code == 403, (host, origin)
                assert answer.json()["error"]["code"] == "refused"


def test_a_foreign_upload_leaves_nothing(app):
    before = sorted(app.data_dir.rglob("*canary*"))
    for path in ("/gradio_api/upload", "/api/documents"):
        answer = app.client.post(
            path, files={"files": ("canary.md", b"# Canary")}, headers={"Origin": "http://evil.example"}
        )
        assert answer.status_code == 403
    assert sorted(app.data_dir.rglob("*canary*")) == before
    assert "canary" not in app.client.get("/api/documents").text


def test_gradio_serves_neither_our_data_nor_other_sites(app):
    database = app.data_dir / "companion.db"
    assert database.exists()
    for path in (
        database,
        app.data_dir / "companion.log",
        f"{app.data_dir}/uploads/../companion.db",
        "/etc/passwd",
    ):
        assert app.client.get(f"/gradio_api/file={path}").status_code in (403, 404), path
    assert app.client.get(f"/gradio_api/file=http://127.0.0.1:{app.port}/api/health").status_code == 403
    for path in (
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/runs",
    ):
        assert app.client.get(path).status_code == 403, path


def test_uploads_of_the_page_lie_in_the_data_folder_and_have_a_limit(app):
    answer = app.client.post("/gradio_api/upload", files={"files": ("note.html", b"<script>1</script>")})
    assert answer.status_code == 200
    kept = Path(answer.json()[0])
    assert kept.is_relative_to(app.data_dir / "uploads")
    shown = app.client.get(f"/gradio_api/file={kept}")
    assert shown.headers["content-disposition"].startswith("attachment")
    too_large = app.client.post("/gradio_api/upload", files={"files": ("big.txt", b"x" * 1_100_000)})
    assert too_large.status_code == 413


# --- starting -----------------------------------------------------------------------------


def half_an_upload(app):
    """A browser that has sent the beginning of a file."""
    browser = socket.create_connection(("127.0.0.1", app.port))
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{app.port}\r\nContent-Length: 900000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
    )
    browser.sendall(head.encode() + b"half a secret " * 1000)
    return browser


def test_an_upload_of_the_page_that_breaks_off_leaves_nothing(app):
    def unfinished():
        return [path for path in (app.data_dir / "uploads").glob("tmp*") if path.is_file()]

    first, second = half_an_upload(app), half_an_upload(app)
    until(lambda: len(unfinished()) == 2)
    first.close()
    whole = app.client.post("/gradio_api/upload", files={"files": ("note.txt", b"whole")})
    assert Path(whole.json()[0]).read_bytes() == b"whole"
    assert unfinished()
    second.close()
    until(lambda: not unfinished())
    assert "Traceback" not in app.read_errors()
    assert Path(whole.json()[0]).read_bytes() == b"whole"


def assert_one_sentence(said):
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if " WARNING " not in line]
    assert len(lines) == 1, said
    assert lines[0].endswith(".")


def test_a_second_copy_on_the_same_folder_is_refused(app):
    second = run("companion_app.py", *options(app.data_dir, free_port()))
    assert second.returncode == 2
    assert_one_sentence(second.stderr)
    assert str(app.data_dir) in second.stderr
    assert app.client.get("/api/health").status_code == 200


def test_a_taken_port_is_said_in_one_sentence_and_the_folder_is_free_again(app, tmp_path):
    taken = run("companion_app.py", *options(tmp_path / "data", app.port))
    assert taken.returncode == 2
    assert_one_sentence(taken.stderr)
    assert f"Port {app.port} of 127.0.0.1 cannot be opened" in taken.stderr
    assert not (tmp_path / "data" / "address").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--share"], "user add"),
        (["--host", "0.0.0.0"], "user add"),
        (["--host", "192.168.1.20"], "user add"),
        (["--top-k", "99"], "from 1 to 50"),
        (["--port", "0"], "from 1 to 65535"),
        (["--thinking-mode", "magic"], "--thinking-mode"),
        (["--log-level", "LOUD"], "COMPANION_LOG_LEVEL"),
    ],
)
def test_a_start_that_cannot_be_is_refused_with_one_sentence_before_anything_is_written(
    tmp_path, capsys, arguments, words
):
    assert serve_app(["--data-dir", str(tmp_path / "data"), *arguments]) == 2
    said = capsys.readouterr().err
    assert_one_sentence(said)
    assert words in said
    assert not (tmp_path / "data").exists()


def test_the_environment_sets_what_no_option_does(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COMPANION_SHARE", "1")
    assert serve_app(["--data-dir", str(tmp_path)]) == 2
    assert "user add" in capsys.readouterr().err
    assert serve_app(["--data-dir", str(tmp_path), "--no-share", "--top-k", "99"]) == 2
    assert "from 1 to 50" in capsys.readouterr().err


def test_help_shows_every_option(capsys):
    with pytest.raises(SystemExit) as leaving:
        serve_app(["--help"])
    assert leaving.value.code == 0
    shown = capsys.readouterr().out
    for option in ("--data-dir", "--port", "--host", "--share", "--top-k", "--max-upload-mb", "--log-level"):
        assert option in shown
    assert "1 to 50" in shown


SERVED_FIRST = """
import json, sys
from companion.options import settings_from
from companion.config import place_uploads
settings = settings_from(json.loads(sys.argv[1]))
place_uploads(settings)
from companion.app import build
from companion.ui.page import build_page, launch_arguments
from companion.web import launch, stop
import httpx
companion = build(settings)
demo = build_page(companion)
launch(demo, companion, settings, **launch_arguments())
assert httpx.get(f"http://127.0.0.1:{settings.port}/", trust_env=False).status_code == 200
print(json.dumps(sorted(sys.modules)))
stop(demo, companion)
"""


def test_the_page_is_served_before_anything_heavy_is_imported(tmp_path):
    given = {"data_dir": str(tmp_path / "data"), "port": free_port(), "offline": True}
    answer = run("-c", SERVED_FIRST, json.dumps(given))
    assert answer.returncode == 0, answer.stderr
    loaded = {name.split(".")[0] for name in json.loads(answer.stdout)}
    assert "gradio" in loaded
    heavy = {
        "chromadb",
        "llama_index",
        "torch",
        "sentence_transformers",
        "transformers",
        "onnxruntime",
        "xllamacpp",
    }
    assert not loaded & heavy


# --- ending -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_asked_even_with_open_pages(start, number):
    app = start()
    opened = threading.Event()

    def stay_open():
        with (
            httpx.Client(trust_env=False, timeout=60) as client,
            client.stream("GET", f"{app.url}/gradio_api/heartbeat/tab") as page,
        ):
            opened.set()
            for _ in page.iter_raw():
                pass

    tab = threading.Thread(target=stay_open, daemon=True)
    tab.start()
    assert opened.wait(60)
    assert app.end(number) == 0
    assert "Traceback" not in app.read_errors()
    # The page was let go, not broken off when the patience with it was over.
    assert "graceful shutdown exceeded" not in app.read_errors()
    assert not (app.data_dir / "address").exists()
    assert (
        not (app.data_dir / "companion.db-wal").exists()
        or not (app.data_dir / "companion.db-wal").stat().st_size
    )
    with filelock.FileLock(app.data_dir / ".lock").acquire(timeout=0), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", app.port))


TWO_SIGNALS = """
import os, signal, time
from companion.web import EndSignal
end = EndSignal()
os.kill(os.getpid(), signal.SIGTERM)
end.wait()
print("first", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(30)
"""


def test_a_second_signal_ends_it_at_once():
    answer = run("-c", TWO_SIGNALS)
    assert (answer.returncode, answer.stdout) == (128 + signal.SIGTERM, "first\n")


def test_the_log_is_in_the_data_folder_and_holds_nobodys_words(start):
    app = start()
    app.client.post(
        "/api/documents", files={"files": ("note.md", b"# Note\n\nThe canary sings at midnight.")}
    )
    session = app.client.post("/api/sessions").json()["session_id"]
    app.client.post(f"/api/sessions/{session}/messages", json={"content": "Does the canary sing?"})
    assert app.client.get("/api/search", params={"q": "canary"}).json()["hits"]
    assert app.end() == 0
    written = (app.data_dir / "companion.log").read_text()
    assert re.search(r"^\d{4}-\d\d-\d\d .* WARNING companion\.", written, re.MULTILINE)
    for text in (written, app.read_errors()):
        assert "canary" not in text


# --- commands -----------------------------------------------------------------------------


def test_commands_beside_a_running_app_go_through_it(app, tmp_path):
    (tmp_path / "owls.md").write_text("# Owls\n\nOwls hunt voles at dusk.")
    (tmp_path / "bad.exe").write_bytes(b"MZ\x00\x01")
    added = run("-m", "companion", "ingest", tmp_path / "owls.md", tmp_path / "bad.exe", tmp_path / "none.md",
                *options(app.data_dir, app.port))  # fmt: skip
    assert added.returncode == 1
    assert added.stdout == "owls.md: added\n"
    assert [line.split(":")[0] for line in added.stderr.splitlines()] == ["bad.exe", "none.md"]
    assert "owls.md" in app.client.get("/api/documents").text
    found = run("-m", "companion", "search", "voles", "--data-dir", app.data_dir)
    assert found.returncode == 0
    assert "owls.md" in found.stdout
    assert "Owls hunt voles at dusk." in found.stdout


def test_commands_work_without_a_running_app(tmp_path):
    (tmp_path / "owls.md").write_text("# Owls\n\nOwls hunt voles at dusk.")
    added = run("-m", "companion", "ingest", tmp_path / "owls.md", *options(tmp_path / "data", free_port()))
    assert (added.returncode, added.stdout) == (0, "owls.md: added\n"), added.stderr
    found = run("-m", "companion", "search", "voles", *options(tmp_path / "data", free_port()))
    assert "Owls hunt voles at dusk." in found.stdout
