"""A demo: everybody comes in, each for themselves, for a while, and not for ever."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from companion.config import REPOSITORY, of_a_space
from companion.domain import SAMPLE_OWNER
from companion.options import settings_from
from companion.people.visitors import Visitors
from companion.storage.store import Store
from tests.fakes import done
from tests.house import house
from tests.test_gate import MACHINE
from tests.waiting import until

# The server runs in this process, and its warnings are Gradio's, pandas's and uvicorn's own.
pytestmark = pytest.mark.filterwarnings("ignore")

ONE, TWO = "1" * 64, "2" * 64
NOTE = b"# Lighthouse\n\nThe lighthouse of Skagen was painted green in 1998."


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    limits = {"demo_documents": 3, "demo_mb": 1, "demo_questions": 4, "max_upload_mb": 2}
    with house(tmp_path_factory.mktemp("demo"), demo=True, **limits) as found:
        until(lambda: found.companion.health().state == "ready")
        yield found


@pytest.fixture
def visitor(demo):
    """Somebody new each time."""
    numbers = iter(range(10))
    return lambda: demo.visitor(f"{id(numbers):032d}{next(numbers):032d}{datetime.now(UTC).timestamp()}")


def upload(client, name="note.md", content=NOTE):
    return client.post("/api/documents", files={"files": (name, content)})


def message(answer):
    return answer.json()["error"]["message"]


def test_a_visitor_needs_a_secret_and_the_page_needs_none(demo):
    stranger = demo.client()
    assert stranger.get("/").status_code == 200
    assert stranger.get("/config").status_code == 200
    for path in ("/api/sessions", "/api/documents", "/api/health", "/api/docs"):
        assert stranger.get(path).status_code == 401, path
    assert stranger.post("/gradio_api/queue/join", json={}).status_code == 401
    for secret in ("short", "x" * 201):
        assert demo.visitor(secret).get("/api/sessions").status_code == 422
    assert stranger.get("/login").status_code in (401, 403, 404)


def test_two_visitors_share_the_sample_library_and_nothing_else(demo):
    one, two = demo.visitor(ONE), demo.visitor(TWO)
    doc_id = upload(one).json()["results"][0]["document"]["doc_id"]
    session_id = one.post("/api/sessions", json={"title": "Of one"}).json()["session_id"]
    assert next(each["name"] for each in one.get("/api/documents").json()["documents"]) == "note.md"
    shown = two.get("/api/documents").json()["documents"]
    assert shown
    assert "note.md" not in [each["name"] for each in shown]
    assert two.get(f"/api/documents/{doc_id}").status_code == 404
    assert two.get(f"/api/sessions/{session_id}").status_code == 404
    assert (
        two.get("/api/search", params={"q": "lighthouse of Skagen"}).json()["hits"][0]["document_name"]
        != "note.md"
    )


def test_the_sample_library_is_for_reading(demo):
    one = demo.visitor(ONE)
    sample = demo.companion.store.documents.list(SAMPLE_OWNER)[0]
    assert one.get(f"/api/documents/{sample.doc_id}").status_code == 200
    assert one.delete(f"/api/documents/{sample.doc_id}").status_code == 403
    answer = one.put(f"/api/documents/{sample.doc_id}", files={"files": ("x.md", b"# X")})
    assert answer.status_code == 403
    assert demo.companion.store.documents.list(SAMPLE_OWNER)[0] == sample


@pytest.mark.parametrize(("method", "path", "body"), MACHINE)
def test_a_visitor_changes_nothing_of_the_machine(demo, method, path, body):
    one = demo.visitor(ONE)
    session = one.post("/api/sessions").json()["session_id"]
    answer = one.request(method, path.format(session=session), json=body)
    assert answer.status_code == 403, answer.text


def test_more_documents_than_a_visitor_may_have_are_refused_with_the_number(demo, visitor):
    client = visitor()
    for number in range(3):
        assert upload(client, f"{number}.md", NOTE + bytes([65 + number])).status_code == 201
    refused = upload(client, "3.md")
    assert refused.status_code == 422
    assert "3 documents" in message(refused)
    assert upload(client, "0.md", b"# Another version of the first").status_code == 201
    doc_id = client.get("/api/documents").json()["documents"][0]["doc_id"]
    client.delete(f"/api/documents/{doc_id}")
    assert upload(client, "3.md").status_code == 201


def test_more_bytes_than_a_visitor_may_have_are_refused_with_the_number(demo, visitor):
    client = visitor()
    assert upload(client, "a.txt", b"words and words " * 40_000).status_code == 201
    refused = upload(client, "b.txt", b"more words here " * 40_000)
    assert refused.status_code == 422
    assert "1 MB" in message(refused)
    early = client.post("/gradio_api/upload", files={"files": ("b.txt", b"more words here " * 40_000)})
    assert early.status_code == 429
    assert "1 MB" in message(early)


def test_more_questions_than_an_hour_has_are_refused_with_the_number(demo, visitor):
    client, other = visitor(), visitor()
    session = client.post("/api/sessions", json={"thinking_mode": "cot"}).json()["session_id"]
    demo.ollama.scripts = [["Yes.", done()] for _ in range(20)]
    ask = {"content": "Is it so?"}
    codes = [client.post(f"/api/sessions/{session}/messages", json=ask).status_code for _ in range(5)]
    assert codes == [200] * 4 + [429]
    refused = client.post(f"/api/sessions/{session}/messages", json=ask)
    assert "4 questions an hour" in message(refused)
    assert len(client.get(f"/api/sessions/{session}/messages").json()["messages"]) == 8
    session = other.post("/api/sessions", json={"thinking_mode": "cot"}).json()["session_id"]
    assert other.post(f"/api/sessions/{session}/messages", json=ask).status_code == 200


def test_who_stays_away_is_forgotten_with_all_they_made(demo):
    client = demo.visitor("9" * 64)
    upload(client, "gone.md", b"# Zanzibar\n\nThe zanzibar canary sings.")
    session = client.post("/api/sessions", json={"title": "About zanzibar"}).json()["session_id"]
    client.put("/api/settings", json={"top_k": 9})
    store, companion = demo.companion.store, demo.companion
    owner = companion.visitors.admit("9" * 64).owner
    original = companion.library.original(owner, store.documents.list(owner)[0].doc_id)
    assert original.exists()
    assert companion.visitors.gone() == []
    store.visitors.used(owner, datetime.now(UTC) - timedelta(hours=25))
    until(lambda: not original.exists())
    until(lambda: not store.sessions.list(owner))
    assert store.settings.load(owner) == {}
    assert client.get("/api/sessions").json()["sessions"] == [], "a stranger again"
    assert client.get(f"/api/sessions/{session}").status_code == 404
    assert companion.visitors.admit("9" * 64).owner != owner
    store.checkpoint()
    folder = companion.settings.data_dir
    until(lambda: all(b"zanzibar" not in path.read_bytes() for path in folder.glob("companion.db*")))


def test_who_comes_back_in_time_is_known(tmp_path):
    store, times = Store.open(tmp_path / "companion.db"), [datetime(2026, 1, 1, tzinfo=UTC)]
    try:
        visitors = Visitors(store, timedelta(hours=24), now=lambda: times[0])
        owner = visitors.admit(ONE).owner
        times[0] += timedelta(hours=23)
        assert Visitors(store, timedelta(hours=24), now=lambda: times[0]).admit(ONE).owner == owner
        times[0] += timedelta(hours=23)
        assert visitors.gone() == []
        times[0] += timedelta(hours=2)
        assert visitors.gone() == [owner]
        assert ONE.encode() not in (tmp_path / "companion.db").read_bytes()
    finally:
        store.close()


def test_a_demo_may_be_shown_in_the_frame_of_a_space(demo):
    policy = demo.client().get("/").headers["content-security-policy"]
    assert policy.endswith("frame-ancestors https://huggingface.co https://*.hf.space")


# --- a Space ------------------------------------------------------------------------------


def test_on_a_space_it_is_a_demo_under_the_name_of_the_space(monkeypatch, tmp_path):
    assert of_a_space() == {}
    monkeypatch.setenv("SPACE_ID", "ada/companion")
    monkeypatch.setenv("SPACE_HOST", "ada-companion.hf.space")
    settings = settings_from({"data_dir": str(tmp_path)})
    assert (settings.mode, settings.host, settings.port) == ("demo", "0.0.0.0", 7860)
    assert settings.host_names == "ada-companion.hf.space"
    monkeypatch.setenv("COMPANION_DEMO", "0")
    assert settings_from({"data_dir": str(tmp_path)}).mode == "shared", "what was set there stays"


def test_the_head_of_the_readme_says_how_a_space_starts_it():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    head = dict(re.findall(r"^(\w+): (.+)$", readme.split("---\n")[1], flags=re.MULTILINE))
    assert readme.startswith("---\n")
    pinned = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")
    assert f"gradio=={head['sdk_version']}\n" in pinned.replace(" ", "\n")
    assert (head["sdk"], head["python_version"], head["app_file"]) == ("gradio", '"3.11"', "companion_app.py")
    assert (REPOSITORY / head["app_file"]).is_file()
