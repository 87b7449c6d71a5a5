"""Stand-ins for engines, embedders and the library: small, real classes, deterministic."""

import asyncio
import hashlib
import re
import threading
import time

import numpy as np

from companion.chat.means import Means
from companion.domain import (
    EmbedderIdentity,
    EngineDone,
    Hit,
    MachineLoad,
    ModelInfo,
    Passage,
    Place,
    SearchResult,
    Token,
    Usage,
)
from companion.errors import EmbedderCrashed, EmbedderError
from companion.inference.deep import Interrupted
from companion.library.search import ScopeSummary

MODEL = ModelInfo("llama3.2:3b", "ollama", 2_000_000_000, 131_072)
THINKER = ModelInfo("qwen3:8b", "ollama", 5_000_000_000, 40_960, ("completion", "thinking"))
TINY = ModelInfo("smollm2", "builtin", 98_000_000, 8192)


def done(reason="stop", **usage):
    return EngineDone(reason, Usage(**usage))


def means(model, plan, profile, window, calibration, own=""):
    """What a turn works with, at a usual temperature."""
    return Means(model, plan, profile, window, calibration, 0.2, own, 0.0)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.time = 1000.0

    def __call__(self):
        return self.time


class Gate:
    """Something an engine waits for; opened by the test, from any thread."""

    def __init__(self):
        self.reached = threading.Event()
        self.open = threading.Event()

    async def pass_through(self):
        self.reached.set()
        while not self.open.is_set():
            await asyncio.sleep(0.002)


class ScriptedEngine:
    """Says its scripts, one for each call: texts, events, errors, gates, seconds of silence."""

    def __init__(self, *scripts, models=(MODEL,), name="ollama"):
        self.name = name
        self.scripts = list(scripts)
        self.requests = []
        self.loads = []
        self.cancelled = threading.Event()
        self.offered = list(models)

    async def models(self):
        return list(self.offered)

    async def stream(self, request):
        self.requests.append(request)
        script = self.scripts.pop(0) if self.scripts else ["I do not know.", done()]
        try:
            for piece in script:
                match piece:
                    case str():
                        yield Token(piece)
                    case int() | float():
                        await asyncio.sleep(piece)
                    case Gate():
                        await piece.pass_through()
                    case Exception():
                        raise piece
                    case _:
                        yield piece
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise

    async def load(self, model, num_ctx):
        self.loads.append((model, num_ctx))

    async def unload(self, model):
        self.loads.append((model, 0))

    async def close(self):
        self.cancelled.set()


class FakeEmbedder:
    """Bags of words: each word adds its own fixed direction, so shared words mean near."""

    def __init__(self, name="bag-of-words", dimension=64, window_words=200):
        self.identity = EmbedderIdentity(
            name=name,
            weight_hash=hashlib.sha256(name.encode()).hexdigest(),
            dimension=dimension,
            max_tokens=window_words,
            pooling="mean",
            normalize=True,
            query_prompt="",
            passage_prompt="",
            chunker_version=1,
        )
        self._window_words = window_words

    def windows(self, text):
        words, step = text.split(), self._window_words * 3 // 4
        starts = range(0, max(len(words) - self._window_words + step, 1), step)
        return [" ".join(words[start : start + self._window_words]) for start in starts]

    def embed_passages(self, texts):
        return np.array([self.embed_query(text) for text in texts], np.float32).reshape(len(texts), -1)

    def embed_query(self, text):
        total = np.full(self.identity.dimension, 1e-3, np.float32)
        for word in re.findall(r"\w+", text.lower()):
            seed = int.from_bytes(hashlib.sha256(f"{self.identity.name} {word}".encode()).digest()[:8], "big")
            total += np.random.default_rng(seed).standard_normal(self.identity.dimension).astype(np.float32)
        return total / np.linalg.norm(total)


class FakeDeep(FakeEmbedder):
    """A deep embedder without a process: it can be killed at any moment, fail on a word, and be slow."""

    def __init__(self, name="deep-bag", dimension=96):
        super().__init__(name, dimension, window_words=400)
        self.memory_bytes = 1000
        self.pid = None
        self.running = False
        self.kills = 0
        self.starts = 0
        self.batches = []
        self.poison = None
        self.fault = EmbedderCrashed("The embedder crashed: see the log.")
        """What comes of a text with the poison in it."""
        self.refusal = None
        self.held = threading.Event()
        """Set: batches wait until they are killed or `held` is cleared."""
        self.waiting = threading.Event()

    def start(self, wanted=lambda: True):
        if not wanted():
            raise Interrupted
        if self.refusal:
            raise EmbedderError(self.refusal)
        self.starts += not self.running
        self.running = True

    def embed_passages(self, texts):
        if not self.running:
            raise Interrupted
        while self.held.is_set():
            self.waiting.set()
            if not self.running:
                raise Interrupted
            time.sleep(0.001)
        if self.poison is not None and any(self.poison in text for text in texts):
            self.running = type(self.fault) is EmbedderError
            raise self.fault
        self.batches.append(list(texts))
        return super().embed_passages(texts)

    def kill(self):
        self.kills += self.running
        self.running = False


class FakeLoad:
    """A machine whose load the test decides."""

    def __init__(self, percent=3, source="gpu"):
        self.percent = percent
        self.source = source
        self.memory_free = 8_000_000_000
        self.on_battery = False
        self.closed = False

    def read(self, own=(), *, elsewhere=False):
        return MachineLoad(
            self.source,
            percent=self.percent,
            others_percent=self.percent,
            memory_free=self.memory_free,
            memory_total=8_000_000_000,
            on_battery=self.on_battery,
        )

    def close(self):
        self.closed = True


def passage(number, text, *, doc="d1", page=None, heading=None):
    digest = hashlib.sha256(text.encode()).hexdigest()
    place = Place(page=page, heading=heading)
    return Passage(f"{doc}:{number}", doc, number, text, digest, place, len(text) // 4)


def hit(number, text, *, name="guide.md", score=0.9, layers=("lexical", "light"), similarity=0.5, **more):
    return Hit(passage(number, text, **more), name, score, layers, similarity)


class FakeLibrary:
    """Finds the same hits whatever is asked, and remembers what was asked."""

    def __init__(self, *hits, around=(), notices=()):
        self.hits = hits
        self.around = {each.chunk_id: each for each in around}
        self.notices = notices
        self.queries = []

    def search(self, owner, query, top_k=5, doc_ids=None, *, embed_deep=None):
        self.queries.append((owner, query, top_k))
        return SearchResult(self.hits[:top_k], ("lexical", "light"), 1.0, self.notices)

    def documents(self, owner):
        return []

    def scope_of(self, owner, doc_ids=None):
        return ScopeSummary(len(self.hits), len(self.hits), False, doc_ids is not None, 0)

    def neighbours(self, owner, chunk_id, before=1, after=1):
        mine = next(hit.passage for hit in self.hits if hit.passage.chunk_id == chunk_id)
        return [
            each
            for each in sorted(self.around.values(), key=lambda each: each.chunk_index)
            if each.doc_id == mine.doc_id and 0 < abs(each.chunk_index - mine.chunk_index) <= 1
        ]
