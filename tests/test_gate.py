"""Where others can come in, nobody gets further than the login without one; on the real server."""

import re
import subprocess
import sys
import time

import pytest

from companion.config import REPOSITORY, Settings
from companion.errors import Conflict
from companion.people import people as module
from companion.people.throttle import Throttle
from tests.house import PASSWORDS, house
from tests.routes import filled, routes_of
from tests.test_web import environment

# The server runs in this process, and its warnings are Gradio's, pandas's and uvicorn's own.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def lan(tmp_path_factory):
    with house(tmp_path_factory.mktemp("lan"), host="0.0.0.0", host_names="docs.example") as found:
        yield found


@pytest.fixture(autouse=True)
def fresh_tries(request):
    """Wrong tries of one test do not slow the next."""
    if "lan" in request.fixturenames:
        request.getfixturevalue("lan").companion.people._throttle = Throttle()


def problem(page):
    return re.search(r'role="alert">([^<]*)<', page.text)[1]


OPEN = {
    ("GET", "/login"), ("HEAD", "/login"), ("POST", "/login"),
    ("POST", "/logout"),
    ("GET", "/"), ("HEAD", "/"),
    ("GET", "/favicon.ico"), ("GET", "/robots.txt"), ("HEAD", "/favicon.ico"), ("HEAD", "/robots.txt"),
    ("GET", "/gradio_api/startup-events"), ("HEAD", "/gradio_api/startup-events"),
}  # fmt: skip


def test_no_route_of_page_or_interface_answers_a_stranger(lan):
    client = lan.client()
    routes = routes_of(lan.demo_app())
    assert len(routes) > 90
    assert {path.split("/")[1] for _, path in routes} >= {"api", "gradio_api"}
    answered = {}
    for method, path in sorted(routes - OPEN):
        answer = client.request(method, filled(path))
        if answer.status_code not in (401, 403):
            answered[method, path] = answer.status_code
        elif answer.status_code == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer ")
            if method != "HEAD":
                assert answer.json()["error"] == {"code": "not_signed_in", "message": "Sign in first."}
    assert answered == {}


def test_the_page_of_a_stranger_is_the_login_in_our_own_look(lan):
    client = lan.client()
    answer = client.get("/?session=abc")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    page = client.get("/login")
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert "LLM Companion" in page.text
    assert "<script" not in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


def test_who_signs_in_gets_a_cookie_that_scripts_and_other_sites_do_not(lan):
    client = lan.client()
    answer = client.post("/login", data={"name": "Ada", "password": PASSWORDS["ada"]})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Max-Age=1209600" in cookie
    assert "Secure" not in cookie, "over plain HTTP it would not come back"
    assert client.get("/").status_code == 200
    assert client.get("/api/sessions").status_code == 200
    over_https = lan.client().post(
        "/login",
        data={"name": "ada", "password": PASSWORDS["ada"]},
        headers={"Host": "docs.example", "Origin": "https://docs.example"},
    )
    assert "Secure" in over_https.headers["set-cookie"]


def test_a_wrong_login_says_the_same_of_known_and_unknown_names(lan):
    said = set()
    for name, password in (("ada", "wrong"), ("nobody", "wrong"), ("", ""), ("<b>", "x" * 5000)):
        answer = lan.client().post("/login", data={"name": name, "password": password})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "<b>" not in answer.text
        said.add(problem(answer))
    assert len(said) == 1


def test_guessing_is_slowed(lan):
    codes = [
        lan.client().post("/login", data={"name": "ada", "password": f"guess {i}"}).status_code
        for i in range(30)
    ]
    assert codes == [401] * 5 + [429] * 25
    told = lan.client().post("/login", data={"name": "ada", "password": PASSWORDS["ada"]})
    assert told.status_code == 429
    assert 1 <= int(told.headers["retry-after"]) <= 30
    assert "wait" in problem(told)


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"name=ada", b"a=" * 50_000, b"[]", b"&" * 1000])
def test_an_odd_form_is_no_login(lan, body):
    answer = lan.client().post("/login", content=body)
    assert answer.status_code in (401, 422)
    assert "set-cookie" not in answer.headers


def test_signing_out_ends_this_login_for_good(lan):
    client = lan.browser_of("bob")
    kept = dict(client.cookies)
    assert client.post("/logout").headers["location"] == "/login"
    assert client.get("/api/sessions").status_code == 401
    assert lan.client(cookies=kept).get("/api/sessions").status_code == 401


def test_another_site_can_neither_sign_one_in_nor_out(lan):
    client = lan.browser_of("bob")
    evil = {"Origin": "http://evil.example"}
    assert client.post("/logout", headers=evil).status_code == 403
    assert client.get("/logout").status_code in (403, 404, 405)
    assert client.get("/api/sessions").status_code == 200
    answer = lan.client().post("/login", data={"name": "ada", "password": PASSWORDS["ada"]}, headers=evil)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_a_program_comes_in_with_a_token(lan):
    program = lan.program_of("bob")
    assert program.get("/api/sessions").status_code == 200
    wrong = lan.client(headers={"Authorization": "Bearer wrong"})
    assert wrong.get("/api/sessions").status_code == 401
    for header in ("Basic YWRhOmNvcnJlY3QgaG9yc2U=", "Bearer", "bearer x y", ""):
        assert lan.client(headers={"Authorization": header}).get("/api/health").status_code == 401, header


def test_a_wrong_token_is_not_mended_by_a_cookie(lan):
    client = lan.browser_of("ada")
    assert client.get("/api/sessions", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_a_revoked_token_and_a_new_password_are_noticed_by_the_running_app(lan, monkeypatch):
    program, browser = lan.program_of("bob"), lan.browser_of("bob")
    command = [sys.executable, "-m", "companion", "user"]
    where = ["--data-dir", str(lan.companion.settings.data_dir)]

    def run(*words, piped=""):
        done = subprocess.run(
            [*command, *words, *where], cwd=REPOSITORY, env=environment(), input=piped, text=True,
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    assert program.get("/api/sessions").status_code == browser.get("/api/sessions").status_code == 200
    run("token", "bob", "--revoke")
    run("password", "bob", piped="a new password\n")
    try:
        time.sleep(module.REMEMBERED_S)
        assert program.get("/api/sessions").status_code == 401
        assert browser.get("/api/sessions").status_code == 401
    finally:
        lan.companion.people.set_password("bob", PASSWORDS["bob"])


MACHINE = [
    ("PUT", "/api/settings", {"idle_threshold_s": 99}),
    ("PUT", "/api/settings", {"embed_light": "all-mpnet-base-v2"}),
    ("PUT", "/api/settings", {"embed_deep": "all-MiniLM-L6-v2"}),
    ("PUT", "/api/settings", {"gpu_idle_percent": 99}),
    ("PUT", "/api/settings", {"show_cloud_models": True}),
    ("PUT", "/api/settings", {"cot_iterations": 3}),
    ("PUT", "/api/settings", {"top_k": 7, "cot_iterations": 3}),
    ("POST", "/api/sessions", {"idle_threshold_s": 99}),
    ("POST", "/api/sessions", {"embed_deep": "all-MiniLM-L6-v2"}),
    ("PUT", "/api/config/{session}", {"idle_threshold_s": 99}),
    ("PUT", "/api/config/{session}", {"embed_light": "all-mpnet-base-v2"}),
    ("POST", "/api/models/llama3.2/load", None),
    ("POST", "/api/models/llama3.2/unload", None),
    ("POST", "/api/models/llama3.2/pull", None),
    ("DELETE", "/api/models/llama3.2/pull", None),
    ("POST", "/api/embeddings/index", None),
    ("DELETE", "/api/embeddings/index", None),
    ("GET", "/api/embeddings/cost?name=all-mpnet-base-v2", None),
    ("GET", "/api/health/doctor", None),
    ("POST", "/api/health/try-again", None),
]


@pytest.mark.parametrize(("method", "path", "body"), MACHINE)
def test_what_concerns_the_machine_is_for_admins(lan, method, path, body):
    bob = lan.program_of("bob")
    session = bob.post("/api/sessions").json()["session_id"]
    before = lan.companion.sessions.preferences()
    answer = bob.request(method, path.format(session=session), json=body)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "refused"
    assert "admin" in answer.json()["error"]["message"]
    assert lan.companion.sessions.preferences() == before
    assert lan.companion.sessions.preferences(lan.owner("bob")).top_k == before.top_k


def test_an_admin_may_and_everybody_has_their_own_choices(lan):
    ada, bob = lan.program_of("ada"), lan.program_of("bob")
    assert ada.put("/api/settings", json={"idle_threshold_s": 700}).status_code == 200
    assert bob.put("/api/settings", json={"top_k": 9, "thinking_mode": "rag"}).json()["top_k"] == 9
    assert ada.get("/api/settings").json()["top_k"] == 5
    assert bob.get("/api/settings").json()["idle_threshold_s"] == 700
    created = bob.post("/api/sessions").json()["config"]
    assert (created["top_k"], created["thinking_mode"]) == (9, "rag")
    assert ada.post("/api/sessions").json()["config"]["top_k"] == 5


def test_commands_beside_the_app_come_in_with_the_key_of_the_folder(lan, tmp_path):
    folder = lan.companion.settings.data_dir
    assert (folder / "key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "owls.md").write_text("# Owls\n\nOwls hunt voles at dusk.")
    done = subprocess.run(
        [sys.executable, "-m", "companion", "ingest", str(tmp_path / "owls.md"), "--data-dir", str(folder)],
        cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "owls.md: added\n", done.stderr
    assert "owls.md" in lan.program_of("ada").get("/api/documents").text
    assert "owls.md" not in lan.program_of("bob").get("/api/documents").text


# --- starting -----------------------------------------------------------------------------


def test_without_a_user_others_are_not_let_near(tmp_path, capsys):
    from companion.cli import main, serve_app

    folder = ["--data-dir", str(tmp_path / "data")]
    assert main(["migrate", *folder]) == 0
    capsys.readouterr()
    for exposed in (["--share"], ["--host", "0.0.0.0"]):
        done = subprocess.run(
            [sys.executable, "companion_app.py", *folder, *exposed, "--offline"],
            cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "user add" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "data" / "address").exists()
    assert serve_app(["--data-dir", str(tmp_path / "none"), "--share"]) == 2
    assert not (tmp_path / "none").exists()


@pytest.fixture
def tunnel(monkeypatch):
    """Gradio's tunnel, without the machine at its other end."""
    from gradio import networking

    opened = []

    def open_tunnel(**where):
        opened.append((where["local_host"], where["local_port"]))
        return "https://abc123.gradio.live"

    monkeypatch.setattr(networking, "setup_tunnel", open_tunnel)
    return opened


def test_a_share_link_leads_to_the_login_and_to_nothing_else(tmp_path, tunnel, capsys):
    with house(tmp_path, share=True) as shared:
        assert tunnel == [("127.0.0.1", shared.companion.settings.port)]
        public = {"Host": "abc123.gradio.live", "X-Forwarded-Proto": "https"}
        stranger = shared.client(headers=public)
        assert stranger.get("/").headers["location"].endswith("/login")
        assert stranger.get("/api/sessions").status_code == 401
        assert stranger.get("/", headers={"Host": "other.gradio.live"}).status_code == 403
        answer = stranger.post(
            "/login",
            data={"name": "bob", "password": PASSWORDS["bob"]},
            headers={"Origin": "https://abc123.gradio.live"},
        )
        assert answer.status_code == 303
        assert "Secure" in answer.headers["set-cookie"]
        cookie = answer.headers["set-cookie"].partition(";")[0]
        assert stranger.get("/api/sessions", headers={"Cookie": cookie}).status_code == 200
        evil = {"Origin": "https://evil.example", "Cookie": cookie}
        assert stranger.post("/api/sessions", headers=evil).status_code == 403


def test_a_share_link_that_cannot_be_made_is_said(tmp_path, monkeypatch, capsys):
    from gradio import networking

    def fail(**_where):
        raise RuntimeError("no internet")

    monkeypatch.setattr(networking, "setup_tunnel", fail)
    with pytest.raises(Conflict, match="public link"), house(tmp_path, share=True):
        pass


def test_on_ones_own_machine_nobody_signs_in(tmp_path):
    with house(tmp_path) as own:
        client = own.client()
        assert client.get("/").status_code == 200
        assert client.get("/api/sessions").status_code == 200
        assert not (tmp_path / "key").exists()


def test_without_a_gate_a_shared_interface_answers_nobody(tmp_path):
    """A door that somebody opens beside the gate lets nobody in as the owner of the machine."""
    from starlette.testclient import TestClient

    from companion.api.app import create_api
    from companion.app import build
    from tests.fakes import FakeEmbedder

    settings = Settings(data_dir=tmp_path, offline=True, host="0.0.0.0")
    companion = build(settings, engines=[], light=FakeEmbedder())
    try:
        client = TestClient(create_api(companion))
        assert client.get("/sessions").status_code == 401
        assert client.get("/health").status_code == 401
    finally:
        companion.close()
