"""Search time and memory with 10,000 passages; `large` has the same with 100,000."""

import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import psutil

from companion.config import Settings
from companion.domain import LOCAL_OWNER, Document, DocumentState, Passage, Place
from companion.embedding import load_embedder
from companion.library.library import Library
from companion.library.vectors import VectorIndex
from companion.storage.store import Store
from tests.bench.measures import percentile, summary
from tests.bench.page import ROOT, free_port

PASSAGES, LARGE = 10_000, 100_000
PER_DOCUMENT = 100
WINDOWS = 2
QUESTIONS = 200
NOUNS = "river lamp horse treaty engine garden violin market winter bridge letter island copper storm".split()


def made_text(number: int, rng: np.random.Generator) -> str:
    """About 500 tokens over a vocabulary with a long tail, as real texts have."""
    words = [f"word{int(rank)}" for rank in rng.zipf(1.3, 260) if rank < 50_000]
    return f"Passage {number} of {NOUNS[number % len(NOUNS)]} {number}: " + " ".join(words)


def fill(store: Store, identity, rng: np.random.Generator, passages_wanted: int) -> list[str]:
    """Passages with made vectors, clustered as real ones are: only speed and memory are measured."""
    store.embeddings.register(identity)
    now = datetime.now(UTC)
    centres = rng.normal(size=(200, identity.dimension))
    texts = []
    for start in range(0, passages_wanted, PER_DOCUMENT):
        doc_id = f"bench{start}"
        document = Document(
            doc_id, LOCAL_OWNER, f"{start}.txt", "text", None, doc_id, 1, DocumentState.READING, now, now
        )
        store.documents.add(document)
        passages = []
        for index in range(PER_DOCUMENT):
            text = made_text(start + index, rng)
            texts.append(text)
            key = f"{doc_id}:{index}"
            passages.append(Passage(key, doc_id, index, text, key, Place(), 500))
        store.passages.write(document, "text", (), passages)
        store.documents.set_state(doc_id, DocumentState.SEARCHABLE)
        rows = centres[rng.integers(0, 200, PER_DOCUMENT * WINDOWS)] + rng.normal(
            size=(PER_DOCUMENT * WINDOWS, identity.dimension)
        )
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        store.embeddings.save(
            identity.embedder_id,
            [(p.chunk_id, w, rows[i * WINDOWS + w]) for i, p in enumerate(passages) for w in range(WINDOWS)],
        )
    return texts


def run() -> list[str]:
    folder = Path(tempfile.mkdtemp())
    lines = searches(folder, PASSAGES, bar_ms=25)
    return [*lines, resident(folder, PASSAGES)]


def searches(folder: Path, passages: int, bar_ms: int) -> list[str]:
    rng = np.random.default_rng(7)
    light = load_embedder("all-MiniLM-L6-v2", Settings())
    store = Store.open(folder / "companion.db")
    texts = fill(store, light.identity, rng, passages)
    library = Library(
        store, light, VectorIndex(folder / "index"), originals=folder / "originals", max_bytes=10**6
    )
    library.warm()
    started = time.perf_counter()
    library.open_index()
    built = time.perf_counter() - started
    words = [texts[number].split() for number in rng.integers(0, passages, QUESTIONS)]
    questions = [f"What about {each[3]} {each[4]} and {each[20]} in {each[50]}?" for each in words]
    times = [library.search(LOCAL_OWNER, question).took_ms for question in questions]
    # As where several people come in: how rare a word is, is counted within the owner's passages.
    store.words.private = True
    private = [library.search(LOCAL_OWNER, question).took_ms for question in questions]
    store.words.private = False
    library.layers.light.serving = False
    exact = [library.search(LOCAL_OWNER, f"the {NOUNS[i % 14]} number {i}").took_ms for i in range(30)][5:]
    library.close()
    store.close()
    return [
        f"search, {passages} passages × {WINDOWS} windows: p50 {percentile(times, 0.5):.1f} ms, "
        f"p95 {percentile(times, 0.95):.1f} ms, question embedding included; bar p50 {bar_ms} ms",
        f"search where several people come in: p50 {percentile(private, 0.5):.1f} ms, "
        f"p95 {percentile(private, 0.95):.1f} ms; bar p50 {bar_ms} ms",
        f"search by exact vectors, without the index: {summary(exact, ' ms')}",
        f"index built from stored vectors: {built:.1f} s",
    ]


def resident(folder: Path, passages: int) -> str:
    """Memory of the whole app on that library, after some searches."""
    port = free_port()
    command = [sys.executable, "companion_app.py", "--port", str(port), "--data-dir", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=30) as client:
            while True:
                try:
                    if client.get("/health").json()["state"] == "ready":
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.5)
            httpx.get(f"http://127.0.0.1:{port}/")
            for number in range(50):
                client.get("/search", params={"q": f"the {NOUNS[number % 14]} number {number}"})
        own = psutil.Process(process.pid).memory_info().rss / 1e6
        children = (
            sum(c.memory_info().rss for c in psutil.Process(process.pid).children(recursive=True)) / 1e6
        )
        return f"resident with {passages} passages: {own:.0f} MB, its children {children:.0f} MB"
    finally:
        process.terminate()
        process.wait()
