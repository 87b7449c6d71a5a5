"""How soon small things happen: Stop at Ollama's, an end of the app or of a parent, a start's database,
what is said of a silent Ollama, an estimate, a long text cut.
"""

import asyncio
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from companion.app import Companion, build
from companion.config import Settings
from companion.domain import LOCAL_OWNER, Place, Reading, Section, ThinkingMode
from companion.inference.catalog import Catalog
from companion.inference.ollama import Ollama
from companion.library.chunking import cut
from companion.storage.database import Database
from tests.bench.measures import summary
from tests.bench.page import ROOT
from tests.browser import free_port
from tests.fakes import TINY, FakeEmbedder, ScriptedEngine
from tests.ollama_server import OllamaServer
from tests.test_stranger import serve, wait_until_ready
from tests.waiting import until

TIMES = 10
PAUSE_S = 0.001
NEVER_S = 3600.0
LETTERS = 20_000_000
PARENT = """
import sys
from companion.child import Child
child = Child("companion.library.readers.child", ("1500000000", "65", "300000000"))
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def opened(*engines: object) -> Iterator[Companion]:
    companion = build(
        Settings(data_dir=Path(tempfile.mkdtemp()), offline=True), engines=engines, light=FakeEmbedder()
    )
    companion.library.add(LOCAL_OWNER, "a.txt", b"The lamp is lit by the keeper.")
    try:
        yield companion
    finally:
        companion.close()


def stop(silent: str) -> str:
    """From Stop to the server that notices it, while it reads the prompt or in the middle of an answer."""
    times = []
    with OllamaServer() as server, opened(Ollama(server.url)) as companion:
        server.first_delay_s, server.failure = (NEVER_S, None) if silent == "prompt" else (0, "silent")
        for number in range(TIMES):
            session_id = asyncio.run(companion.sessions.create(LOCAL_OWNER)).session_id
            run = companion.runs.start(LOCAL_OWNER, session_id, "Who lights the lamp?", ThinkingMode.RAG)
            until(lambda number=number: len(server.asked("/api/chat")) > number)
            time.sleep(0.3)

            def left(number: int = number) -> None:
                companion.runs.stop(LOCAL_OWNER, session_id)  # noqa: B023 called at once
                until(lambda: len(server.disconnects) > number, pause_s=PAUSE_S)

            times.append(1000 * seconds(left))
            run.wait(60)
    return f"stop, to Ollama noticing it, {silent}: {summary(times, ' ms')}; bar 200"


def orphan() -> float:
    """Milliseconds from the parent's death to its child's."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        return 1000 * seconds(lambda: until(lambda: is_gone(pid), pause_s=PAUSE_S))


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def end() -> float:
    """Seconds from SIGTERM to the end of the program, ready and without anything to do."""
    port = free_port()
    process = serve(Path(tempfile.mkdtemp()), port, ollama=f"127.0.0.1:{free_port()}")
    wait_until_ready(f"http://127.0.0.1:{port}", process)
    process.send_signal(signal.SIGTERM)
    return seconds(process.wait)


def end_in_the_start() -> float:
    """Seconds to close the app while its embedder is being loaded."""
    from companion.inference.late_embedder import LateEmbedder

    proceed = threading.Event()
    late = LateEmbedder(lambda: proceed.wait(NEVER_S) and FakeEmbedder())
    companion = build(
        Settings(data_dir=Path(tempfile.mkdtemp()), offline=True), engines=[ScriptedEngine()], light=late
    )
    companion.start()
    taken = seconds(companion.close)
    proceed.set()
    return taken


def database() -> float:
    """Milliseconds to open one that needs nothing."""
    path = Path(tempfile.mkdtemp()) / "companion.db"
    Database.open(path).close()
    return 1000 * min(seconds(lambda: Database.open(path).close()) for _ in range(5))


def silent_list() -> float:
    """Seconds until the list of models comes beside an Ollama that says nothing."""
    with OllamaServer(slow_s={"/api/tags": NEVER_S}) as server:
        catalog = Catalog([Ollama(server.url), ScriptedEngine(models=(TINY,), name="builtin")])
        return seconds(lambda: asyncio.run(catalog.models()))


def estimate() -> list[float]:
    """Milliseconds for a question after a long conversation."""
    with opened(ScriptedEngine()) as companion:
        session_id = asyncio.run(companion.sessions.create(LOCAL_OWNER)).session_id
        for number in range(100):
            companion.store.sessions.add_message(LOCAL_OWNER, session_id, "user", f"Why {number}? " * 100)
        return [
            1000 * seconds(lambda: companion.chat.estimate(LOCAL_OWNER, session_id, "When? " * 20))
            for _ in range(15)
        ]


def long_text() -> float:
    """Seconds to cut as much as a document may hold."""
    sentence = "The keeper of the lighthouse climbs the stairs every evening and lights the lamp. "
    text = sentence * (LETTERS // len(sentence))
    return seconds(lambda: cut(Reading("text", (Section(text, Place()),))))


def run() -> list[str]:
    return [
        stop("prompt"),
        stop("answer"),
        f"a child after its parent's death: {summary([orphan() for _ in range(TIMES)], ' ms')}; bar 1000",
        f"the end of the program: {summary([end() for _ in range(3)], ' s')}; bar 10",
        f"the end in the middle of a start: {end_in_the_start():.2f} s; bar 10",
        f"opening a database of this version: {database():.1f} ms; bar 50",
        f"the list of models beside a silent Ollama: {silent_list():.2f} s; bar 3.5",
        f"an estimate: {summary(estimate(), ' ms')}; bar 10",
        f"cutting {LETTERS:,} characters: {long_text():.1f} s; bar 20",
    ]
