"""The first token against the raw engine with the same prompt, and how soon Stop arrives."""

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from companion.app import build
from companion.config import Settings
from companion.domain import LOCAL_OWNER, ChatRequest, PromptMessage, ThinkingMode, Token
from companion.inference.builtin import Builtin
from companion.inference.ollama import Ollama
from companion.inference.weights import builtin_gguf
from tests.bench.measures import percentile, ratios, summary
from tests.fakes import FakeEmbedder
from tests.ollama_server import OllamaServer

PAIRS = 20


class Recording:
    """Passes an engine through and keeps the last request."""

    def __init__(self, engine):
        self._engine = engine
        self.request: ChatRequest | None = None

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def stream(self, request):
        self.request = request
        return self._engine.stream(request)


async def first_token(engine, request: ChatRequest) -> float:
    started = time.perf_counter()
    stream = engine.stream(request)
    async for piece in stream:
        if isinstance(piece, Token):
            break
    took = time.perf_counter() - started
    await stream.aclose()
    return took


def through_the_app(companion, session_id: str, number: int) -> float:
    """Seconds from the question to the first token, search aside."""
    run = companion.runs.start(LOCAL_OWNER, session_id, f"What is answer {number}?", ThinkingMode.RAG)
    assert run.wait(120)
    usage = run.events[-1].message.usage
    return (usage.first_token_ms - (usage.search_ms or 0)) / 1000


def pairs_with(engine, folder: Path) -> list[tuple[float, float]]:
    recording = Recording(engine)
    companion = build(Settings(data_dir=folder, answer_tokens=64), engines=[recording], light=FakeEmbedder())
    companion.library.add(LOCAL_OWNER, "a.txt", b"The answer number is forty-two, and answers are numbered.")
    found = []
    for number in range(PAIRS + 1):
        session = asyncio.run(companion.sessions.create(LOCAL_OWNER))
        ours = through_the_app(companion, session.session_id, number)
        # The same prompt was just read: move the number, so that the cache helps neither.
        request = recording.request
        raw = asyncio.run(first_token(engine, changed(request, number)))
        found.append((ours, raw))
    companion.close()
    return found[1:]


def changed(request: ChatRequest, number: int) -> ChatRequest:
    last = request.messages[-1]
    new = replace(last, content=last.content.replace(f"answer {number}?", f"answer {number + 500}?"))
    return replace(request, messages=(*request.messages[:-1], new))


def stop_times(engine, model: str, count: int, after_s: float) -> list[float]:
    async def once() -> float:
        request = ChatRequest(model, (PromptMessage("user", "Tell a long story. " * 60),), 4096, 256)

        async def consume() -> None:
            async for _piece in engine.stream(request):
                pass

        task = asyncio.ensure_future(consume())
        await asyncio.sleep(after_s)
        started = time.perf_counter()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # Free again only when llama.cpp has let go.
        await asyncio.to_thread(engine._busy.acquire)
        took = time.perf_counter() - started
        engine._busy.release()
        return took

    return [asyncio.run(once()) for _ in range(count)]


def run() -> list[str]:
    lines = []
    with OllamaServer() as server:
        server.first_delay_s = 0.3
        ollama = Ollama(server.url, silence_timeout_s=30, load_timeout_s=30)
        pairs = pairs_with(ollama, Path(tempfile.mkdtemp()))
        lines.append(f"first token, app / raw engine, a scripted Ollama: {ratios(pairs)}; bar 1.05")
    builtin = Builtin(lambda: builtin_gguf(Settings()))
    pairs = pairs_with(builtin, Path(tempfile.mkdtemp()))
    lines.append(f"first token, app / raw engine, built in: {ratios(pairs)}; bar 1.05")
    for name, after in (("while it reads the prompt", 0.3), ("while it answers", 4.0)):
        times = stop_times(builtin, "smollm2-135m-instruct", 10, after)
        lines.append(
            f"stop of the built-in engine {name}: {summary(times, ' s')}, "
            f"p95 {percentile(times, 0.95):.2f} s; bar 1 s"
        )
    return lines
