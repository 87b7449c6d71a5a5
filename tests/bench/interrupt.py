"""How soon the machine is the person's again: both doors, the real deep embedder at work behind them."""

import asyncio
import random
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil

from companion.app import Companion, build
from companion.config import Settings
from companion.domain import LOCAL_OWNER
from companion.inference.ollama import Ollama
from tests.bench.ingest import made_document
from tests.bench.measures import percentile, summary
from tests.browser import chromium, expect, free_port, serving
from tests.fakes import FakeEmbedder
from tests.ollama_server import OllamaServer
from tests.waiting import until

MOMENTS, DOCUMENTS = 50, 12
LONGEST_S = 1.5
BETWEEN_KEYS_S = 2.2
"""A page tells of a keystroke once in two seconds."""
TICK_S = 0.01
STEADY_S = 30.0
PATIENCE_S = 120.0


class Ticker:
    """A small asyncio program in the same process, and how late it is called."""

    def __init__(self, counts: Callable[[], bool]) -> None:
        self.gaps: list[float] = []
        self._counts = counts
        self._stopped = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._tick()))

    def __enter__(self) -> "Ticker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._thread.join()

    async def _tick(self) -> None:
        while not self._stopped:
            before = time.perf_counter()
            await asyncio.sleep(TICK_S)
            if self._counts():
                self.gaps.append((time.perf_counter() - before) * 1000)


class Stopwatch:
    """What calls of some functions took together, in seconds."""

    def __init__(self) -> None:
        self.spent = 0.0

    def around(self, work):
        def timed(*arguments, **options):
            begun = time.perf_counter()
            try:
                return work(*arguments, **options)
            finally:
                self.spent += time.perf_counter() - begun

        return timed


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Moment:
    """One sign of the user while the child works: until it is gone, and until the model is called."""

    def __init__(self, companion: Companion, ollama: OllamaServer) -> None:
        self._companion = companion
        self._ollama = ollama
        self._rng = random.Random(11)
        self.gone: list[float] = []
        self.called: list[float] = []

    def measure(self, sign: Callable[[], object]) -> None:
        pid = self._at_work()
        time.sleep(self._rng.uniform(0.05, LONGEST_S))
        loads = len(self._loads())
        begun = time.monotonic()
        sign()
        until(lambda: is_gone(pid), PATIENCE_S)
        self.gone.append((time.monotonic() - begun) * 1000)
        first = until(lambda: self._loads()[loads:], PATIENCE_S)[0]
        self.called.append((first.at - begun) * 1000)

    def _at_work(self) -> int:
        # What the sign before asked for has to be over, or the machine is still the person's.
        until(lambda: not self._companion.runs.active(), PATIENCE_S)

        def working() -> int | None:
            if not self._companion.work.deepening.status().is_indexing:
                self._companion.work.deepening.press("start")
                time.sleep(0.2)
            deepening = self._companion.work.deepening
            return deepening._choice.embedder.pid if deepening._run.run_id is not None else None

        return until(working, PATIENCE_S)

    def _loads(self):
        return [asked for asked in self._ollama.requests if asked.path in ("/api/generate", "/api/chat")]


@contextmanager
def opened(ollama: OllamaServer):
    settings = Settings(
        data_dir=Path(tempfile.mkdtemp()), port=free_port(), offline=True, ollama_host=ollama.url
    )
    engine = Ollama(ollama.url, silence_timeout_s=10, load_timeout_s=10)
    companion = build(settings, engines=[engine], light=FakeEmbedder())
    rng = np.random.default_rng(9)
    with serving(companion, settings) as url:
        until(lambda: companion.health().state == "ready", PATIENCE_S)
        for number in range(DOCUMENTS):
            companion.library.add(LOCAL_OWNER, f"{number}.md", made_document(rng))
        yield companion, url


def run() -> list[str]:
    with (
        OllamaServer() as ollama,
        opened(ollama) as (companion, url),
        chromium() as browser,
        Ticker(lambda: companion.work.deepening.status().is_indexing) as ticker,
    ):
        steady = undisturbed(companion)
        page = browser.new_page()
        page.goto(url)
        expect(page.locator(".lc-sessions")).to_be_attached()
        page.locator("#lc-box textarea").focus()
        keys, messages = Moment(companion, ollama), Moment(companion, ollama)
        with httpx.Client(base_url=f"{url}/api", timeout=PATIENCE_S) as client:
            chat = client.post("/sessions", json={}).json()["session_id"]
            question = {"content": "Who keeps the light?", "thinking_mode": "cot"}

            def send() -> None:
                client.post(f"/sessions/{chat}/messages", json=question)

            for _ in range(MOMENTS):
                last = time.monotonic()
                messages.measure(lambda: threading.Thread(target=send).start())
                time.sleep(max(0.0, last + BETWEEN_KEYS_S - time.monotonic()))
                keys.measure(lambda: page.keyboard.press("a"))
        gaps = sorted(ticker.gaps)
        return [
            told("a keystroke in Chromium", keys),
            told("a REST message", messages),
            f"10 ms ticker while deepening, {len(gaps)} gaps: p99 {percentile(gaps, 0.99):.0f} ms, "
            f"largest {gaps[-1]:.0f} ms; bar p99 100",
            steady,
        ]


def undisturbed(companion: Companion) -> str:
    """How much of the time goes into keeping what was embedded."""
    storing, working = Stopwatch(), Stopwatch()
    layers = companion.library.layers
    companion.store.embeddings.save = storing.around(companion.store.embeddings.save)
    layers._index.upsert = storing.around(layers._index.upsert)
    layers.fill = working.around(layers.fill)
    companion.work.deepening.press("start")
    until(lambda: working.spent > STEADY_S, PATIENCE_S)
    share = 100 * storing.spent / working.spent
    return f"deepening, vectors stored: {share:.1f} % of {working.spent:.0f} s; bar 5"


def told(door: str, moments: Moment) -> str:
    return (
        f"interrupt by {door}, sign to child gone: p95 {percentile(moments.gone, 0.95):.0f} ms, "
        f"{summary(moments.gone)}; bar 250; to the chat model called: {summary(moments.called)} ms"
    )
