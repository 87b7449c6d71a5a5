"""Downloads of models through the whole app, from a server that speaks Ollama's protocol."""

import asyncio
import json
from contextlib import aclosing, contextmanager

import pytest
from starlette.testclient import TestClient

from companion.api.app import create_api
from companion.app import build
from companion.config import Settings
from companion.errors import Conflict, InvalidInput, Refused
from companion.inference import pulls as pulls_module
from companion.inference.ollama import Ollama
from companion.inference.pulls import PullState
from tests.fakes import TINY, FakeEmbedder, ScriptedEngine
from tests.ollama_server import OllamaServer, ServedModel
from tests.test_api import assert_error, events_of
from tests.waiting import until

NAME = "qwen3:4b"
SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def server():
    with OllamaServer() as running:
        running.failing = {"/api/pull"}
        yield running


@contextmanager
def started(folder, server, **settings):
    engines = [Ollama(server.url, silence_timeout_s=60, load_timeout_s=60), ScriptedEngine(models=(TINY,))]
    engines[1].name = "builtin"
    companion = build(Settings(data_dir=folder, **settings), engines=engines, light=FakeEmbedder())
    try:
        yield companion
    finally:
        companion.close()


@pytest.fixture
def companion(tmp_path, server):
    with started(tmp_path, server) as companion:
        yield companion


@pytest.fixture
def client(companion):
    return TestClient(create_api(companion), base_url="http://127.0.0.1:7860")


def ended(pull):
    until(lambda: pull.done)
    return pull.now


async def seen_of(pull):
    async with aclosing(pull.follow()) as statuses:
        return [status async for status in statuses]


def slow(server):
    """A download that lasts until it is cancelled."""
    server.layers, server.pull_steps, server.delay_s = [("sha256:aaa", 1_000_000)], 1000, 0.02


def has_begun(pull):
    until(lambda: pull.now.completed > 0)


# --- how far it is ------------------------------------------------------------------------


async def test_progress_over_several_layers_never_goes_back(companion, server):
    server.layers = [("sha256:big", 20_000), ("sha256:small", 10), ("sha256:late", 8_000)]
    server.pull_steps, server.delay_s = 8, 0.08
    seen = await seen_of(companion.pulls.start(NAME))
    for field in ("completed", "percent"):
        values = [getattr(status, field) for status in seen]
        assert values == sorted(values), field
    totals = [status.total for status in seen if status.total]
    assert totals == sorted(totals)
    assert max(status.percent for status in seen if status.state is PullState.RUNNING) < 100
    last = seen[-1]
    assert (last.state, last.status, last.percent) == (PullState.DONE, "Downloaded", 100)
    assert (last.completed, last.total) == (28_010, 28_010)
    assert len(seen) > 5


async def test_speed_and_time_left_tell_what_comes_not_what_was_there(companion, server):
    server.pulled = {"sha256:there": 900_000}
    server.layers = [("sha256:begun", 50_000), ("sha256:there", 900_000), ("sha256:rest", 50_000)]
    server.pull_steps, server.delay_s = 5, 0.1
    seen = await seen_of(companion.pulls.start(NAME))
    assert seen[-1].completed == 1_000_000
    told = [status for status in seen if status.rate is not None]
    assert told, "after half a second there is something to tell"
    for status in told:
        # 10,000 bytes in a tenth of a second, or later; with what was there it would be a million.
        assert 0 < status.rate < 500_000
        assert status.seconds_left == pytest.approx((status.total - status.completed) / status.rate)
    assert seen[-1].rate is None


async def test_a_follower_is_told_how_it_is_and_no_step_of_the_past(companion, server):
    assert pulls_module.FOLLOW_S >= 0.1, "ten looks a second are all that anybody sees"
    server.layers, server.pull_steps, server.held = [("sha256:aaa", 1_000_000)], 200, True
    pull = companion.pulls.start(NAME)
    async with aclosing(pull.follow()) as statuses:
        await anext(statuses)
        server.held = False
        await asyncio.to_thread(ended, pull)
        later = [status async for status in statuses]
    assert [status.state for status in later] == [PullState.DONE]


def test_what_is_being_done_is_said_in_plain_words(companion, server):
    slow(server)
    server.held = True
    pull = companion.pulls.start(NAME)
    assert pull.now.status == "Looking for the model"
    server.held = False
    has_begun(pull)
    assert pull.now.status == "Downloading"
    server.delay_s = 0
    assert ended(pull).status == "Downloaded"


# --- it outlives those who look on --------------------------------------------------------


async def test_it_goes_on_when_a_reader_leaves_and_another_picks_it_up(companion, server):
    slow(server)
    async with aclosing(companion.pulls.start(NAME).follow()) as statuses:
        await anext(statuses)
    again = companion.pulls.get(NAME)
    assert not again.done
    server.delay_s = 0
    assert (await seen_of(again))[-1].state is PullState.DONE
    assert server.disconnects == []


def test_it_outlives_the_event_loop_of_the_request(companion, server):
    slow(server)

    async def request():
        companion.pulls.start(NAME)

    asyncio.run(request())
    pull = companion.pulls.get(NAME)
    has_begun(pull)
    server.delay_s = 0
    assert ended(pull).state is PullState.DONE


def test_a_second_start_joins_the_first(companion, server):
    slow(server)
    first = companion.pulls.start("mistral")
    assert companion.pulls.start(" mistral:latest ") is first
    other = companion.pulls.start(NAME)
    assert companion.pulls.all() == [other, first]
    until(lambda: len(server.asked("/api/pull")) == 2)
    has_begun(first)
    assert len(server.asked("/api/pull")) == 2


def test_what_was_downloaded_is_listed_at_once_and_may_be_downloaded_again(companion, client):
    assert NAME not in {model["name"] for model in client.get("/models").json()["models"]}
    assert ended(companion.pulls.start(NAME)).state is PullState.DONE
    assert NAME in {model["name"] for model in client.get("/models").json()["models"]}
    again = companion.pulls.start(NAME)
    assert ended(again).state is PullState.DONE
    assert companion.pulls.all() == [again]


# --- cancelling ---------------------------------------------------------------------------


def test_cancelling_closes_the_stream_and_the_next_download_goes_on(companion, server):
    slow(server)
    pull = companion.pulls.start(NAME)
    has_begun(pull)
    assert companion.pulls.cancel(NAME) is pull
    status = ended(pull)
    assert (status.state, status.error) == (PullState.CANCELLED, None)
    assert "goes on" in status.status
    server.wait_for(lambda s: [gone.path for gone in s.disconnects] == ["/api/pull"])
    came = server.pulled["sha256:aaa"]
    assert came > 0
    server.delay_s = 0
    again = companion.pulls.start(NAME)
    assert again is not pull
    assert again.now.completed in (0, *range(came, 1_000_001))
    assert ended(again).completed == 1_000_000


def test_a_download_cancelled_in_the_moment_of_its_start_ends(companion, server):
    slow(server)
    for _ in range(20):
        companion.pulls.start(NAME).cancel()
        assert ended(companion.pulls.get(NAME)).state is PullState.CANCELLED


def test_cancelling_what_does_not_run_changes_nothing(companion):
    assert companion.pulls.cancel(NAME) is None
    pull = companion.pulls.start(NAME)
    ended(pull)
    assert companion.pulls.cancel(NAME) is None
    assert pull.now.state is PullState.DONE


def test_closing_the_app_ends_downloads_and_takes_no_new_ones(tmp_path, server):
    slow(server)
    with started(tmp_path, server) as companion:
        pull = companion.pulls.start(NAME)
        has_begun(pull)
    assert pull.now.state is PullState.CANCELLED
    server.wait_for(lambda s: s.disconnects)
    with pytest.raises(Conflict):
        companion.pulls.start("other:1b")


def test_while_the_app_is_closing_no_download_starts(companion, server):
    companion.pulls.close()
    with pytest.raises(Conflict, match="closing"):
        companion.pulls.start(NAME)
    assert server.requests == []


# --- failing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        ("disk_line", "engine_error", "no room for qwen3:4b"),
        ("offline_line", "engine_error", "internet connection"),
        ("rst", "stream_broken", "cut off"),
        ("no_done", "stream_broken", "goes on where it stopped"),
        ("busy", "engine_busy", "busy"),
    ],
)
def test_a_download_that_breaks_off_says_why_and_can_be_tried_again(companion, server, failure, code, words):
    server.failure, server.break_after = failure, 2
    status = ended(companion.pulls.start(NAME))
    assert (status.state, status.error) == (PullState.FAILED, code)
    assert words in status.status
    server.failure = None
    assert ended(companion.pulls.start(NAME)).state is PullState.DONE


def test_an_unknown_model_and_an_ollama_that_is_gone_are_told_apart(companion, server):
    missing = ended(companion.pulls.start("unknown-model"))
    assert (missing.error, "unknown-model" in missing.status) == ("model_missing", True)
    server.stop()
    gone = ended(companion.pulls.start(NAME))
    assert (gone.error, "ollama serve" in gone.status) == ("engine_unavailable", True)
    server.start()


@pytest.mark.parametrize(
    "name",
    ["", " ", "two words", "ollama pull qwen3:4b", "https://ollama.com/library/qwen3", "a/b/c/d", "../x",
     "a:", ":4b", "a//b", "-x", "a\nb", "x" * 300, "käse", "a:b:c", "$(id)"],
)  # fmt: skip
def test_what_is_no_name_is_refused_before_anything_is_sent(companion, server, name):
    with pytest.raises(InvalidInput, match=r"for example qwen3:4b\."):
        companion.pulls.start(name)
    assert companion.pulls.all() == []
    assert server.requests == []


@pytest.mark.parametrize(
    "name",
    ["llama3.2", "qwen3:4b", "team/model:1b", "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
     "localhost:5000/library/x:latest"],
)  # fmt: skip
def test_names_as_ollama_writes_them_are_sent_as_they_are(companion, server, name):
    assert ended(companion.pulls.start(name)).state is PullState.DONE
    assert server.asked("/api/pull") == [{"model": name, "stream": True}]


def test_nothing_is_downloaded_by_a_program_that_stays_offline(tmp_path, server):
    with started(tmp_path, server, offline=True) as companion:
        assert "offline" in companion.pulls.forbidden
        with pytest.raises(Refused, match="offline"):
            companion.pulls.start(NAME)
        client = TestClient(create_api(companion), base_url="http://127.0.0.1:7860")
        assert_error(client.post(f"/models/{NAME}/pull"), 403, "refused", "offline")
        assert client.get("/pulls").json() == {"pulls": [], "forbidden": companion.pulls.forbidden}
    assert server.asked("/api/pull") == []


def test_a_cloud_model_is_pulled_only_where_cloud_models_are_switched_on(companion, client, server):
    with pytest.raises(Refused, match="switch cloud models on"):
        companion.pulls.start("gpt-oss:120b-cloud")
    assert server.asked("/api/pull") == []
    assert client.put("/settings", json={"show_cloud_models": True}).status_code == 200
    assert ended(companion.pulls.start("gpt-oss:120b-cloud")).state is PullState.DONE


# --- the HTTP interface -------------------------------------------------------------------


def test_a_stream_tells_progress_and_the_end(client, server):
    server.delay_s = 0.15
    events = events_of(client.post(f"/models/{NAME}/pull", headers=SSE).text)
    assert {name for _, name, _ in events[:-1]} == {"progress"}
    _, name, last = events[-1]
    assert (name, last["state"], last["percent"]) == ("finished", "done", 100)
    assert set(last) == {
        "name", "state", "status", "completed", "total", "percent", "rate", "seconds_left", "error",
    }  # fmt: skip
    server.failure = "disk_line"
    server.pulled.clear()
    _, name, data = events_of(client.post("/models/other:1b/pull", headers=SSE).text)[-1]
    assert (name, data["error"]["code"]) == ("error", "engine_error")
    assert "no room" in data["error"]["message"]


def test_plain_json_waits_to_the_end(client, server):
    assert client.post(f"/models/{NAME}/pull").json()["state"] == "done"
    assert_error(client.post("/models/unknown-model/pull"), 404, "model_missing", "unknown-model")
    assert_error(client.post("/models/two words/pull"), 422, "invalid_input", "qwen3:4b")


async def leave_after_the_first_event(companion, path):
    """Speaks ASGI by hand: the test client always reads to the end."""
    left = asyncio.Event()
    sent = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive():
        for message in sent:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message.get("body"):
            left.set()

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"accept", b"text/event-stream")],
    }  # fmt: skip
    async with asyncio.timeout(60):
        await create_api(companion)(scope, receive, send)
    assert left.is_set()


def test_a_client_that_leaves_does_not_end_the_download_and_delete_does(companion, client, server):
    slow(server)
    asyncio.run(leave_after_the_first_event(companion, f"/models/{NAME}/pull"))
    has_begun(companion.pulls.get(NAME))
    [listed] = client.get("/pulls").json()["pulls"]
    assert (listed["name"], listed["state"], listed["total"]) == (NAME, "running", 1_000_000)
    assert server.disconnects == []
    assert client.delete(f"/models/{NAME}/pull").json() == {"stopped": True}
    ended(companion.pulls.get(NAME))
    assert client.get("/pulls").json()["pulls"][0]["state"] == "cancelled"
    assert client.delete(f"/models/{NAME}/pull").json() == {"stopped": False}


def test_the_models_tell_their_memory_and_the_situation(client, server):
    server.models = [ServedModel("llama3.2:latest", size=3_000, vram=2_000, context_length=131_072)]
    server.loaded = {"llama3.2:latest": 8192}
    answer = client.get("/models").json()
    model, tiny = answer["models"]
    assert (model["loaded"], model["memory"], model["vram"]) == (True, 3_000, 2_000)
    assert model["expires_at"].startswith("2026-08-01T10:00:00")
    assert (model["size"], model["context_length"], model["remote"]) == (3_000, 131_072, False)
    assert (tiny["loaded"], tiny["memory"], tiny["vram"], tiny["expires_at"]) == (False, None, None, None)
    assert answer["situation"]["state"] == "ok"
    assert len(answer["recommended"]) == 3
    assert all(each["size"] > 1_000_000_000 and each["about"] for each in answer["recommended"])


def test_without_ollama_the_models_say_how_to_get_it(client, server):
    server.stop()
    situation = client.get("/models").json()["situation"]
    assert (situation["state"], situation["answers"]) == ("no_ollama", TINY.name)
    assert "does not answer" in situation["sentence"]
    assert "ollama.com" in situation["action"]
    server.start()


# --- loading, unloading -------------------------------------------------------------------


def test_a_model_that_writes_an_answer_is_not_unloaded(client, server):
    session_id = client.post("/sessions").json()["session_id"]
    server.loaded, server.first_delay_s = {"llama3.2:latest": 4096}, 60

    async def unload_meanwhile():
        asking = asyncio.create_task(
            asyncio.to_thread(
                client.post,
                f"/sessions/{session_id}/messages",
                json={"content": "Hi", "thinking_mode": "cot"},
            )
        )
        await asyncio.to_thread(server.wait_for, lambda s: s.asked("/api/chat"))
        refused = await asyncio.to_thread(client.post, "/models/llama3.2/unload")
        await asyncio.to_thread(client.delete, f"/sessions/{session_id}/run")
        await asking
        return refused

    assert_error(asyncio.run(unload_meanwhile()), 409, "conflict", "llama3.2:latest is writing an answer")
    assert client.post("/models/llama3.2/unload").json()["loaded"] is False
    assert json.dumps(server.asked("/api/generate")[-1]["keep_alive"]) == "0"
    assert_error(client.post("/models/nothing:7b/unload"), 404, "model_missing")


# --- cloud models -------------------------------------------------------------------------


def test_cloud_models_are_switched_on_while_it_runs_and_the_choice_is_kept(tmp_path, server):
    server.models = [ServedModel("gpt-oss:120b-cloud"), ServedModel("llama3.2:latest")]

    def listed(companion):
        client = TestClient(create_api(companion), base_url="http://127.0.0.1:7860")
        answer = client.get("/models").json()
        assert answer["default"] == "llama3.2:latest"
        return client, {model["name"]: model["remote"] for model in answer["models"]}

    with started(tmp_path, server) as companion:
        client, models = listed(companion)
        assert "gpt-oss:120b-cloud" not in models
        assert client.put("/settings", json={"show_cloud_models": True}).json()["show_cloud_models"] is True
        assert listed(companion)[1]["gpt-oss:120b-cloud"] is True
    with started(tmp_path, server) as companion:
        client, models = listed(companion)
        assert models["gpt-oss:120b-cloud"] is True
        client.put("/settings", json={"show_cloud_models": False})
        assert "gpt-oss:120b-cloud" not in listed(companion)[1]


def test_a_cloud_model_chosen_in_one_conversation_is_not_taken_for_the_next(client, server):
    server.models = [ServedModel("gpt-oss:120b-cloud"), ServedModel("llama3.2:latest")]
    client.put("/settings", json={"show_cloud_models": True})
    chosen = client.post("/sessions").json()["session_id"]
    client.put(f"/config/{chosen}", json={"model_name": "gpt-oss:120b-cloud"})
    assert client.get(f"/config/{chosen}").json()["model_name"] == "gpt-oss:120b-cloud"
    assert client.post("/sessions").json()["config"]["model_name"] == "llama3.2:latest"


@pytest.mark.parametrize("value", ["perhaps", 1.5, [True]])
def test_a_switch_is_on_or_off(client, value):
    assert_error(
        client.put("/settings", json={"show_cloud_models": value}), 422, "invalid_input", "show_cloud"
    )


def test_nothing_is_asked_of_a_cloud_model_to_load_or_unload_it(client, server):
    server.models = [ServedModel("gpt-oss:120b-cloud")]
    client.put("/settings", json={"show_cloud_models": True})
    assert client.post("/models/gpt-oss:120b-cloud/load").status_code == 200
    assert client.post("/models/gpt-oss:120b-cloud/unload").status_code == 200
    assert server.asked("/api/generate") == []
