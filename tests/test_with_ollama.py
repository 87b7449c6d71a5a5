"""The whole way with Ollama: HTTP interface, chat, library, the real client, and a server that
speaks Ollama's protocol. Only the light embedder is a stand-in.
"""

import threading
from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient

from companion.api.app import create_api
from companion.app import build
from companion.config import Settings
from companion.domain import Token
from companion.inference.ollama import Ollama
from tests.fakes import TINY, FakeEmbedder, ScriptedEngine, done
from tests.ollama_server import OllamaServer, ServedModel
from tests.test_api import events_of
from tests.waiting import until

CHAT = "llama3.2:latest"
THINKS = "qwen3:8b"
GUIDE = "# Doors\n\nThe key of the cellar lies under the blue flowerpot.\n\n# Bees\n\nBees sleep at night.\n"
QUESTION = "Where is the key of the cellar?"
SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def server():
    models = [
        ServedModel(CHAT, context_length=131_072),
        ServedModel(THINKS, ("completion", "thinking"), context_length=40_960),
        ServedModel("nomic-embed-text:latest", ("embedding",), context_length=2048),
    ]
    with OllamaServer(models) as running:
        yield running


@contextmanager
def desk(settings, **parts):
    companion = build(settings, light=FakeEmbedder(), **parts)
    try:
        companion.library.add("local", "house.md", GUIDE.encode())
        yield TestClient(create_api(companion), base_url="http://127.0.0.1:7860")
    finally:
        companion.close()


@pytest.fixture
def client(tmp_path, server):
    """The engines that the program itself would take."""
    with desk(Settings(data_dir=tmp_path, ollama_host=server.url, offline=True)) as client:
        yield client


def begin(client, **wishes):
    answer = client.post("/sessions", json=wishes)
    assert answer.status_code == 201, answer.text
    return answer.json()["session_id"]


def ask(client, session_id, content=QUESTION, *, mode="rag"):
    """The events of an answer, as a client that reads the stream sees them."""
    answer = client.post(
        f"/sessions/{session_id}/messages", json={"content": content, "thinking_mode": mode}, headers=SSE
    )
    assert answer.status_code == 200, answer.text
    return events_of(answer.text)


def said(events, kind="token"):
    return "".join(data["text"] for _, name, data in events if name == kind)


def test_the_models_of_ollama_are_listed_with_its_first_as_default(client, server):
    answer = client.get("/models").json()
    assert [model["name"] for model in answer["models"]][:2] == [CHAT, THINKS]
    assert "nomic-embed-text:latest" not in {model["name"] for model in answer["models"]}
    assert answer["default"] == CHAT
    assert answer["models"][0]["engine"] == "ollama"
    assert answer["models"][0]["context_length"] == 131_072
    assert not answer["models"][0]["loaded"]
    config = client.get(f"/sessions/{begin(client)}").json()["config"]
    assert config["model_name"] == CHAT


def test_an_answer_from_a_document_streams_with_its_citation(client, server):
    server.reply = ["The key lies ", "under the blue ", "flowerpot [1]", "."]
    session_id = begin(client)
    events = ask(client, session_id)
    assert events[0][1] == "retrieved"
    assert sum(name == "token" for _, name, _ in events) > 1, "word by word"
    assert said(events) == "The key lies under the blue flowerpot [1]."
    assert not [data for _, name, data in events if name == "notice"]
    message = events[-1][2]["message"]
    assert (message["state"], message["model"], message["mode"]) == ("complete", CHAT, "rag")
    [cited] = [source for source in message["sources"] if source["cited"]]
    assert (cited["number"], cited["document_name"]) == (1, "house.md")
    passage = client.get(f"/passages/{cited['chunk_id']}").json()["passage"]
    assert "blue flowerpot" in passage["text"]
    assert message["usage"]["answer_tokens"] == len(server.reply)
    assert client.get(f"/sessions/{session_id}/messages").json()["messages"][-1] == message


def test_the_model_gets_the_passages_the_question_and_a_window_that_holds_them(client, server):
    session_id = begin(client)
    ask(client, session_id)
    [sent] = server.asked("/api/chat")
    assert sent["model"] == CHAT
    assert sent["stream"] is True
    assert sent["messages"][0]["role"] == "system"
    assert sent["messages"][-1]["role"] == "user"
    whole = "\n".join(message["content"] for message in sent["messages"])
    assert "under the blue flowerpot" in whole
    assert QUESTION in sent["messages"][-1]["content"]
    options = sent["options"]
    assert len(whole) / 4 + options["num_predict"] < options["num_ctx"] <= 16384
    assert sent.get("think") is None, "a model that cannot think would refuse the word"


def test_a_follow_up_knows_what_was_said_and_does_not_reload_the_model(client, server):
    session_id = begin(client)
    server.reply = ["Under the flowerpot [1]."]
    ask(client, session_id)
    ask(client, session_id, "Do bees sleep at night?")
    ask(client, session_id, "Do bees sleep at night?", mode="hybrid")
    ask(client, session_id, "Do bees sleep at night?", mode="cot")
    assert len(server.loads) == 1, server.loads
    last = "\n".join(message["content"] for message in server.asked("/api/chat")[1]["messages"])
    assert QUESTION in last
    assert "Under the flowerpot" in last


def test_a_thinking_model_thinks_where_the_mode_asks_for_it(client, server):
    server.thinking = ["First the cellar, ", "then the key."]
    server.reply = ["Under the flowerpot [1]."]
    session_id = begin(client, model_name=THINKS)
    thinking = ask(client, session_id, mode="hybrid")
    assert server.asked("/api/chat")[-1]["think"] is True
    assert said(thinking, "thought") == "First the cellar, then the key."
    assert said(thinking) == "Under the flowerpot [1]."
    assert thinking[-1][2]["message"]["thinking"] == "First the cellar, then the key."
    plain = ask(client, session_id, mode="rag")
    assert server.asked("/api/chat")[-1]["think"] is False
    assert said(plain, "thought") == ""


@pytest.mark.parametrize("moment", ["while the prompt is read", "in the middle of the answer"])
def test_stop_reaches_a_silent_model(client, server, moment):
    if moment == "while the prompt is read":
        server.first_delay_s = 3600.0
    else:
        server.failure = "silent"
    session_id = begin(client)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ask(client, session_id)))
    asking.start()
    server.wait_for(lambda it: it.loads and it.asked("/api/chat"))
    if server.failure:
        said_so_far(client, session_id)
    assert client.delete(f"/sessions/{session_id}/run").json() == {"stopped": True}
    server.wait_for(lambda it: it.disconnects)
    asking.join(60)
    assert not asking.is_alive()
    kept = client.get(f"/sessions/{session_id}/messages").json()["messages"]
    if server.failure:
        assert (kept[-1]["state"], kept[-1]["content"]) == ("stopped", "Hello")
    server.failure, server.first_delay_s = None, 0.0
    assert ask(client, session_id)[-1][2]["message"]["state"] == "complete"


def said_so_far(client, session_id):
    """Wait until the first word of the answer is on its way to those who follow."""
    companion = client.app.state.companion
    until(lambda: any(isinstance(event, Token) for event in companion.runs.get(session_id).events))


def test_a_connection_that_breaks_keeps_what_was_said_and_says_why(client, server):
    server.failure = "rst"
    session_id = begin(client)
    message = ask(client, session_id)[-1][2]["message"]
    assert (message["state"], message["content"]) == ("failed", "Hello")
    assert message["notices"]
    server.failure = None
    assert ask(client, session_id)[-1][2]["message"]["state"] == "complete"


def test_when_ollama_vanishes_the_built_in_model_answers_and_says_so(tmp_path, server):
    tiny = ScriptedEngine(["Under the flowerpot.", done()], models=(TINY,), name="builtin")
    settings = Settings(data_dir=tmp_path, ollama_host=server.url, offline=True)
    ollama = Ollama(server.url, silence_timeout_s=60, load_timeout_s=60)
    with desk(settings, engines=[ollama, tiny]) as client:
        session_id = begin(client)
        assert ask(client, session_id, mode="cot")[-1][2]["message"]["model"] == CHAT
        server.stop()
        events = ask(client, session_id, mode="cot")
        message = events[-1][2]["message"]
        assert (message["state"], message["model"]) == ("complete", TINY.name)
        assert CHAT in said(events, "notice")
        assert TINY.name in said(events, "notice")
        listed = client.get("/models").json()
        assert [model["name"] for model in listed["models"]] == [TINY.name]
        assert "ollama" in listed["away"]
        server.start()
        again = ask(client, session_id, mode="cot")
        assert again[-1][2]["message"]["model"] == CHAT, "the choice of the session was not lost"
        assert said(again, "notice") == ""


def test_a_model_that_was_pulled_is_there_at_once(tmp_path, server):
    server.reply = ["Under the flowerpot [1]."]
    with desk(Settings(data_dir=tmp_path), engines=[Ollama(server.url)]) as client:
        _, name, pull = events_of(client.post("/models/fresh:1b/pull", headers=SSE).text)[-1]
        assert (name, pull["state"], pull["percent"]) == ("finished", "done", 100)
        assert "fresh:1b" in {model["name"] for model in client.get("/models").json()["models"]}
        assert ask(client, begin(client, model_name="fresh:1b"))[-1][2]["message"]["model"] == "fresh:1b"


def test_the_first_answer_needs_no_second_load_after_loading_by_hand(client, server):
    assert client.post(f"/models/{CHAT}/load").json()["loaded"]
    ask(client, begin(client))
    assert len(server.loads) == 1, server.loads
    assert not client.post(f"/models/{CHAT}/unload").json()["loaded"]


def test_numbers_within_thoughts_in_the_answer_are_no_citations(client, server):
    server.reply = ["<think>\nPerhaps the pot [1]?\n</think>\n\n", "I do not know."]
    events = ask(client, begin(client))
    assert said(events) == "I do not know."
    assert said(events, "thought") == "\nPerhaps the pot [1]?\n"
    assert not any(source["cited"] for source in events[-1][2]["message"]["sources"])


def test_who_asks_in_rag_mode_is_not_told_to_ask_in_rag_mode(client, server):
    server.reply, server.done_reason = ["<think>\nPerhaps the pot?"], "length"
    told = {mode: said(ask(client, begin(client), mode=mode), "notice") for mode in ("rag", "hybrid")}
    assert "whole length for thinking" in told["rag"]
    assert "rag mode" not in told["rag"]
