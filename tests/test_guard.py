"""Only this machine's own pages drive the server, and every answer carries the guard's headers."""

import itertools

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from companion.config import Settings
from companion.door.guard import (
    CONTENT_SECURITY_POLICY,
    FRAMES_OF_A_SPACE,
    Guard,
    allowed_hosts,
    names_of,
)
from companion.errors import Refused
from companion.web import blocked_paths, refuse_exposure

PORT = 7860
OWN_HOSTS = (f"localhost:{PORT}", f"127.0.0.1:{PORT}", f"[::1]:{PORT}")
FOREIGN_HOSTS = (
    "evil.example",
    f"evil.example:{PORT}",
    "localhost",
    "localhost:80",
    f"127.0.0.1.evil.example:{PORT}",
    "",
)
FOREIGN_ORIGINS = (
    "null",
    "http://evil.example",
    f"http://evil.example:{PORT}",
    f"https://localhost:{PORT}",
    "http://localhost",
    f"http://localhost:{PORT}.evil.example",
    "file://",
    "",
)
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD")


async def open_to_all(request):
    headers = {
        "Access-Control-Allow-Origin": "*",
        "Content-Security-Policy": "default-src *",
        "X-Own": "kept",
    }
    return JSONResponse({"path": request.url.path}, headers=headers)


async def broken(request):
    raise ValueError("inside")


async def echo(socket):
    await socket.accept()
    await socket.send_text("in")
    await socket.close()


@pytest.fixture
def client():
    app = Starlette(
        routes=[
            WebSocketRoute("/socket", echo),
            Route("/broken", broken),
            Route("/{path:path}", open_to_all, methods=[*METHODS]),
        ]
    )
    guard = Guard(app, allowed_hosts("127.0.0.1", PORT))
    return TestClient(guard, base_url=f"http://127.0.0.1:{PORT}", raise_server_exceptions=False)


def assert_guarded(answer):
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_the_own_page_may_do_everything(client, host):
    for method in METHODS:
        answer = client.request(method, "/api/sessions", headers={"Host": host, "Origin": f"http://{host}"})
        assert answer.status_code == 200, method
        assert answer.headers["x-own"] == "kept"
        assert_guarded(answer)


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_a_program_without_an_origin_may_do_everything(client, host):
    assert client.post("/api/sessions", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        *itertools.product(FOREIGN_HOSTS, (None, f"http://localhost:{PORT}", "http://evil.example")),
        *itertools.product(OWN_HOSTS, FOREIGN_ORIGINS),
        (f"localhost:{PORT}", f"http://127.0.0.1:{PORT}"),
        (f"127.0.0.1:{PORT}", f"http://localhost:{PORT}"),
    ],
)
def test_a_foreign_site_or_a_rebound_name_gets_403(client, host, origin):
    headers = {"Host": host} if origin is None else {"Host": host, "Origin": origin}
    for method in METHODS:
        answer = client.request(method, "/gradio_api/queue/join", headers=headers)
        assert answer.status_code == 403, method
        assert_guarded(answer)
    assert client.post("/api/sessions", headers=headers).json()["error"]["code"] == "refused"


def test_two_hosts_or_two_origins_are_as_bad_as_a_foreign_one(client):
    own = OWN_HOSTS[1]
    assert client.get("/", headers=[("Host", own), ("Host", own)]).status_code == 403
    assert client.get("/", headers=[("Origin", f"http://{own}"), ("Origin", "null")]).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://127.0.0.1:1/secret",
        "/gradio_api/file=HTTPS://evil.example/",
        "/gradio_api/file=%68ttp://evil.example/",
        "/gradio_api/file=//evil.example/x",
        "/gradio_api/file=ftp://evil.example/x",
        "/gradio_api/file=%20http://evil.example/x",
        "/gradio_api/file/http://evil.example/x",
        "/gradio_api/proxy=https://evil.example/",
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/runs",
        "/gradio_api/deep_link",
        "/gradio_api/vibe-edit/",
    ],
)
def test_parts_that_call_out_or_tell_on_others_are_closed(client, path):
    answer = client.get(path)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "refused"


@pytest.mark.parametrize("path", ["/gradio_api/file=/tmp/a.png", r"/gradio_api/file=C:\a.png", "/theme.css"])
def test_files_of_the_page_are_still_served(client, path):
    assert client.get(path).status_code == 200


def test_even_a_crash_answers_with_the_guards_headers(client):
    answer = client.get("/broken")
    assert answer.status_code == 500
    assert_guarded(answer)


def test_a_web_socket_is_guarded_like_everything_else(client):
    address = f"ws://127.0.0.1:{PORT}/socket"
    with client.websocket_connect(address, headers={"Origin": f"http://127.0.0.1:{PORT}"}) as socket:
        assert socket.receive_text() == "in"
    refused = client.websocket_connect(address, headers={"Origin": "http://evil.example"})
    with pytest.raises(WebSocketDisconnect), refused:
        pass


def test_the_page_cannot_be_put_in_a_frame_or_load_from_elsewhere():
    assert "frame-ancestors 'none'" in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY
    assert "*" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize(
    ("host", "reached_as"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
        ("127.0.0.2", "127.0.0.2"),
    ],
)
def test_this_machine_may_be_served(tmp_path, host, reached_as):
    refuse_exposure(Settings(data_dir=tmp_path, host=host))
    assert f"{reached_as}:{PORT}" in allowed_hosts(host, PORT)


@pytest.mark.parametrize(
    "exposed",
    [
        {"share": True},
        {"host": "0.0.0.0"},
        {"host": "192.168.1.5"},
        {"host": "::"},
        {"host": "my-pc"},
    ],
)
def test_a_start_that_others_could_reach_is_refused_with_one_sentence(tmp_path, exposed):
    with pytest.raises(Refused) as refusal:
        refuse_exposure(Settings(data_dir=tmp_path, **exposed))
    assert "user add" in refusal.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({}, "local"),
        ({"host": "::1"}, "local"),
        ({"share": True}, "shared"),
        ({"host": "0.0.0.0"}, "shared"),
        ({"host": "my-pc"}, "shared"),
        ({"demo": True}, "demo"),
        ({"demo": True, "host": "0.0.0.0"}, "demo"),
        ({"demo": True, "share": True}, "demo"),
    ],
)
def test_who_is_let_in_follows_from_who_could_come(tmp_path, given, mode):
    assert Settings(data_dir=tmp_path, **given).mode == mode


def test_a_server_for_others_answers_to_its_own_names_on_any_port(tmp_path):
    names = names_of(Settings(data_dir=tmp_path, host="0.0.0.0", host_names="docs.example, Other.example"))
    for host in (
        "docs.example",
        "docs.example:8443",
        "other.example",
        "localhost:7860",
        "127.0.0.1",
        "[::1]:7",
    ):
        assert host in names, host
    for host in ("evil.example", "docs.example.evil.example", "docs.example:", "docs.example:x", "", ":80"):
        assert host not in names, host


def test_behind_a_proxy_a_page_of_ours_may_have_come_over_https():
    async def anything(scope, receive, send):
        await JSONResponse({})(scope, receive, send)

    outside = TestClient(Guard(anything, {"docs.example"}, behind=True), base_url="http://docs.example")
    for origin, status in (
        ("https://docs.example", 200),
        ("http://docs.example", 200),
        ("https://evil.example", 403),
        ("null", 403),
    ):
        assert outside.post("/", headers={"Origin": origin}).status_code == status, origin


def test_only_a_demo_may_be_shown_in_the_frame_of_a_space():
    async def anything(scope, receive, send):
        await JSONResponse({})(scope, receive, send)

    for frames, allowed in (("", "'none'"), (FRAMES_OF_A_SPACE, "https://huggingface.co https://*.hf.space")):
        policy = TestClient(Guard(anything, {"testserver"}, frames=frames)).get("/").headers
        assert policy["content-security-policy"].endswith(f"frame-ancestors {allowed}")


def test_nothing_of_the_data_folder_but_uploads_can_be_served(tmp_path):
    settings = Settings(data_dir=tmp_path)
    (tmp_path / "index.broken").mkdir()
    settings.uploads_dir.mkdir()
    closed = blocked_paths(settings)
    assert {
        str(tmp_path / name) for name in ("companion.db", "companion.db-wal", "originals", "index.broken")
    } <= set(closed)
    assert not [path for path in closed if str(settings.uploads_dir).startswith(path)]
