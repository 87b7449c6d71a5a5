"""The deep embedder in its child: windows per second against raw `encode`, and how soon it is gone."""

import random
import re
import subprocess
import sys
import threading
import time

import numpy as np

from companion.config import SAMPLE_FOLDER, Settings
from companion.inference.deep import ChildEmbedder, Interrupted
from companion.inference.weights import embedder_folder
from tests.bench.measures import alternate, percentile, ratios, summary
from tests.bench.raw import RawEncoder

WINDOWS, WORDS, PAIRS = 24, (60, 280), 5
KILLS = 30
BUSY = "while True: pass"


def made_windows(rng: np.random.Generator) -> list[str]:
    """Texts of real words, of the lengths that passages and their windows have."""
    words = re.findall(r"[A-Za-z]+", " ".join(p.read_text() for p in SAMPLE_FOLDER.glob("*.md")))
    return [" ".join(rng.choice(words, rng.integers(*WORDS))) for _ in range(WINDOWS)]


def throughput(embedder: ChildEmbedder, folder: str) -> list[str]:
    """Both with as many threads as there are cores. The raw one is asked over a pipe as well."""
    rng, windows, rates = np.random.default_rng(3), [""], []
    raw = RawEncoder(folder)
    embedder.start()

    def ours() -> float:
        windows[:] = made_windows(rng)
        started = time.perf_counter()
        embedder.embed_passages(windows)
        took = time.perf_counter() - started
        rates.append(WINDOWS / took)
        return took

    pairs = alternate(ours, lambda: raw.seconds(windows), PAIRS)
    raw.end()
    embedder.kill()
    return [
        f"deepen, {embedder.identity.name} in its child: {summary(rates[1:])} windows/s",
        f"deepen, times as fast as raw encode: {ratios([(b, a) for a, b in pairs])}; bar 1.4",
    ]


def kills(embedder: ChildEmbedder, busy: int) -> str:
    """From `kill` to the process being gone and collected, at random moments of its life."""
    rng = random.Random(7)
    windows = made_windows(np.random.default_rng(5))
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]

    def work() -> None:
        try:
            embedder.start()
            while True:
                embedder.embed_passages(windows)
        except Interrupted:
            return

    took = []
    for _ in range(KILLS):
        working = threading.Thread(target=work)
        working.start()
        time.sleep(rng.uniform(0.1, 4))
        started = time.perf_counter()
        embedder.kill()
        took.append((time.perf_counter() - started) * 1000)
        working.join()
    for other in others:
        other.kill()
        other.wait()
    beside = f"beside {busy} busy processes" if busy else "alone"
    return f"deepen, kill to gone, {beside}: p95 {percentile(took, 0.95):.0f} ms, {summary(took)}; bar 250"


def room(embedder: ChildEmbedder) -> str:
    """What a person's own program keeps of a core while the embedder works on all of them."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    windows = made_windows(np.random.default_rng(5)) * 20
    for _ in range(3):
        for deepening in (False, True):
            working = threading.Thread(target=_until_killed, args=(embedder, windows))
            if deepening:
                embedder.start()
                working.start()
                time.sleep(0.5)
            rates[deepening].append(_count_for_a_second())
            embedder.kill()
            if deepening:
                working.join()
    kept = [beside / alone for alone, beside in zip(*rates.values(), strict=True)]
    return f"deepen, speed that another process keeps: {summary(kept)}"


def _until_killed(embedder: ChildEmbedder, windows: list[str]) -> None:
    try:
        while True:
            embedder.embed_passages(windows)
    except Interrupted:
        return


def _count_for_a_second() -> float:
    script = "import time; end, n = time.monotonic() + 1.5, 0\nwhile time.monotonic() < end: n += 1\nprint(n)"
    return float(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)


def run() -> list[str]:
    settings = Settings()
    name = settings.embed_deep
    folder = embedder_folder(name, settings)
    embedder = ChildEmbedder.open(
        folder, name=name, cache_dir=settings.weights_folder / "onnx", threads=settings.embed_threads
    )
    measured = throughput(embedder, str(folder))
    return [*measured, kills(embedder, 0), kills(embedder, 2), room(embedder)]
