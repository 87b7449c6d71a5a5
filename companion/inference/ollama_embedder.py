"""A deep embedder that Ollama runs: `ollama:NAME` as the name of an embedder.

Knows Ollama by its client, and how a call in one thread is broken off from another. It does not
know Ollama's messages, what is embedded, or when the person needs the machine.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from companion.domain import EmbedderIdentity
from companion.errors import (
    EmbedderError,
    EmbedderHindered,
    EngineBusy,
    EngineError,
    EngineOutOfMemory,
    EngineSilent,
    EngineUnavailable,
    ModelMissing,
)
from companion.inference.deep import Interrupted
from companion.inference.ollama import Ollama
from companion.tuning import WINDOW_OVERLAP

if TYPE_CHECKING:
    from companion.domain import Vectors

PREFIX = "ollama:"
LONGEST_WINDOW = 2048
"""Tokens. Passages have about 500; a larger window only takes memory."""
USUAL_WINDOW = 512
"""Tokens, of a model whose window Ollama does not tell."""
SPECIAL_TOKENS = 16
BYTES_PER_TOKEN = 3
"""Cautious: English has four and more, Chinese about three."""
BREAKING_OFF_S = 2.0
NOT_OF_THE_TEXT = (EngineUnavailable, ModelMissing, EngineBusy, EngineOutOfMemory, EngineSilent)
"""Failures that every other text would meet, too."""

Result = TypeVar("Result")


class OllamaEmbedder:
    """Vectors from a model in Ollama. There is no process of ours: `kill` closes the connection."""

    def __init__(self, ollama: Ollama, model: str, identity: EmbedderIdentity, size: int | None) -> None:
        """`ollama`: nobody else's, since it is closed after each call. `size` of the weights in bytes.
        `open` is the usual way in."""
        self.identity = identity
        self._ollama = ollama
        self._model = model
        self._size = size
        self._guard = threading.Lock()
        self._started = False
        self._call: _Call | None = None

    @classmethod
    def open(cls, ollama: Ollama, name: str, *, chunker_version: int = 1) -> OllamaEmbedder:
        """Ask Ollama about the model, without loading it. Not from within an event loop.

        Raises EmbedderError.
        """
        model = name.removeprefix(PREFIX)
        try:
            facts = asyncio.run(ollama.embedding_facts(model))
        except EngineError as error:
            raise EmbedderError(error.message) from error
        if facts.dimension is None:
            raise EmbedderError(f"Ollama does not tell the dimension of {model}: choose another embedder.")
        identity = EmbedderIdentity(
            name=name,
            weight_hash=facts.digest,
            dimension=facts.dimension,
            max_tokens=min(facts.context_length or USUAL_WINDOW, LONGEST_WINDOW),
            pooling="ollama",
            normalize=True,
            query_prompt="",
            passage_prompt="",
            chunker_version=chunker_version,
        )
        return cls(ollama, model, identity, facts.size)

    @property
    def memory_bytes(self) -> int | None:
        return self._size

    @property
    def pid(self) -> int | None:
        return None

    def windows(self, text: str) -> list[str]:
        """By an estimate of tokens: Ollama does not tell where a token ends."""
        return windows_by_bytes(text, (self.identity.max_tokens - SPECIAL_TOKENS) * BYTES_PER_TOKEN)

    def start(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Nothing is loaded yet; the first call does that."""
        with self._guard:
            if not wanted():
                raise Interrupted
            self._started = True

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        shape = (len(texts), self.identity.dimension)
        if not texts:
            return np.empty(shape, np.float32)
        try:
            rows = self._interruptible(self._rows(texts))
        except NOT_OF_THE_TEXT as error:
            raise EmbedderHindered(error.message) from error
        except EngineError as error:
            raise EmbedderError(error.message) from error
        try:
            vectors = np.asarray(rows, np.float32)
        except (ValueError, TypeError):
            vectors = np.empty(0, np.float32)
        if vectors.shape != shape or not np.isfinite(vectors).all():
            raise EmbedderError(
                f"Ollama gives no usable vectors with {self._model}: choose another embedder."
            )
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))

    def kill(self) -> None:
        with self._guard:
            self._started = False
            call = self._call
        if call is not None:
            call.break_off()

    async def _rows(self, texts: Sequence[str]) -> list[list[float]]:
        try:
            return await self._ollama.embed(self._model, texts, self.identity.max_tokens)
        finally:
            # A connection that is cancelled while it opens is left in the client.
            await self._ollama.close()

    def _interruptible(self, work: Coroutine[None, None, Result]) -> Result:
        call = _Call()
        try:
            with self._guard:
                if not self._started:
                    raise Interrupted
                self._call = call
            return asyncio.run(call.carry_out(work))
        except asyncio.CancelledError as error:
            raise Interrupted from error
        finally:
            work.close()
            with self._guard:
                self._call = None
            call.over.set()


class _Call:
    """One piece of work in a loop of its own, and the way to break it off from another thread."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self._guard = threading.Lock()
        self._broken_off = False
        self._cancel: Callable[[], object] = lambda: None

    async def carry_out(self, work: Coroutine[None, None, Result]) -> Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        with self._guard:
            if self._broken_off:
                raise asyncio.CancelledError
            self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        try:
            return await work
        finally:
            # The loop ends soon, and an ended loop takes no more calls.
            with self._guard:
                self._cancel = lambda: None

    def break_off(self) -> None:
        """Returns when the connection is closed."""
        with self._guard:
            self._broken_off = True
            self._cancel()
        self.over.wait(BREAKING_OFF_S)


def windows_by_bytes(text: str, budget: int) -> list[str]:
    """The text in overlapping pieces of at most `budget` bytes of UTF-8, cut between words where
    it has any; at least one. Together they hold every character."""
    pieces: list[str] = []
    first = 0
    while True:
        end = _reach(text, first, budget)
        if end == len(text):
            return [*pieces, text[first:]]
        end = _after_space(text, end, lowest=first + (end - first) // 2)
        pieces.append(text[first:end])
        overlap = int((end - first) * WINDOW_OVERLAP)
        first = _after_space(text, end - overlap, lowest=max(first + 1, end - 2 * overlap))


def _reach(text: str, first: int, budget: int) -> int:
    """How far a piece from `first` may go; at least one character."""
    piece = text[first : first + budget].encode(errors="replace")[:budget].decode(errors="ignore")
    return min(len(text), first + max(1, len(piece)))


def _after_space(text: str, position: int, *, lowest: int) -> int:
    """The nearest place at or before `position` where a word begins; `position` if there is none."""
    for candidate in range(position, lowest, -1):
        if text[candidate - 1].isspace():
            return candidate
    return max(position, lowest)
