"""Nobody reaches what is another's: Bob tries every event and every route with Ada's ids.

The walk is made from the page and the routes as they are. A new event or route without a case fails.
"""

import json
import uuid
from dataclasses import dataclass

import pytest

from tests.fakes import MODEL, Gate, done
from tests.house import house
from tests.routes import routes_of
from tests.waiting import until

# The server runs in this process, and its warnings are Gradio's, pandas's and uvicorn's own.
pytestmark = pytest.mark.filterwarnings("ignore")

CANARY = "zanzibar"
SECRET = f"# Zanzibar\n\nThe {CANARY} canary sings at midnight in the harbour."


@dataclass
class Ids:
    """What Ada has; `other` are ids of the same shape that nobody has."""

    session_id: str
    doc_id: str
    message_id: int
    chunk_id: str
    run_id: str
    path: str
    upload: str
    tab: str


@pytest.fixture(scope="module")
def lan(tmp_path_factory):
    with house(tmp_path_factory.mktemp("lan"), host="0.0.0.0") as found:
        yield found


@pytest.fixture(scope="module")
def ada(lan):
    return lan.browser_of("ada")


@pytest.fixture(scope="module")
def bob(lan):
    return lan.browser_of("bob")


@pytest.fixture(scope="module")
def running():
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture(scope="module")
def ids(lan, ada, running):
    """Ada has a document, an answered chat, an answer in the making, a file on its way, and a tab."""
    added = ada.post("/api/documents", files={"files": (f"{CANARY}.md", SECRET.encode())}).json()
    doc_id = added["results"][0]["document"]["doc_id"]
    session = ada.post("/api/sessions", json={"title": f"About {CANARY}", "thinking_mode": "rag"}).json()
    session_id = session["session_id"]
    lan.ollama.scripts = [[f"The {CANARY} canary sings [1].", done()]]
    answer = ada.post(f"/api/sessions/{session_id}/messages", json={"content": f"Does the {CANARY} sing?"})
    assert CANARY in answer.text
    lan.ollama.scripts = [[f"Once more the {CANARY}", running, " sings.", done()]]
    run = lan.companion.runs.start(
        lan.owner("ada"), session_id, f"Does the {CANARY} canary sing in the harbour?"
    )
    assert running.reached.wait(30)
    path = ada.post("/gradio_api/upload", files={"files": (f"{CANARY}-2.md", SECRET.encode())}).json()[0]
    tab = uuid.uuid4().hex
    fire(ada, event(lan, "page.load"), tab=tab)
    bad = ada.post("/gradio_api/upload", files={"files": (f"{CANARY}.exe", b"MZ")}).json()[0]
    upload = {
        "files": [{"path": bad, "name": f"{CANARY}.exe"}],
        "clash": "keep",
        "upload": "of-ada",
        "part": "p",
    }
    assert f"{CANARY}.exe" in fire(ada, adding(lan), data=upload, tab=tab)
    passages = ada.get(f"/api/documents/{doc_id}").json()["passages"]
    chunk_id = passages[0]["chunk_id"]
    message_id = answer.json()["message_id"]
    return Ids(session_id, doc_id, message_id, chunk_id, run.run_id, path, "of-ada", tab)


def everything_of_ada(lan):
    """All that could have been changed."""
    owner, companion = lan.owner("ada"), lan.companion
    sessions = companion.store.sessions
    found = {
        each.session_id: (
            each,
            sessions.config(owner, each.session_id),
            sessions.messages(owner, each.session_id),
        )
        for each in sessions.list(owner)
    }
    run = companion.runs.get(next(iter(found)))
    return (
        found,
        companion.store.documents.list(owner),
        companion.sessions.preferences(),
        companion.sessions.preferences(owner),
        companion.work.light_change.progress,
        run is not None and (run.run_id, run.done, run.stopping),
    )


# --- events -------------------------------------------------------------------------------


def name_of(page, fn):
    """Where it happens, and what."""
    target, happened = fn.targets[0]
    block = page.blocks.get(target)
    where = "page" if block is None else block.elem_id or type(block).__name__.lower()
    return f"{where}.{happened}"


def events(lan):
    return sorted(lan.demo.fns.items())


def adding(lan):
    return next(fn for _, fn in events(lan) if fn.api_name == "add")


def event(lan, name):
    return next(fn for _, fn in events(lan) if name_of(lan.demo, fn) == name)


# Each has been looked at: what it takes from the browser is in `sent`, and it asks for the owner.
KNOWN = set(
    """
    lc-status.again lc-banner.again textbox.change lc-box.stop lc-welcome.touch lc-welcome.draft
    lc-earlier.click lc-cards.cite lc-cards.more lc-scope.open lc-choice.choose lc-dropzone.arrived
    lc-doclist.replace lc-doclist.remove lc-undo.undo lc-doclist.open lc-doclist.more lc-docfilter.find
    timer.tick lc-modellist.bring lc-modellist.free lc-offers.cancel lc-offers.fetch lc-pullform.fetch
    lc-findings.examine tab.select lc-work.start lc-work.stop lc-doclist.ask lc-cards.ask lc-cards.listed
    page.load page.unload lc-sidehead.fresh lc-sidelist.open lc-sidelist.rename lc-sidelist.remove
    lc-sideundo.undo lc-box.submit lc-welcome.ask lc-welcome.again lc-editor.resend lc-model.input
    lc-mode.input lc-save.click lc-confirm.sure lc-confirm.back dropdown.input lc-kept.retype html.reset
    html.fill lc-quality.measure lc-misses.open
    """.split()
)


def sent(ids, wanted):
    """Whatever an event may carry, with one of Ada's ids wherever an id goes."""
    return {
        "id": wanted, "ref": f"{ids.message_id}-1", "title": "Bob was here", "text": "What is there?",
        "mode": "rag", "ids": [ids.doc_id], "most": 40, "find": CANARY, "order": "newest", "first": True,
        "files": [{"path": ids.path, "name": "stolen.md"}], "path": ids.path, "name": "stolen.md",
        "clash": "replace", "upload": ids.upload, "part": "p", "names": [["light", "x"]], "value": "x",
        "values": {"top_k": "7"},
    }  # fmt: skip


def inputs_of(fn, ids):
    """What the browser sends of the fields; states it cannot."""
    by_kind = {"State": None, "Checkbox": False, "Radio": "rag", "Number": 7, "Textbox": "Europe/Berlin"}
    by_place = {"lc-box": f"Where is the {CANARY[:3]}?", "lc-mode": "rag", "lc-model": MODEL.name}
    values = []
    for block in fn.inputs:
        kind = type(block).__name__
        values.append(by_place.get(block.elem_id, by_kind.get(kind, MODEL.name)))
    if fn.api_name == "follow":
        values[0] = f"{ids.run_id} 40"
    return values


def fire(client, fn, ids=None, data=None, *, tab, way="join"):
    """Everything that the server says to an event."""
    body = {
        "fn_index": fn._id,
        "session_hash": tab,
        "data": inputs_of(fn, ids) if ids else ["Europe/Berlin"] * len(fn.inputs),
        "event_data": data,
        "trigger_id": fn.targets[0][0],
    }
    if way != "join":
        return client.post(f"/gradio_api/{way}/{fn.api_name}", json=body).text
    joined = client.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return joined.text
    said = [joined.text]
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": tab}) as stream:
        for line in stream.iter_lines():
            said.append(line)
            if '"process_completed"' in line or '"close_stream"' in line:
                break
    return "\n".join(said)


def different_events(lan):
    """One of several that do the same, such as the buttons below each setting."""
    found = {}
    for _, fn in events(lan):
        found.setdefault((name_of(lan.demo, fn), getattr(fn.fn, "__code__", fn.api_name)), fn)
    return list(found.values())


def test_each_event_of_the_page_has_a_case(lan):
    assert {name_of(lan.demo, fn) for _, fn in events(lan)} <= KNOWN


READING = (
    "lc-cards.cite",
    "lc-doclist.open",
    "lc-sidelist.open",
    "page.load",
    "lc-cards.listed",
    "timer.tick",
)


@pytest.mark.parametrize("name", READING)
def test_the_walk_would_see_what_it_looks_for(lan, ada, ids, name):
    """The same events, fired by Ada, do show her things."""
    wanted = ids.session_id if "sidelist" in name else ids.doc_id
    fns = [fn for _, fn in events(lan) if name_of(lan.demo, fn) == name]
    said = [fire(ada, fn, ids, sent(ids, wanted), tab=uuid.uuid4().hex) for fn in fns]
    assert any(CANARY in each for each in said)


@pytest.mark.parametrize("way", ["join", "run", "call"])
def test_no_event_fired_by_bob_shows_or_changes_what_is_adas(lan, bob, ids, way):
    before = everything_of_ada(lan)
    wanted = [ids.session_id, ids.doc_id, ids.message_id]
    for number, fn in enumerate(different_events(lan)):
        name = name_of(lan.demo, fn)
        # The way in by number is the page's own; the others lead to the same handlers.
        for each in wanted if way == "join" else wanted[number % 3 :][:1]:
            said = fire(bob, fn, ids, sent(ids, each), tab=uuid.uuid4().hex, way=way)
            # What he himself asked for and called his own comes back to him.
            assert CANARY not in said.replace(f"{CANARY}-2.md", ""), (name, each)
    assert everything_of_ada(lan) == before
    mine = bob.get("/api/documents").json()
    assert [one["name"] for one in mine["documents"] if one["name"] == "stolen.md"] == []


def test_bob_cannot_speak_for_adas_tab(lan, ada, bob, ids):
    fn = event(lan, "lc-sidehead.fresh")
    said = fire(bob, fn, ids, None, tab=ids.tab)
    assert "another person" in said
    for path in (f"/gradio_api/queue/data?session_hash={ids.tab}", f"/gradio_api/heartbeat/{ids.tab}"):
        assert bob.get(path).status_code == 403
    body = {"session_hash": ids.tab, "fn_index": 0, "event_id": "x"}
    assert bob.post("/gradio_api/cancel", json=body).status_code == 403
    doubled = json.dumps(body).replace("{", f'{{"session_hash": "{uuid.uuid4().hex}", ', 1)
    headers = {"content-type": "application/json"}
    assert bob.post("/gradio_api/queue/join", content=doubled, headers=headers).status_code == 403
    assert "event_id" in fire(ada, fn, ids, None, tab=ids.tab)


def test_bob_cannot_cancel_what_ada_asked_for(lan, ada, bob, ids):
    fn = event(lan, "lc-sidehead.fresh")
    body = {"fn_index": fn._id, "session_hash": ids.tab, "data": ["UTC"]}
    asked = ada.post("/gradio_api/queue/join", json=body).json()["event_id"]
    cancel = {"session_hash": uuid.uuid4().hex, "fn_index": fn._id, "event_id": asked}
    assert bob.post("/gradio_api/cancel", json=cancel).status_code == 403


# --- files --------------------------------------------------------------------------------


def test_bob_gets_no_file_of_adas_by_its_path(lan, ada, bob, ids):
    original = lan.companion.library.original(lan.owner("ada"), ids.doc_id)
    for path in (ids.path, original, lan.companion.settings.database_path):
        for form in ("/gradio_api/file={}", "/gradio_api/file/{}", "/file={}", "/gradio_api/FILE={}"):
            answer = bob.get(form.format(path))
            assert answer.status_code in (403, 404), form
            assert CANARY not in answer.text


def test_the_same_file_sent_by_both_is_each_ones_own(lan, ada, bob):
    """It lies in one place; who is done with it does not take it from the other."""
    content = b"Owls hunt voles at dusk."
    paths = [
        who.post("/gradio_api/upload", files={"files": ("owls.md", content)}).json()[0] for who in (ada, bob)
    ]
    assert paths[0] == paths[1]
    for who in (ada, bob):
        data = {
            "files": [{"path": paths[0], "name": "owls.md"}], "clash": "keep", "first": True,
            "upload": "same", "part": "same",
        }  # fmt: skip
        fire(who, adding(lan), data=data, tab=uuid.uuid4().hex)
        own = [one for one in who.get("/api/documents").json()["documents"] if one["name"] == "owls.md"]
        assert len(own) == 1


# --- routes -------------------------------------------------------------------------------

JSON = {
    ("POST", "/api/sessions"): {"scope": ["{doc_id}"]},
    ("PATCH", "/api/sessions/{session_id}"): {"title": "Bob was here"},
    ("POST", "/api/sessions/{session_id}/messages"): {"content": "What is there?"},
    ("PUT", "/api/sessions/{session_id}/messages/{message_id}"): {"content": "Bob was here"},
    ("POST", "/api/sessions/{session_id}/messages/{message_id}/retry"): None,
    ("POST", "/api/estimate"): {"session_id": "{session_id}", "content": "x"},
    ("PUT", "/api/config/{session_id}"): {"top_k": 7},
    ("PUT", "/api/settings"): {"top_k": 7},
    ("POST", "/api/documents"): "file",
    ("PUT", "/api/documents/{doc_id}"): "file",
    ("POST", "/api/documents/{doc_id}/undo"): None,
    ("POST", "/api/models/{name}/load"): None,
    ("POST", "/api/models/{name}/unload"): None,
    ("POST", "/api/models/{name}/pull"): None,
    ("POST", "/api/embeddings/index"): None,
    ("POST", "/api/health/try-again"): None,
    ("POST", "/api/quality"): None,
    ("POST", "/v1/chat/completions"): {
        "model": f"companion/rag:{MODEL.name}",
        "messages": [{"role": "user", "content": "Does the canary sing in the harbour?"}],
    },
}
OF_SOMEBODY = ("{session_id}", "{doc_id}", "{message_id}")


def interface(lan):
    """Everything that is not Gradio's."""
    ours = {
        (method, path) for method, path in routes_of(lan.demo_app()) if path.startswith(("/api/", "/v1/"))
    }
    return sorted(ours - {(method, path) for method, path in ours if method in ("HEAD", "OPTIONS")})


def put_in(value, ids):
    text = json.dumps(value)
    for name in ("session_id", "doc_id", "message_id", "chunk_id"):
        text = text.replace(f"{{{name}}}", str(getattr(ids, name)))
    return json.loads(text.replace("{name}", "llama3.2"))


def call(client, method, path, ids):
    body = JSON.get((method, path))
    query = f"?q=canary&session_id={ids.session_id}&doc_id={ids.doc_id}&name=x&chunk_id={ids.chunk_id}"
    address = put_in(path, ids) + (query if method == "GET" else "")
    if body == "file":
        return client.request(method, address, files={"files": ("bob.md", b"# Bob")})
    return client.request(method, address, json=put_in(body, ids) if body is not None else None)


def nobodys(ids):
    """Ids of the same shape that nobody has."""
    return Ids("f" * 32, "e" * 32, 987654, f"{'e' * 32}:{'0' * 16}:0", "d" * 32, ids.path, "none", "none")


def test_each_route_that_changes_something_has_a_case(lan):
    changing = {route for route in interface(lan) if route[0] in ("POST", "PUT", "PATCH")}
    assert changing == set(JSON)


def test_no_route_called_by_bob_shows_or_changes_what_is_adas(lan, bob, ids):
    before = everything_of_ada(lan)
    assert len(interface(lan)) > 30
    for method, path in interface(lan):
        answer = call(bob, method, path, ids)
        assert CANARY not in answer.text, (method, path)
        if any(name in path for name in OF_SOMEBODY):
            assert answer.status_code in (404, 409, 422), (method, path, answer.text)
            unknown = call(bob, method, path, nobodys(ids))
            assert (answer.status_code, answer.text) == (unknown.status_code, unknown.text), (method, path)
    assert everything_of_ada(lan) == before


def test_an_answer_in_the_making_is_neither_followed_nor_stopped_by_another(lan, ada, bob, ids, running):
    assert bob.delete(f"/api/sessions/{ids.session_id}/run").status_code == 404
    assert bob.get(f"/api/sessions/{ids.session_id}/run").status_code == 404
    run = lan.companion.runs.get(ids.session_id)
    assert (run.run_id, run.stopping, run.done) == (ids.run_id, False, False)
    running.open.set()
    until(lambda: run.done)
    assert (
        ada.get(f"/api/sessions/{ids.session_id}/messages")
        .json()["messages"][-1]["content"]
        .endswith("sings.")
    )


# --- search -------------------------------------------------------------------------------


def found_by(client, question):
    """Passage to score, to similarity, and to the rankings that found it."""
    hits = client.get("/api/search", params={"q": question, "top_k": 20}).json()["hits"]
    return [
        {hit["passage"]["chunk_id"]: hit[name] for hit in hits} for name in ("score", "similarity", "layers")
    ]


QUESTIONS = ("owls and voles at dusk", "rare lighthouse keeper", "the canary in the harbour", "midnight")


def test_documents_of_another_do_not_move_a_ranking_by_a_single_score(lan, ada, bob, ids):
    for number in range(12):
        does = "sings" if number % 3 else "hunts voles"
        text = f"Lighthouse {number}. The keeper {does} at dusk, {number} times."
        ada.post("/api/documents", files={"files": (f"ada-{number}.md", text.encode())})
    before = {question: found_by(ada, question) for question in QUESTIONS}
    assert all(scores for scores, _, _ in before.values())
    many = [
        ("files", (f"bob-{n}.md", f"Voles, owls, lighthouse, midnight, canary {n}. ".encode() * n))
        for n in range(1, 20)
    ]
    assert bob.post("/api/documents", files=many).status_code == 201
    for question, (scores, similarities, layers) in before.items():
        now = found_by(ada, question)
        # Exact search and the index differ in the fifth digit, and either may answer.
        assert now[0] == pytest.approx(scores, abs=1e-3)
        assert now[1] == pytest.approx(similarities, abs=1e-3)
        assert now[2] == layers
        assert not set(found_by(bob, question)[0]) & set(scores)


def test_the_prompt_of_bob_holds_nothing_of_adas(lan, bob, ids):
    lan.ollama.requests.clear()
    session = bob.post("/api/sessions", json={"thinking_mode": "rag"}).json()["session_id"]
    asked = "Do voles and owls hear the canary in the harbour by the lighthouse at midnight?"
    bob.post(f"/api/sessions/{session}/messages", json={"content": asked})
    assert lan.ollama.requests
    assert CANARY not in repr(lan.ollama.requests)
