"""The built-in engine with the real model: answers, stops, errors, its listener, its memory."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from companion.domain import ChatRequest, EngineDone, PromptMessage, Token
from companion.errors import EngineError, EngineUnavailable, ModelMissing, WeightsMissing
from companion.inference.builtin import Builtin
from tests.waiting import until

NAME = "smollm2-135m-instruct"
REPOSITORY = Path(__file__).resolve().parent.parent
LONG = "".join(f"The quick brown fox number {i} jumps over the lazy dog. " for i in range(30))


class Watched(Builtin):
    """Keeps what llama.cpp says: how far it has read, and what it read anew."""

    def __init__(self, find_model):
        super().__init__(find_model)
        self.chunks = []

    def _ask(self, body, receive):
        def receive_and_keep(chunk):
            self.chunks.append(chunk)
            return receive(chunk)

        super()._ask(body, receive_and_keep)


@pytest.fixture(scope="module")
def shared(builtin_gguf):
    """One engine for the tests that do not unload it."""
    engine = Watched(lambda: builtin_gguf)
    yield engine
    asyncio.run(engine.close())


def question(text="Say hello.", *, model=NAME, max_tokens=12):
    return ChatRequest(model, (PromptMessage("user", text),), num_ctx=4096, max_tokens=max_tokens)


async def collect(stream):
    return [piece async for piece in stream]


def listening_ports():
    """Of this process, on TCP."""
    return {c.laddr.port for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_LISTEN}


def quick_brown(number):
    return f"Number {number}. {LONG}"


async def test_the_list_tells_the_model_without_loading_it(builtin_gguf):
    [model] = await Builtin(lambda: builtin_gguf).models()
    assert (model.name, model.engine, model.size) == (NAME, "builtin", builtin_gguf.stat().st_size)
    assert (model.parameter_size, model.quantization) == ("135M", "Q4_1")
    assert (model.context_length, model.loaded) == (4096, False)
    assert (model.can_chat, model.can_think) == (True, False)


async def test_the_window_is_never_larger_than_the_models_own(builtin_gguf):
    [model] = await Builtin(lambda: builtin_gguf, n_ctx=100_000).models()
    assert model.context_length == 8192


async def test_an_answer_streams_and_tells_what_it_cost(shared):
    pieces = await collect(shared.stream(question("Name a colour.")))
    assert len(pieces) > 3
    assert all(isinstance(piece, Token) for piece in pieces[:-1])
    done = pieces[-1]
    assert isinstance(done, EngineDone)
    assert done.usage.answer_tokens in (len(pieces) - 1, len(pieces))
    assert 30 < done.usage.prompt_tokens < 60
    assert done.usage.prompt_ms > 0
    assert done.usage.answer_ms > 0
    [model] = await shared.models()
    assert model.loaded


async def test_an_answer_cut_by_its_length_says_so(shared):
    pieces = await collect(shared.stream(question("Count to one hundred.", max_tokens=3)))
    assert pieces[-1].reason == "length"
    assert pieces[-1].usage.answer_tokens == 3


async def test_the_prompt_that_two_questions_share_is_read_once(shared):
    await collect(shared.stream(question(quick_brown(1) + "One?", max_tokens=1)))
    await collect(shared.stream(question("Something else.", max_tokens=1)))
    again = (await collect(shared.stream(question(quick_brown(1) + "Two?", max_tokens=1))))[-1].usage
    read_again = shared.chunks[-1]["timings"]["prompt_n"]
    fresh = (await collect(shared.stream(question(quick_brown(2) + "Two?", max_tokens=1))))[-1].usage
    read_anew = shared.chunks[-1]["timings"]["prompt_n"]
    assert again.prompt_tokens == fresh.prompt_tokens > 300
    assert read_again < 32
    assert read_anew > 300


async def test_too_long_a_prompt_says_so_and_the_next_question_is_answered(shared):
    with pytest.raises(EngineError, match=r"reads 4096 tokens and was given \d{4,}; shorten"):
        await collect(shared.stream(question(LONG * 12)))
    assert isinstance((await collect(shared.stream(question(max_tokens=2))))[-1], EngineDone)


async def test_another_models_name_is_refused(shared):
    with pytest.raises(ModelMissing, match="llama3"):
        await collect(shared.stream(question(model="llama3")))
    with pytest.raises(ModelMissing, match="llama3"):
        await shared.load("llama3", 4096)


# --- stopping ---------------------------------------------------------------------------


async def has_let_go(engine):
    """llama.cpp works for nobody any more."""
    await asyncio.to_thread(until, lambda: not engine._busy.locked())


async def test_stop_while_the_prompt_is_read_is_heard_before_it_is_read(shared):
    shared.chunks.clear()
    task = asyncio.create_task(collect(shared.stream(question(quick_brown(3) * 5))))
    await asyncio.to_thread(until, lambda: shared.chunks)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await has_let_go(shared)
    progress = shared.chunks[-1]["prompt_progress"]
    assert progress["processed"] < progress["total"]
    pieces = await collect(shared.stream(question(max_tokens=2)))
    assert isinstance(pieces[-1], EngineDone)


async def test_stop_in_the_middle_of_an_answer_is_heard_before_it_is_whole(shared):
    shared.chunks.clear()
    async with aclosing(shared.stream(question("Tell a long story.", max_tokens=1000))) as stream:
        await anext(stream)
        await anext(stream)
    await has_let_go(shared)
    assert not any(choice.get("finish_reason") for choice in shared.chunks[-1]["choices"])


async def test_a_second_question_waits_for_the_first_and_may_leave_while_it_waits(shared):
    first = shared.stream(question("Tell a long story.", max_tokens=1000))
    await anext(first)
    waiting = asyncio.create_task(collect(shared.stream(question("Hi", max_tokens=2))))
    leaving = asyncio.create_task(collect(shared.stream(question("Hi", max_tokens=2))))
    # The first goes on undisturbed while both wait.
    for _ in range(5):
        await anext(first)
    assert not waiting.done()
    assert not leaving.done()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    # Whoever left did not wait for the first, which still goes on.
    assert isinstance(await anext(first), Token)
    await first.aclose()
    assert isinstance((await waiting)[-1], EngineDone)


async def test_questions_from_several_event_loops_are_answered_one_after_the_other(shared):
    def elsewhere():
        return asyncio.run(collect(shared.stream(question("Hi", max_tokens=4))))

    answers = await asyncio.gather(
        *(asyncio.to_thread(elsewhere) for _ in range(3)),
        collect(shared.stream(question("Hi", max_tokens=4))),
    )
    assert all(isinstance(pieces[-1], EngineDone) for pieces in answers)


async def test_other_threads_go_on_while_it_answers(shared):
    await shared.load(NAME, 4096)
    ticks, ending = [], threading.Event()

    def tick():
        while not ending.wait(0.002):
            ticks.append(len(shared.chunks))

    shared.chunks.clear()
    ticking = asyncio.create_task(asyncio.to_thread(tick))
    await collect(shared.stream(question(quick_brown(4), max_tokens=20)))
    ending.set()
    await ticking
    # Between most of llama.cpp's words, whether it reads or writes, somebody else had a turn.
    assert len(shared.chunks) > 15
    assert len(set(ticks)) > len(shared.chunks) / 3


# --- loading and unloading --------------------------------------------------------------


async def test_unloading_gives_the_memory_back_and_loading_brings_it_again(builtin_gguf):
    engine = Builtin(lambda: builtin_gguf)
    process = psutil.Process()
    await engine.load(NAME, 4096)
    loaded = process.memory_info().rss
    await engine.unload(NAME)
    assert loaded - process.memory_info().rss > 80e6
    assert not (await engine.models())[0].loaded
    pieces = await collect(engine.stream(question(max_tokens=2)))
    assert pieces[-1].usage.load_ms > 0
    await engine.close()


async def test_a_loaded_model_tells_about_the_memory_it_takes(builtin_gguf):
    engine = Builtin(lambda: builtin_gguf)
    [before] = await engine.models()
    assert (before.memory, before.vram) == (None, None)
    await engine.load(NAME, 4096)
    [model] = await engine.models()
    # 30 layers, 4096 tokens, a key and a value of 3 heads times 64 numbers, two bytes each.
    assert model.memory == builtin_gguf.stat().st_size + 30 * 4096 * 2 * 3 * 64 * 2
    assert model.vram in (0, None)
    assert model.expires_at is None
    await engine.close()
    [after] = await engine.models()
    assert (after.memory, after.vram) == (None, None)


async def test_loading_and_dropping_at_once_never_hangs(builtin_gguf):
    engine = Builtin(lambda: builtin_gguf)
    for _ in range(3):
        await engine.load(NAME, 4096)
        await asyncio.wait_for(engine.unload(NAME), 60)


async def test_closing_stops_the_answer_in_the_making(builtin_gguf):
    engine = Builtin(lambda: builtin_gguf)
    stream = engine.stream(question("Tell a long story.", max_tokens=2000))
    await anext(stream)
    await engine.close()
    with pytest.raises(EngineError):
        await collect(stream)


async def test_a_file_that_is_no_model_says_so(tmp_path):
    broken = tmp_path / "broken.Q4_0.gguf"
    broken.write_bytes(b"GGUF" + b"\xff" * 40)
    engine = Builtin(lambda: broken)
    with pytest.raises(EngineUnavailable, match=r"broken\.Q4_0\.gguf is not a model file"):
        await engine.models()
    with pytest.raises(EngineUnavailable, match="is not a model file"):
        await engine.load("broken", 4096)


async def test_half_a_model_file_says_so(tmp_path, builtin_gguf):
    half = tmp_path / "half.gguf"
    with builtin_gguf.open("rb") as whole:
        half.write_bytes(whole.read(50_000_000))
    with pytest.raises(EngineError, match=r"half\.gguf cannot be loaded"):
        await Builtin(lambda: half).load("half", 4096)


async def test_missing_weights_say_why(tmp_path):
    def missing():
        raise WeightsMissing("The weights are not here; run `make weights`.")

    with pytest.raises(EngineUnavailable, match="run `make weights`"):
        await Builtin(missing).models()
    with pytest.raises(EngineUnavailable, match=r"gone\.gguf is not there"):
        await Builtin(lambda: tmp_path / "gone.gguf").models()


async def test_nobody_waits_for_weights_that_are_being_fetched(builtin_gguf):
    fetching, fetched = threading.Event(), threading.Event()

    def fetch():
        fetching.set()
        fetched.wait(60)
        return builtin_gguf

    engine = Builtin(fetch)
    first = asyncio.create_task(engine.models())
    await asyncio.to_thread(fetching.wait, 60)
    with pytest.raises(EngineUnavailable, match="still being fetched"):
        await engine.models()
    fetched.set()
    assert [model.name for model in await first] == [NAME]


# --- what it must not do ----------------------------------------------------------------


async def test_its_listener_answers_nobody_without_the_key_and_no_website(builtin_gguf):
    before = listening_ports()
    engine = Builtin(lambda: builtin_gguf)
    await engine.load(NAME, 4096)
    [port] = listening_ports() - before
    body = json.dumps({"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}).encode()
    for path, data in [
        ("/v1/chat/completions", body),
        ("/completion", body),
        ("/slots", None),
        ("/models", None),
    ]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}",
            data,
            {"Content-Type": "application/json", "Origin": "https://evil.example"},
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            await asyncio.to_thread(urllib.request.urlopen, request, timeout=60)
        assert caught.value.code == 401
        assert caught.value.headers["Access-Control-Allow-Origin"] not in ("*", "https://evil.example")
        caught.value.close()
    await engine.close()
    assert listening_ports() == before


PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
from companion.inference.builtin import Builtin
assert "xllamacpp" not in sys.modules
engine = Builtin(lambda: Path(sys.argv[1]))
[model] = asyncio.run(engine.models())
assert "xllamacpp" not in sys.modules
handled = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _frame: handled.append(number))
asyncio.run(engine.load(model.name, 4096))
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGINT)
print([int(number) for number in handled])
asyncio.run(engine.close())
"""


def test_it_is_imported_late_is_silent_and_leaves_the_programs_signals_alone(builtin_gguf):
    """llama.cpp's server has handlers of its own, which would take SIGTERM from the app."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(builtin_gguf)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[15, 2]\n", "")
