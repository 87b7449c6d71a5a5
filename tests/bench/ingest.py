"""The whole way of a document, reading to searchable, against `SentenceTransformer.encode`."""

import re
import tempfile
import time
from pathlib import Path

import numpy as np

from companion.config import SAMPLE_FOLDER, Settings
from companion.domain import LOCAL_OWNER
from companion.embedding import load_embedder
from companion.inference.weights import embedder_folder
from companion.library.library import Library
from companion.library.vectors import VectorIndex
from companion.storage.store import Store
from tests.bench.measures import alternate, ratios, summary
from tests.bench.raw import RawEncoder

WORDS = 18_000
PAIRS = 11


def made_document(rng: np.random.Generator) -> bytes:
    """Real words in new sentences, so that nothing was embedded before; sections as long as real ones."""
    words = re.findall(r"[A-Za-z]+", " ".join(p.read_text() for p in SAMPLE_FOLDER.glob("*.md")))
    parts, left = [], WORDS
    while left > 0:
        parts.append(f"## {' '.join(rng.choice(words, 4))}")
        for _ in range(rng.integers(1, 5)):
            sentences = [
                " ".join(rng.choice(words, rng.integers(6, 28))) + "." for _ in range(rng.integers(2, 7))
            ]
            left -= sum(sentence.count(" ") + 1 for sentence in sentences)
            parts.append(" ".join(sentences))
    return "\n\n".join(parts).encode()


def run() -> list[str]:
    settings = Settings()
    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(3)
    light = load_embedder(settings.embed_light, settings)
    store = Store.open(folder / "companion.db")
    library = Library(store, light, VectorIndex(folder / "index"), originals=folder / "o", max_bytes=10**8)
    library.warm()
    library.add(LOCAL_OWNER, "first.txt", b"The reading child starts and the index opens.")
    library.open_index()
    raw = RawEncoder(str(embedder_folder(settings.embed_light, settings)))
    windows: list[str] = []
    counts: list[int] = []

    def ours() -> float:
        data = made_document(rng)
        started = time.perf_counter()
        document = library.add(LOCAL_OWNER, f"{time.time_ns()}.md", data)
        took = time.perf_counter() - started
        texts = [p.text for p in library.passages(LOCAL_OWNER, document.doc_id)]
        windows[:] = [window for text in texts for window in light.windows(text)]
        counts.append(len(windows))
        return took

    pairs = alternate(ours, lambda: raw.seconds(windows), PAIRS)
    raw.end()
    library.close()
    store.close()
    rates = [count / one for count, (one, _other) in zip(counts[1:], pairs, strict=True)]
    return [
        f"ingest, reading to searchable: {summary(rates)} windows/s",
        f"ingest, times as fast as raw encode: {ratios([(other, one) for one, other in pairs])}; bar 1.5",
    ]
