"""The Ollama engine through the real client, against a server that speaks Ollama's protocol."""

import asyncio
import socket
from contextlib import aclosing
from datetime import datetime

import pytest

from companion.domain import ChatRequest, EngineDone, PromptMessage, Thought, Token, Usage
from companion.errors import (
    EngineBusy,
    EngineError,
    EngineOutOfMemory,
    EngineSilent,
    EngineUnavailable,
    ModelMissing,
    StreamBroken,
)
from companion.inference import ollama as ollama_module
from companion.inference.ollama import Ollama
from tests.ollama_server import LATEST_DATE, OllamaServer, ServedModel, Thinking

MODEL = "llama3.2:latest"
NEVER_S = 3600.0
"""Of an answer that no test lives to see."""


@pytest.fixture
def server():
    with OllamaServer() as running:
        yield running


def engine(server, **timeouts):
    return Ollama(server.url, **timeouts)


def question(model=MODEL, *, think=None, text="What is the sea?"):
    messages = (PromptMessage("system", "Be brief."), PromptMessage("user", text))
    return ChatRequest(model, messages, num_ctx=8192, max_tokens=77, temperature=0.3, think=think)


async def collect(stream):
    return [piece async for piece in stream]


async def collect_until_error(stream):
    """Pieces that came, and the error that ended them."""
    pieces = []
    try:
        async for piece in stream:
            pieces.append(piece)
    except EngineError as error:
        return pieces, error
    raise AssertionError(f"no error after {pieces}")


# --- lists ------------------------------------------------------------------------------


async def test_the_list_tells_size_window_abilities_and_what_is_loaded(server):
    server.models = [ServedModel(MODEL, ("completion", "tools", "thinking"), 131072, size=123)]
    server.loaded = {MODEL: 4096}
    [model] = await engine(server).models()
    assert (model.name, model.engine, model.size, model.context_length) == (MODEL, "ollama", 123, 131072)
    assert model.capabilities == ("completion", "tools", "thinking")
    assert (model.can_chat, model.can_think, model.loaded, model.remote) == (True, True, True, False)
    assert (model.parameter_size, model.quantization) == ("1.2B", "Q4_K_M")


async def test_an_embedding_model_is_no_chat_model(server):
    server.models = [ServedModel("nomic-embed-text:latest", ("embedding",), architecture="nomic-bert")]
    [model] = await engine(server).models()
    assert model.capabilities == ("embedding",)
    assert not model.can_chat


async def test_an_embedding_model_is_known_by_its_family_when_details_cannot_be_had(server):
    server.models = [ServedModel("nomic", ("embedding",), architecture="nomic-bert"), ServedModel("llama")]
    server.failure, server.failing = "refused", {"/api/show"}
    models = await engine(server).models()
    assert [(model.can_chat, model.context_length) for model in models] == [(False, None), (True, None)]


@pytest.mark.parametrize(
    "model", [ServedModel("gpt-oss:120b-cloud"), ServedModel("big:latest", remote_host="https://ollama.com")]
)
async def test_a_cloud_model_is_marked_and_not_asked_about(server, model):
    server.models = [model]
    [listed] = await engine(server).models()
    assert listed.remote
    assert server.asked("/api/show") == []


async def test_details_are_asked_once_per_model_and_again_when_it_changed(server):
    subject = engine(server)
    await subject.models()
    await subject.models()
    assert len(server.asked("/api/show")) == 1
    server.models = [ServedModel(MODEL, context_length=4096, digest="new")]
    [model] = await subject.models()
    assert model.context_length == 4096
    assert len(server.asked("/api/show")) == 2


async def test_slow_details_do_not_hold_up_the_list(server, monkeypatch):
    monkeypatch.setattr(ollama_module, "SHOW_BUDGET_S", 0.1)
    server.slow_s = {"/api/show": NEVER_S}
    [model] = await engine(server).models()
    assert (model.name, model.context_length) == (MODEL, None)


async def test_the_list_comes_although_nobody_tells_what_is_loaded(server):
    server.failure, server.failing = "refused", {"/api/ps"}
    [model] = await engine(server).models()
    assert not model.loaded


async def test_it_tells_its_version(server):
    assert await engine(server).version() == "0.12.3"


# --- streams ----------------------------------------------------------------------------


async def test_an_answer_comes_piece_by_piece_and_ends_with_what_it_cost(server):
    server.load_s = 0.05
    pieces = await collect(engine(server).stream(question()))
    assert pieces[:-1] == [Token("Hello"), Token(" there"), Token(".")]
    cost = Usage(7, 3, load_ms=50, prompt_ms=10, answer_ms=20, cached_tokens=0)
    assert pieces[-1] == EngineDone("stop", cost)


async def test_pieces_are_there_before_the_answer_is_whole(server):
    server.delay_s = NEVER_S
    async with aclosing(engine(server).stream(question())) as stream:
        assert await anext(stream) == Token("Hello")


async def test_ollama_gets_the_whole_request_and_no_word_on_thinking(server):
    await collect(engine(server).stream(question()))
    assert server.asked("/api/chat") == [
        {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What is the sea?"},
            ],
            "stream": True,
            "options": {"num_ctx": 8192, "temperature": 0.3, "num_predict": 77},
        }
    ]


@pytest.mark.parametrize("think", [True, False])
async def test_thinking_is_asked_for_or_forbidden_and_kept_apart(server, think):
    server.models = [ServedModel(MODEL, ("completion", "thinking"))]
    server.thinking = ["Hm", ", water."]
    pieces = await collect(engine(server).stream(question(think=think)))
    assert server.asked("/api/chat")[0]["think"] is think
    thoughts = [piece.text for piece in pieces if isinstance(piece, Thought)]
    assert thoughts == (["Hm", ", water."] if think else [])
    assert "".join(piece.text for piece in pieces if isinstance(piece, Token)) == "Hello there."


@pytest.mark.parametrize(
    ("reply", "thoughts", "answer"),
    [
        (["<think>\nHm", ", a < b.</thi", "nk>\n\nHel", "lo."], "\nHm, a < b.", "Hello."),
        (["\n<th", "ink></think>", "Hello."], "", "Hello."),
        (["<think>Hm</th"], "Hm</th", ""),
        (["The tag <think>", " begins a thought.</think>"], "", "The tag <think> begins a thought.</think>"),
        (["<thin", "g>"], "", "<thing>"),
        (["<thin"], "", "<thin"),
    ],
)
async def test_thoughts_that_are_written_into_the_answer_are_kept_apart(server, reply, thoughts, answer):
    server.reply = reply
    pieces = await collect(engine(server).stream(question()))
    assert "".join(piece.text for piece in pieces if isinstance(piece, Thought)) == thoughts
    assert "".join(piece.text for piece in pieces if isinstance(piece, Token)) == answer


async def test_an_answer_cut_by_its_length_says_so(server):
    server.done_reason = "length"
    assert (await collect(engine(server).stream(question())))[-1].reason == "length"


async def test_a_scripted_reply_sees_the_request(server):
    server.models = [ServedModel(MODEL, ("completion", "thinking"))]
    server.reply = lambda body: [Thinking("…"), body["messages"][-1]["content"].upper()]
    pieces = await collect(engine(server).stream(question(text="hi")))
    assert pieces[:-1] == [Thought("…"), Token("HI")]


@pytest.mark.parametrize(
    ("failure", "error", "words"),
    [
        ("missing", ModelMissing, f"`ollama pull {MODEL}`"),
        ("busy", EngineBusy, "busy"),
        ("memory", EngineOutOfMemory, "smaller model"),
        ("refused", EngineError, "invalid options"),
        ("forbidden", EngineError, "ollama signin"),
    ],
)
async def test_a_refusal_says_what_to_do(server, failure, error, words):
    server.failure = failure
    pieces, caught = await collect_until_error(engine(server).stream(question()))
    assert pieces == []
    assert type(caught) is error
    assert words in caught.message


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        ("fin", StreamBroken),
        ("rst", StreamBroken),
        ("no_done", StreamBroken),
        ("garbage", StreamBroken),
        ("not_an_object", StreamBroken),
        ("half_line", StreamBroken),
        ("error_line", StreamBroken),
        ("memory_line", EngineOutOfMemory),
    ],
)
async def test_a_broken_answer_keeps_its_pieces_and_is_a_failure(server, failure, error):
    server.failure = failure
    pieces, caught = await collect_until_error(engine(server).stream(question()))
    assert pieces[:1] == [Token("Hello")]
    assert not any(isinstance(piece, EngineDone) for piece in pieces)
    assert type(caught) is error


async def test_nobody_there_is_told_at_every_door(server):
    server.stop()
    subject = engine(server)
    try:
        for attempt in (
            subject.models(),
            subject.version(),
            subject.load(MODEL, 4096),
            collect(subject.stream(question())),
        ):
            with pytest.raises(EngineUnavailable, match="start it with `ollama serve`"):
                await attempt
    finally:
        server.start()
    assert await subject.models()


async def test_another_program_at_the_address_is_told_apart(server):
    server.failure, server.failing = "garbage", {"/api/tags", "/api/version"}
    for attempt in (engine(server).models(), engine(server).version()):
        with pytest.raises(EngineUnavailable, match="is not Ollama"):
            await attempt


@pytest.mark.parametrize(
    "url", ["http://[not-an-address]:11434", "http://127.0.0.1:99999", "gopher://127.0.0.1:1"]
)
async def test_an_impossible_address_is_told(url):
    with pytest.raises(EngineUnavailable):
        await Ollama(url).models()


async def test_a_proxy_for_the_web_never_sees_a_local_question(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert (await collect(engine(server).stream(question())))[0] == Token("Hello")


async def test_silence_in_an_answer_ends_it(server):
    server.failure = "silent"
    pieces, caught = await collect_until_error(
        engine(server, silence_timeout_s=0.5, load_timeout_s=NEVER_S).stream(question())
    )
    assert pieces == [Token("Hello")]
    assert type(caught) is EngineSilent


async def test_the_first_piece_may_take_as_long_as_loading(server):
    server.load_s = 2
    pieces = await collect(engine(server, silence_timeout_s=1, load_timeout_s=60).stream(question()))
    assert isinstance(pieces[-1], EngineDone)
    server.loaded, server.load_s = {}, NEVER_S
    pieces, caught = await collect_until_error(
        engine(server, silence_timeout_s=0.1, load_timeout_s=0.3).stream(question())
    )
    assert (pieces, type(caught)) == ([], EngineSilent)


# --- stopping ---------------------------------------------------------------------------


async def was_left(server):
    """Somebody went before the answer was whole."""
    await asyncio.to_thread(
        server.wait_for, lambda it: [gone.path for gone in it.disconnects] == ["/api/chat"]
    )


async def test_stop_while_the_prompt_is_read_reaches_ollama(server):
    server.first_delay_s = NEVER_S
    task = asyncio.create_task(collect(engine(server).stream(question())))
    # The model is loaded, the prompt is being read.
    await asyncio.to_thread(server.wait_for, lambda it: it.loads)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await was_left(server)


async def test_stop_in_the_middle_of_an_answer_reaches_ollama(server):
    server.failure = "silent"
    subject = engine(server)
    arrived = asyncio.Event()

    async def read():
        async for _ in subject.stream(question()):
            arrived.set()

    task = asyncio.create_task(read())
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await was_left(server)


async def test_closing_the_stream_reaches_ollama(server):
    server.reply, server.delay_s = ["a"] * 100_000, 0.01
    stream = engine(server).stream(question())
    await anext(stream)
    await stream.aclose()
    await was_left(server)


async def test_a_whole_answer_is_no_early_leave(server):
    await collect(engine(server).stream(question()))
    assert server.disconnects == []


# --- loading, unloading, pulling --------------------------------------------------------


async def test_loading_asks_with_the_window_that_will_be_used(server):
    subject = engine(server)
    await subject.load(MODEL, 8192)
    await collect(subject.stream(question()))
    assert server.loads == [(MODEL, 8192)]
    assert "prompt" not in server.asked("/api/generate")[0]


async def test_a_loaded_model_tells_its_memory_and_until_when_it_stays(server):
    server.models = [ServedModel(MODEL, size=3_000, vram=2_000), ServedModel("other:1b")]
    server.loaded = {MODEL: 4096}
    here, not_here = await engine(server).models()
    assert (here.memory, here.vram) == (3_000, 2_000)
    assert here.expires_at == datetime.fromisoformat(LATEST_DATE)
    assert (not_here.memory, not_here.vram, not_here.expires_at) == (None, None, None)


async def test_a_missing_model_cannot_be_loaded(server):
    with pytest.raises(ModelMissing, match="ollama pull nothing"):
        await engine(server).load("nothing", 4096)


@pytest.mark.parametrize("name", [MODEL, "llama3.2"])
async def test_unloading_waits_until_the_memory_is_free(server, name):
    server.loaded, server.unload_s = {MODEL: 4096}, 0.4
    await engine(server).unload(name)
    assert server.loaded == {}


async def test_a_model_in_use_by_another_is_not_waited_for_for_ever(server, monkeypatch):
    monkeypatch.setattr(ollama_module, "FREEING_TIMEOUT_S", 0.3)
    server.loaded, server.unload_s = {MODEL: 4096}, NEVER_S
    with pytest.raises(EngineBusy, match="another program"):
        await engine(server).unload(MODEL)


async def test_a_download_tells_how_far_it_is(server):
    steps = await collect(engine(server).pull("qwen3:4b"))
    assert [(step.status, step.completed, step.total) for step in steps] == [
        ("pulling manifest", None, None),
        ("pulling aaa", 0, 1000),
        ("pulling aaa", 500, 1000),
        ("pulling aaa", 1000, 1000),
        ("verifying sha256 digest", None, None),
        ("writing manifest", None, None),
        ("success", None, None),
    ]
    assert [model.name for model in await engine(server).models()] == [MODEL, "qwen3:4b"]


async def test_an_unknown_model_cannot_be_downloaded(server):
    with pytest.raises(ModelMissing, match="unknown-model"):
        await collect(engine(server).pull("unknown-model"))


@pytest.mark.parametrize("failure", ["fin", "rst", "no_done", "garbage", "half_line"])
async def test_a_download_cut_off_is_a_failure(server, failure):
    server.failure, server.failing = failure, {"/api/pull"}
    with pytest.raises(StreamBroken, match="The download of qwen3:4b was cut off"):
        await collect(engine(server).pull("qwen3:4b"))


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("disk_line", "no room for qwen3:4b"),
        ("offline_line", "internet connection"),
        ("error_line", "Ollama broke off: an error was"),
    ],
)
async def test_a_download_that_breaks_off_says_why(server, failure, words):
    server.failure, server.failing = failure, {"/api/pull"}
    with pytest.raises(EngineError, match=words):
        await collect(engine(server).pull("qwen3:4b"))


async def test_a_download_that_says_nothing_more_is_given_up(server):
    server.failure, server.failing = "silent", {"/api/pull"}
    subject = Ollama(server.url, silence_timeout_s=1, load_timeout_s=0.2)
    with pytest.raises(EngineSilent, match="start the download again"):
        await collect(subject.pull("qwen3:4b"))


# --- event loops ------------------------------------------------------------------------


def test_one_engine_serves_several_event_loops_one_after_the_other(server):
    subject = engine(server)
    for _ in range(3):
        assert asyncio.run(collect(subject.stream(question())))[0] == Token("Hello")


async def test_one_engine_serves_several_event_loops_at_once(server):
    server.delay_s = 0.05
    subject = engine(server)

    def elsewhere():
        return asyncio.run(collect(subject.stream(question())))

    here, there = await asyncio.gather(collect(subject.stream(question())), asyncio.to_thread(elsewhere))
    assert here[:-1] == there[:-1]
    await subject.close()


async def test_closing_twice_is_harmless_and_it_still_answers(server):
    subject = engine(server)
    await subject.models()
    await subject.close()
    await subject.close()
    assert await subject.models()


async def test_an_answer_costs_one_request_and_no_other(server):
    """As with the bare client; how soon the first word comes is measured by the benchmarks."""
    subject = engine(server)
    for _ in range(3):
        await collect(subject.stream(question()))
    assert [(asked.method, asked.path) for asked in server.requests] == [("POST", "/api/chat")] * 3


def test_a_port_without_listener_is_free_again_after_the_server_stopped(server):
    port = int(server.url.rsplit(":", 1)[1])
    server.stop()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    server.start()
