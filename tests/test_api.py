"""Every route of the HTTP interface, over a real store, library and chat; only models are scripted."""

import json
import threading

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from companion.api.doors import doors
from companion.app import build
from companion.config import Settings
from companion.domain import Thought
from companion.errors import EngineBusy, EngineUnavailable, UnknownFormat
from tests.fakes import MODEL, THINKER, FakeEmbedder, Gate, ScriptedEngine, done

GUIDE = "# Guide\n\nPress the blue button to add documents.\n\n# Modes\n\nHybrid searches, then reasons.\n"
NEW_GUIDE = "# Guide\n\nPress the green lever to add documents.\n"


@pytest.fixture
def engine():
    return ScriptedEngine(models=(MODEL, THINKER))


@pytest.fixture
def companion(tmp_path, engine):
    settings = Settings(data_dir=tmp_path / "data", max_upload_mb=1, offline=True)
    companion = build(settings, engines=[engine], light=FakeEmbedder())
    yield companion
    companion.close()


@pytest.fixture
def client(companion):
    outside = Starlette(routes=doors(companion))
    return TestClient(outside, base_url="http://127.0.0.1:7860", raise_server_exceptions=False)


@pytest.fixture
def session_id(client):
    return client.post("/api/sessions").json()["session_id"]


def upload(client, *files, **more):
    parts = [("files", (name, content)) for name, content in files]
    return client.post("/api/documents", files=parts, **more)


@pytest.fixture
def doc_id(client):
    return upload(client, ("guide.md", GUIDE)).json()["results"][0]["document"]["doc_id"]


def ask(client, session_id, content, *, headers=None, **more):
    return client.post(
        f"/api/sessions/{session_id}/messages", json={"content": content, **more}, headers=headers
    )


def events_of(text):
    """(id, name, data) of each server-sent event."""
    events = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        events.append((lines.get("id"), lines["event"], json.loads(lines["data"])))
    return events


def assert_error(answer, status, code, words=""):
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["code"] == code
    assert words.lower() in body["error"]["message"].lower()


# --- sessions -----------------------------------------------------------------------------


def test_a_conversation_is_created_listed_renamed_and_deleted(client):
    created = client.post("/api/sessions", json={"title": "Bees", "thinking_mode": "rag", "top_k": 3})
    assert created.status_code == 201
    session_id = created.json()["session_id"]
    assert created.json()["config"] == {
        "session_id": session_id, "model_name": MODEL.name, "thinking_mode": "rag", "top_k": 3,
        "embed_light": "all-MiniLM-L6-v2", "embed_deep": "all-mpnet-base-v2", "idle_threshold_s": 600,
        "scope": None, "temperature": 0.2, "system_prompt": "",
    }  # fmt: skip
    assert [each["title"] for each in client.get("/api/sessions").json()["sessions"]] == ["Bees"]
    renamed = client.patch(f"/api/sessions/{session_id}", json={"title": "Wasps"})
    assert renamed.json()["title"] == "Wasps"
    assert client.get(f"/api/sessions/{session_id}").json()["title"] == "Wasps"
    assert client.delete(f"/api/sessions/{session_id}").status_code == 204
    assert client.get("/api/sessions").json()["sessions"] == []
    assert_error(client.get(f"/api/sessions/{session_id}"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/sessions/nobodys", None),
        ("PATCH", "/api/sessions/nobodys", {"title": "x"}),
        ("DELETE", "/api/sessions/nobodys", None),
        ("GET", "/api/sessions/nobodys/messages", None),
        ("POST", "/api/sessions/nobodys/messages", {"content": "x"}),
        ("GET", "/api/sessions/nobodys/run", None),
        ("DELETE", "/api/sessions/nobodys/run", None),
        ("GET", "/api/config/nobodys", None),
        ("PUT", "/api/config/nobodys", {"top_k": 3}),
        ("GET", "/api/documents/nobodys", None),
        ("DELETE", "/api/documents/nobodys", None),
        ("POST", "/api/documents/nobodys/undo", None),
        ("GET", "/api/passages/nobodys:0:0", None),
    ],
)
def test_what_is_not_there_is_404_everywhere(client, method, path, body):
    assert_error(client.request(method, path, json=body), 404, "not_found")


def test_what_belongs_to_somebody_else_is_not_there(client, companion, session_id, doc_id, tmp_path):
    before = client.get("/api/sessions").json()
    companion.store.sessions.create("somebody", "theirs", companion.sessions.config("local", session_id))
    theirs = companion.library.add("somebody", "secret.md", b"# Secret\n\nThe canary sings at midnight.")
    chunk_id = companion.library.passages("somebody", theirs.doc_id)[0].chunk_id
    run = companion.runs.start("somebody", "theirs", "Does the canary sing?")
    for path in ("sessions/theirs", "sessions/theirs/messages", "sessions/theirs/run", "config/theirs"):
        assert_error(client.get(f"/api/{path}"), 404, "not_found")
    for path in (f"documents/{theirs.doc_id}", f"passages/{chunk_id}"):
        assert_error(client.get(f"/api/{path}"), 404, "not_found")
    assert_error(client.delete(f"/api/documents/{theirs.doc_id}"), 404, "not_found")
    assert_error(client.delete("/api/sessions/theirs/run"), 404, "not_found")
    assert run.wait(60)
    assert_error(client.get("/api/sessions/theirs/run"), 404, "not_found")
    assert client.get("/api/sessions").json() == before
    assert "canary" not in client.get("/api/search", params={"q": "canary midnight"}).text


# --- config -------------------------------------------------------------------------------


def test_a_conversations_config_is_read_and_changed_in_part(client, session_id):
    changed = client.put(f"/api/config/{session_id}", json={"top_k": 7, "thinking_mode": "cot"})
    assert changed.status_code == 200
    again = client.get(f"/api/config/{session_id}").json()
    assert again == changed.json()
    assert (again["top_k"], again["thinking_mode"], again["model_name"]) == (7, "cot", MODEL.name)


@pytest.mark.parametrize(
    "change",
    [{"top_k": 0}, {"top_k": 51}, {"top_k": "many"}, {"thinking_mode": "magic"}, {"idle_threshold_s": 1},
     {"topk": 3}, {"model_name": "vanished:7b"}, {"model_name": ""}, {"scope": ["gone"]}, {"scope": []},
     {"embed_light": "../elsewhere"}, {"embed_deep": "a\nb"}, {"temperature": 3},
     {"system_prompt": "x" * 4001}],
)  # fmt: skip
def test_an_invalid_config_changes_nothing_and_names_the_field(client, session_id, change):
    before = client.get(f"/api/config/{session_id}").json()
    refused = client.put(f"/api/config/{session_id}", json={"idle_threshold_s": 700} | change)
    assert_error(refused, 422, "invalid_input", f"{next(iter(change))}: ")
    assert client.get(f"/api/config/{session_id}").json() == before


def test_settings_hold_for_new_conversations(client):
    changed = client.put("/api/settings", json={"top_k": 9, "gpu_idle_percent": 25, "cot_iterations": 3})
    assert changed.status_code == 200
    now = client.get("/api/settings").json()
    assert (now["top_k"], now["gpu_idle_percent"], now["cot_iterations"]) == (9, 25, 3)
    assert client.post("/api/sessions").json()["config"]["top_k"] == 9
    assert_error(
        client.put("/api/settings", json={"cot_iterations": 4}), 422, "invalid_input", "cot_iterations"
    )
    assert client.get("/api/settings").json() == now


# --- messages -----------------------------------------------------------------------------


def test_a_question_is_answered_whole_with_sources_and_kept(client, engine, session_id, doc_id):
    engine.scripts += [["The blue button [1].", done(answer_tokens=5)]]
    answer = ask(client, session_id, "How do I add documents?", thinking_mode="rag")
    assert answer.status_code == 200
    message = answer.json()
    assert message["content"] == "The blue button [1]."
    assert (message["state"], message["mode"], message["model"]) == ("complete", "rag", MODEL.name)
    assert message["sources"][0]["doc_id"] == doc_id
    assert message["sources"][0]["cited"]
    kept = client.get(f"/api/sessions/{session_id}/messages").json()["messages"]
    assert [each["role"] for each in kept] == ["user", "assistant"]
    assert kept[1] == message
    assert client.get(f"/api/sessions/{session_id}/messages", params={"limit": 1}).json()["messages"] == [
        message
    ]
    passage = client.get(f"/api/passages/{message['sources'][0]['chunk_id']}").json()
    assert "blue button" in passage["passage"]["text"]


@pytest.mark.parametrize(
    ("headers", "body", "mode"),
    [
        ({"thinking_mode": "cot"}, {}, "cot"),
        ({"thinking-mode": "cot"}, {}, "cot"),
        ({"Thinking-Mode": "rag"}, {"thinking_mode": "cot"}, "cot"),
        ({}, {}, "hybrid"),
    ],
)
def test_the_thinking_mode_comes_from_the_body_or_a_header_or_the_session(
    client, session_id, headers, body, mode
):
    assert ask(client, session_id, "Why?", headers=headers, **body).json()["mode"] == mode


@pytest.mark.parametrize(
    "body", [{}, {"content": ""}, {"content": "  "}, {"content": "x", "thinking_mode": "magic"}, []]
)
def test_a_question_that_is_none_is_422_and_not_kept(client, session_id, body):
    assert_error(client.post(f"/api/sessions/{session_id}/messages", json=body), 422, "invalid_input")
    assert_error(
        ask(client, session_id, "x", headers={"thinking_mode": "magic"}),
        422,
        "invalid_input",
        "thinking_mode",
    )
    assert client.get(f"/api/sessions/{session_id}/messages").json()["messages"] == []


def test_an_answer_is_streamed_as_named_numbered_events(client, engine, session_id, doc_id):
    engine.scripts += [[Thought("hm"), "The blue ", "button [1].", done()]]
    answer = ask(
        client,
        session_id,
        "How do I add documents?",
        thinking_mode="rag",
        headers={"Accept": "text/event-stream"},
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    names = [name for _, name, _ in events]
    assert names[0] == "retrieved"
    assert names[-1] == "finished"
    assert "thought" in names
    answer_id = events[0][0].partition("-")[0]
    assert [each for each, _, _ in events] == [
        f"{answer_id}-{number}" for number in range(1, len(events) + 1)
    ]
    said = "".join(data["text"] for _, name, data in events if name == "token")
    assert said == "The blue button [1]." == events[-1][2]["message"]["content"]
    assert events[0][2]["sources"][0]["doc_id"] == doc_id
    for known in (events[1][0], "2"):
        again = client.get(
            f"/api/sessions/{session_id}/run", headers={"Accept": "text/event-stream", "Last-Event-ID": known}
        )
        assert events_of(again.text) == events[2:]


def test_an_engine_that_breaks_leaves_an_answer_marked_failed_with_a_reason(client, engine, session_id):
    engine.scripts += [["Half", EngineUnavailable("Ollama is gone.")]]
    answer = ask(client, session_id, "Why?", thinking_mode="cot")
    message = client.get(f"/api/sessions/{session_id}/messages").json()["messages"][-1]
    assert message["state"] == "failed"
    assert "Ollama is gone." in message["notices"]
    assert answer.json() == message


@pytest.fixture
def slow_answer(client, engine, session_id, doc_id):
    """An answer that said a word and waits; the gate lets it go on."""
    gate = Gate()
    engine.scripts += [["Half ", gate, "and half.", done()]]
    answers = []
    question = {"content": "Where is the blue button?", "thinking_mode": "rag"}
    asking = threading.Thread(target=lambda: answers.append(ask(client, session_id, **question)))
    asking.start()
    assert gate.reached.wait(60)
    assert not engine.cancelled.is_set()
    yield answers, asking, gate
    gate.open.set()
    asking.join(60)


def test_a_second_question_waits_for_the_first_with_409(client, session_id, slow_answer):
    answers, asking, gate = slow_answer
    assert client.get(f"/api/sessions/{session_id}").json()["running"]
    assert_error(ask(client, session_id, "And now?"), 409, "conflict")
    gate.open.set()
    asking.join(60)
    assert answers[0].json()["content"] == "Half and half."
    assert not client.get(f"/api/sessions/{session_id}").json()["running"]
    assert ask(client, session_id, "And now?").status_code == 200


def test_stopping_keeps_what_was_said_and_stops_the_model(client, engine, session_id, slow_answer):
    answers, asking, _ = slow_answer
    assert client.delete(f"/api/sessions/{session_id}/run").json() == {"stopped": True}
    asking.join(60)
    assert not asking.is_alive()
    assert engine.cancelled.is_set()
    assert (answers[0].json()["state"], answers[0].json()["content"]) == ("stopped", "Half ")
    assert client.delete(f"/api/sessions/{session_id}/run").json() == {"stopped": False}


def test_deleting_a_conversation_stops_its_answer(client, engine, session_id, slow_answer):
    _, asking, _ = slow_answer
    assert client.delete(f"/api/sessions/{session_id}").status_code == 204
    assert engine.cancelled.is_set()
    asking.join(60)
    assert not asking.is_alive()


def test_a_message_and_an_upload_are_signs_of_the_user(client, companion, session_id):
    for act in (lambda: ask(client, session_id, "Why?"), lambda: upload(client, ("a.md", "# A\n\nText."))):
        before = companion.work.deepening._last_sign
        act()
        assert companion.work.deepening._last_sign != before


# --- documents ----------------------------------------------------------------------------


def test_documents_are_uploaded_listed_and_read_with_their_passages(client):
    answer = upload(client, ("guide.md", GUIDE), ("notes.txt", "Bees dance to tell where flowers are."))
    assert answer.status_code == 201
    results = answer.json()["results"]
    assert [(each["name"], each["ok"], each["error"]) for each in results] == [
        ("guide.md", True, None), ("notes.txt", True, None),
    ]  # fmt: skip
    document = results[0]["document"]
    assert (document["state"], document["source_type"], document["sample"]) == (
        "searchable",
        "markdown",
        False,
    )
    listed = client.get("/api/documents").json()["documents"]
    assert {each["name"] for each in listed} == {"guide.md", "notes.txt"}
    detail = client.get(f"/api/documents/{document['doc_id']}").json()
    assert detail["document"] == document
    assert len(detail["passages"]) == document["passages"] > 0
    assert "owner" not in document
    assert "source_path" not in document


def test_one_bad_file_does_not_stop_the_others(client):
    answer = upload(client, ("good.md", GUIDE), ("bad.exe", b"MZ\x00\x01"), ("large.txt", b"x" * 1_000_001))
    assert answer.status_code == 207
    results = {each["name"]: each for each in answer.json()["results"]}
    assert results["good.md"]["ok"]
    assert not results["bad.exe"]["ok"]
    assert results["bad.exe"]["error"]["message"]
    assert results["large.txt"]["error"]["code"] == "document_too_large"


def test_a_file_beyond_the_limit_does_not_fill_the_disk(client, companion, monkeypatch):
    incoming, sizes = companion.settings.data_dir / "incoming", []

    def add(*_arguments, **_more):
        sizes.append(sum(path.stat().st_size for path in incoming.rglob("*") if path.is_file()))
        raise UnknownFormat("No.")

    monkeypatch.setattr(companion.library, "accept", add)
    upload(client, ("large.txt", b"x" * 5_000_000), ("good.md", GUIDE))
    assert len(sizes) == 1
    assert sizes[0] <= 1_000_000 + len(GUIDE)


def test_an_upload_of_which_nothing_can_be_used_is_422_with_one_sentence(client):
    answer = upload(client, ("bad.exe", b"MZ\x00\x01"), ("empty.txt", b""))
    assert answer.status_code == 422
    assert answer.json()["error"]["message"]
    assert [each["ok"] for each in answer.json()["results"]] == [False, False]


def test_an_upload_that_does_not_wait_is_read_afterwards(client):
    answer = upload(client, ("guide.md", GUIDE), params={"wait": "false"})
    assert answer.status_code == 202
    document = answer.json()["results"][0]["document"]
    assert document["state"] == "reading"
    assert client.get(f"/api/documents/{document['doc_id']}").json()["document"]["state"] == "searchable"


def test_the_same_file_again_is_the_same_document_and_other_content_replaces_or_stays_beside(client, doc_id):
    again = upload(client, ("guide.md", GUIDE)).json()["results"][0]
    assert again["document"]["doc_id"] == doc_id
    assert again["already_there"]
    replaced = upload(client, ("guide.md", NEW_GUIDE)).json()["results"][0]["document"]
    assert replaced["doc_id"] == doc_id
    beside = upload(client, ("guide.md", GUIDE), data={"if_exists": "keep"}).json()["results"][0]["document"]
    assert beside["doc_id"] != doc_id
    assert_error(
        upload(client, ("a.md", GUIDE), data={"if_exists": "maybe"}), 422, "invalid_input", "if_exists"
    )


def test_a_document_is_replaced_deleted_and_brought_back(client, doc_id):
    replaced = client.put(f"/api/documents/{doc_id}", files={"files": ("guide.md", NEW_GUIDE)})
    assert replaced.status_code == 200
    assert "green lever" in client.get(f"/api/documents/{doc_id}").text
    assert client.delete(f"/api/documents/{doc_id}").status_code == 204
    assert client.get("/api/documents").json()["documents"] == []
    assert client.post(f"/api/documents/{doc_id}/undo").json()["doc_id"] == doc_id
    assert len(client.get("/api/documents").json()["documents"]) == 1


def test_unreadable_new_content_leaves_the_document_as_it_was(client, doc_id):
    answer = client.put(f"/api/documents/{doc_id}", files={"files": ("guide.md", b"")})
    assert answer.status_code == 422
    assert answer.json()["error"]["message"]
    after = client.get(f"/api/documents/{doc_id}").json()
    assert "blue button" in after["passages"][0]["text"]


def test_the_sample_library_can_be_read_but_not_changed(client, companion):
    sample = companion.library.add("sample", "sample.md", GUIDE.encode())
    listed = client.get("/api/documents").json()["documents"]
    assert [(each["doc_id"], each["sample"]) for each in listed] == [(sample.doc_id, True)]
    assert_error(client.delete(f"/api/documents/{sample.doc_id}"), 403, "refused")
    answer = client.put(f"/api/documents/{sample.doc_id}", files={"files": ("sample.md", NEW_GUIDE)})
    assert_error(answer, 403, "refused")


@pytest.mark.parametrize(
    "request_of",
    [
        {"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data"}},
        {"content": b"nonsense", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {
            "content": b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.md"\r\n\r\nhalf',
            "headers": {"Content-Type": "multipart/form-data; boundary=x"},
        },
        {"files": {"other": (None, "a field only")}},
        {"files": [("files", (f"{n}.md", GUIDE)) for n in range(21)]},
    ],
)
def test_what_is_not_a_form_with_files_is_422_and_leaves_nothing_behind(client, companion, request_of):
    assert_error(client.post("/api/documents", **request_of), 422, "invalid_input")
    assert client.get("/api/documents").json()["documents"] == []
    incoming = companion.settings.data_dir / "incoming"
    assert not incoming.exists() or not list(incoming.iterdir())


def test_a_body_of_the_wrong_kind_is_415(client, session_id):
    form = client.post("/api/documents", json={"files": []})
    assert_error(form, 415, "unsupported_media_type", "multipart/form-data")
    url = f"/api/sessions/{session_id}/messages"
    for headers in ({"Content-Type": "text/plain"}, {}):
        text = client.post(url, content=b'{"content": "Why?"}', headers=headers)
        assert_error(text, 415, "unsupported_media_type", "application/json")
    assert client.get(url).json()["messages"] == []


def test_odd_file_names_stay_inside_the_data_folder(client, companion):
    names = [
        "../../escape.md",
        "..\\..\\escape2.md",
        "\u202egm.exe.md",
        "con.md",
        "über.md",
        "<img src=x>.md",
    ]
    answer = upload(client, *((name, f"{GUIDE}\n{name}") for name in names))
    assert all(each["ok"] for each in answer.json()["results"]), answer.text
    assert not list(companion.settings.data_dir.parent.glob("*escape*"))
    stored = [each["name"] for each in client.get("/api/documents").json()["documents"]]
    assert not any("/" in name or "\\" in name or "\u202e" in name for name in stored)


def test_a_passage_comes_with_its_neighbours(client):
    text = "\n\n".join(f"# Part {n}\n\n" + f"Sentence {n} about topic {n}. " * 120 for n in range(4))
    document = upload(client, ("long.md", text)).json()["results"][0]["document"]
    passages = client.get(f"/api/documents/{document['doc_id']}").json()["passages"]
    assert len(passages) >= 3
    shown = client.get(f"/api/passages/{passages[1]['chunk_id']}").json()
    assert shown["passage"] == passages[1]
    assert shown["document"]["doc_id"] == document["doc_id"]
    assert (shown["before"], shown["after"]) == ([passages[0]], [passages[2]])
    page = client.get(f"/api/documents/{document['doc_id']}", params={"offset": 1, "limit": 1}).json()
    assert page["passages"] == [passages[1]]


# --- search -------------------------------------------------------------------------------


def test_search_finds_passages_with_scores_and_layers(client, doc_id):
    found = client.get("/api/search", params={"q": "blue button", "top_k": 1}).json()
    assert len(found["hits"]) == 1
    hit = found["hits"][0]
    assert hit["document_name"] == "guide.md"
    assert "blue button" in hit["passage"]["text"]
    assert {"lexical", "light"} <= set(hit["layers"])
    assert found["took_ms"] > 0


@pytest.mark.parametrize(
    "q", ["what's new?", "a-b", "foo:bar", '"', "'", "*", "a", "🐝", "NEAR(", "", " ", "x " * 5000]
)
def test_no_search_text_breaks_anything(client, doc_id, q):
    assert client.get("/api/search", params={"q": q}).status_code == 200


def test_search_says_what_it_needs(client):
    assert_error(client.get("/api/search"), 422, "invalid_input", "q:")
    assert_error(client.get("/api/search", params={"q": "x", "top_k": 0}), 422, "invalid_input", "top_k")


# --- models, embeddings, health -----------------------------------------------------------


def test_models_of_all_engines_are_listed_with_the_default(client):
    found = client.get("/api/models").json()
    assert found["default"] == MODEL.name
    assert found["away"] == {}
    assert {each["name"]: each["capabilities"] for each in found["models"]} == {
        MODEL.name: ["completion"], THINKER.name: ["completion", "thinking"],
    }  # fmt: skip


def test_a_model_is_loaded_and_unloaded_by_hand_also_with_a_slash_in_its_name(client, engine):
    engine.offered += [type(MODEL)("team/model:1b", "ollama", 1, 8192)]
    loaded = client.post("/api/models/team/model:1b/load")
    assert (loaded.status_code, loaded.json()["name"]) == (200, "team/model:1b")
    assert client.post("/api/models/team/model:1b/unload").status_code == 200
    assert [name for name, _ in engine.loads] == ["team/model:1b"] * 2
    assert engine.loads[0][1] >= 4096
    assert_error(client.post("/api/models/vanished:7b/load"), 404, "model_missing", "vanished:7b")


def test_embeddings_status_tells_the_layers_and_why_nothing_is_deepened(client, doc_id):
    status = client.get("/api/embeddings/status").json()
    assert status["is_indexing"] is False
    assert status["gpu_util"] is None
    assert (status["state"], status["why"]) == ("watching", "quiet")
    assert status["reason"].startswith("Waiting: ")
    assert status["runs"] == []
    assert status["current_model"] == MODEL.name
    assert status["current_embedder"] == "bag-of-words"
    light = status["layers"][0]
    assert (light["layer"], light["coverage"], light["ready"]) == ("light", 1.0, True)
    assert light["passages"] == light["embedded"] > 0
    for method, wish in (("POST", "start"), ("DELETE", "stop")):
        answer = client.request(method, "/api/embeddings/index")
        assert (answer.status_code, answer.json()) == (202, {"wish": wish})


def test_health_says_how_the_app_is(client):
    health = client.get("/api/health").json()
    assert health["state"] in ("ready", "warming", "degraded")
    assert health["version"]
    assert bool(health["reasons"]) == (health["state"] != "ready")


# --- errors and the specification ---------------------------------------------------------


def test_unknown_addresses_and_methods_have_the_one_error_shape(client):
    assert_error(client.get("/api/nothing"), 404, "not_found", "/api/docs")
    assert_error(client.get("/api/"), 404, "not_found")
    assert_error(client.delete("/api/sessions"), 405, "method_not_allowed", "DELETE")


def test_head_is_answered_as_get_without_a_body(client, session_id):
    for path in ("/api/health", "/api/documents", f"/api/sessions/{session_id}", "/api/docs", "/v1/models"):
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Type"] == client.get(path).headers["Content-Type"]
    assert client.head("/api/sessions/nobody").status_code == 404
    assert client.head(f"/api/sessions/{session_id}/run").status_code == 404
    assert client.head("/v1/chat/completions").status_code == 405


def test_a_refused_method_is_told_all_that_are_possible(client, session_id):
    for path, methods in (("documents", "GET, HEAD, POST"), (f"config/{session_id}", "GET, HEAD, PUT")):
        refused = client.delete(f"/api/{path}")
        assert refused.status_code == 405
        assert refused.headers["Allow"] == methods


def test_an_engine_that_is_busy_says_when_to_come_back(client, engine, monkeypatch):
    async def busy(_model, _num_ctx):
        raise EngineBusy("Ollama is busy; ask again in a moment.")

    monkeypatch.setattr(engine, "load", busy)
    answer = client.post(f"/api/models/{MODEL.name}/load")
    assert_error(answer, 503, "engine_busy")
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("value", ["5", True, [5], {"a": 5}])
def test_what_is_no_number_is_not_taken_for_one(client, value):
    assert_error(client.put("/api/settings", json={"top_k": value}), 422, "invalid_input", "top_k")


@pytest.mark.parametrize("layer", ["light", "deep"])
def test_a_name_that_is_too_long_for_a_file_is_no_embedder(client, layer):
    name = "0" * 300
    assert_error(client.put("/api/settings", json={f"embed_{layer}": name}), 422, "invalid_input")
    cost = client.get("/api/embeddings/cost", params={"name": name, "layer": layer})
    assert cost.status_code == 200
    assert cost.json()["refusal"]


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"RE\xffm"])
def test_what_is_no_json_is_422(client, session_id, body):
    url = f"/api/sessions/{session_id}/messages"
    headers = {"Content-Type": "application/json"}
    assert_error(client.post(url, content=body, headers=headers), 422, "invalid_input", "JSON")


def test_broken_json_and_endless_bodies_are_refused(client, session_id):
    url = f"/api/sessions/{session_id}/messages"
    headers = {"Content-Type": "application/json"}
    assert_error(client.post(url, content=b"{", headers=headers), 422, "invalid_input", "JSON")
    pieces = (b"x" * 100_000 for _ in range(30))
    assert_error(client.post(url, content=pieces, headers=headers), 413, "too_large")


def test_an_endless_upload_ends(client, companion):
    start = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.md"\r\n\r\n'
    pieces = iter([start, *[b"x" * 1_000_000] * 25])
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert_error(client.post("/api/documents", content=pieces, headers=headers), 413, "document_too_large")
    assert not list((companion.settings.data_dir / "incoming").iterdir())


def test_a_form_of_endless_fields_ends(client):
    field = b'--x\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    content = b"".join(field % number for number in range(1000)) + b"--x--\r\n"
    assert_error(
        client.post("/api/documents", content=content, headers=headers),
        422,
        "invalid_input",
        "too many fields",
    )


def test_a_crash_inside_tells_nothing_of_the_inside(client, companion, monkeypatch):
    def crash(_owner):
        raise RuntimeError(f"secret {companion.settings.data_dir}")

    monkeypatch.setattr(companion.library, "documents", crash)
    answer = client.get("/api/documents")
    assert_error(answer, 500, "internal")
    assert "secret" not in answer.text
    assert str(companion.settings.data_dir) not in answer.text


def test_every_route_is_specified_with_our_error_shape(client):
    specification = client.get("/api/openapi.json").json()
    assert specification["servers"] == [{"url": "/api"}]
    routes = {
        f"{method.upper()} {path}" for path, methods in specification["paths"].items() for method in methods
    }
    assert routes == {
        "GET /sessions", "POST /sessions",
        "GET /sessions/{session_id}", "PATCH /sessions/{session_id}", "DELETE /sessions/{session_id}",
        "GET /sessions/{session_id}/messages", "POST /sessions/{session_id}/messages",
        "PUT /sessions/{session_id}/messages/{message_id}",
        "POST /sessions/{session_id}/messages/{message_id}/retry",
        "GET /sessions/{session_id}/run", "DELETE /sessions/{session_id}/run",
        "GET /sessions/{session_id}/export", "GET /sessions/{session_id}/suggestions", "POST /estimate",
        "GET /config/{session_id}", "PUT /config/{session_id}", "GET /settings", "PUT /settings",
        "GET /models", "POST /models/{name}/load", "POST /models/{name}/unload", "POST /models/{name}/pull",
        "DELETE /models/{name}/pull", "GET /pulls",
        "GET /embeddings/status", "GET /embeddings/cost",
        "POST /embeddings/index", "DELETE /embeddings/index",
        "GET /documents", "POST /documents",
        "GET /documents/{doc_id}", "PUT /documents/{doc_id}", "DELETE /documents/{doc_id}",
        "GET /documents/{doc_id}/original",
        "POST /documents/{doc_id}/undo", "GET /passages/{chunk_id}", "GET /search", "GET /health",
            "GET /health/doctor", "POST /health/try-again",
        "GET /quality", "POST /quality",
    }  # fmt: skip
    for methods in specification["paths"].values():
        for operation in methods.values():
            assert operation["description"]
            assert "ErrorAnswer" in json.dumps(operation["responses"]["default"])
    assert "HTTPValidationError" not in json.dumps(specification)


def test_the_documentation_is_one_page_that_loads_nothing(client):
    page = client.get("/api/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/api/sessions/{session_id}/messages" in page.text
    for loader in ("<script", "http://", "https://", "src="):
        assert loader not in page.text
