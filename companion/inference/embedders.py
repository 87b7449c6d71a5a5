"""Text to vectors on ONNX Runtime, from a sentence-transformers folder with mean, CLS or last-token pooling.

Knows tokenizers, batches and pooling. It does not know where weights come from, what a passage is, or
torch: what needs torch happens once, in a child.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import psutil
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from companion.domain import EmbedderIdentity
from companion.errors import EmbedderError
from companion.inference.export import MODEL_FILE, TOKENIZER_FILE, exported
from companion.inference.recipe import identify, read_recipe
from companion.inference.weight_hash import weight_hash
from companion.inference.windows import Windows

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from companion.domain import Vectors

# A batch stays in the cache of the one core that works on it; larger ones are slower.
TOKENS_PER_BATCH = 256
ROWS_PER_BATCH = 16

Feeds = dict[str, NDArray[np.int64]]
"""Inputs of the model by name, shape (rows, longest) each."""


class OnnxEmbedder:
    """An embedder in this process, without torch. Safe to call from several threads."""

    def __init__(self, home: Path, identity: EmbedderIdentity, *, threads: int | None) -> None:
        """`home` holds the exported model and its tokenizer; `load` is the usual way in."""
        self.identity = identity
        # Batches side by side, one core each, are faster than all cores at one batch.
        self._abreast = threads or psutil.cpu_count() or 1
        self._session = _open_session(home / MODEL_FILE, self._abreast)
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self._tokenizer, self._padding = _open_tokenizer(home / TOKENIZER_FILE)
        self._tokenizer.enable_truncation(identity.max_tokens)
        # Of its own, because truncation is a state of a tokenizer.
        self._windows = Windows(
            home / TOKENIZER_FILE,
            name=identity.name,
            prompt=identity.passage_prompt,
            max_tokens=identity.max_tokens,
        )

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        name: str,
        cache_dir: Path,
        threads: int | None = None,
        chunker_version: int = 1,
        may_export: bool = True,
    ) -> OnnxEmbedder:
        """Open a sentence-transformers folder; the first time it is exported in a child (≈ 10 s).

        `threads`: of one call; None: as many as there are cores. Raises EmbedderError.
        """
        # The child works in another folder than this process.
        folder, cache_dir = folder.resolve(), cache_dir.resolve()
        recipe = read_recipe(folder)
        try:
            weights = weight_hash(folder, cache_dir)
            home = exported(folder, weights, cache_dir, may_export=may_export)
        except OSError as error:
            raise EmbedderError(f"The embedder {name} could not be kept in {cache_dir}: {error}.") from error
        return cls(home, identify(recipe, name, weights, chunker_version), threads=threads)

    def windows(self, text: str) -> list[str]:
        """The text in overlapping pieces that the model can read whole; at least one."""
        return self._windows.of(text)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension), float32, rows of length 1; a text too long is cut."""
        return self._embed([self.identity.passage_prompt + text for text in texts])

    def embed_query(self, text: str) -> Vectors:
        """Shape (dimension,), float32, length 1."""
        vector: Vectors = self._embed([self.identity.query_prompt + text])[0]
        return vector

    def _embed(self, texts: Sequence[str]) -> Vectors:
        encodings = self._tokenizer.encode_batch_fast(texts)
        vectors = np.empty((len(texts), self.identity.dimension), np.float32)
        batches = plan_batches([len(encoding.ids) for encoding in encodings])
        feeds = [self._feeds([encodings[row] for row in rows]) for rows in batches]
        for number, hidden in _Abreast(self._session, feeds, self._abreast):
            vectors[batches[number]] = self._pool(hidden, feeds[number])
        return vectors

    def _feeds(self, encodings: Sequence[Encoding]) -> Feeds:
        longest = max(len(encoding.ids) for encoding in encodings)
        feeds = {
            "input_ids": _pad([e.ids for e in encodings], longest, self._padding),
            "attention_mask": _pad([e.attention_mask for e in encodings], longest, 0),
            "token_type_ids": _pad([e.type_ids for e in encodings], longest, 0),
        }
        return {name: feeds[name] for name in self._inputs}

    def _pool(self, hidden: NDArray[np.float32], feeds: Feeds) -> Vectors:
        if self.identity.pooling == "cls":
            pooled = hidden[:, 0]
        elif self.identity.pooling == "lasttoken":
            last = feeds["attention_mask"].sum(axis=1) - 1
            pooled = hidden[np.arange(len(hidden)), last]
        else:
            # The sum instead of the mean: its direction is the same, and the length becomes 1 below.
            pooled = np.matmul(feeds["attention_mask"][:, None, :].astype(np.float32), hidden)[:, 0]
        lengths = np.linalg.norm(pooled, axis=1, keepdims=True)
        return np.asarray(pooled / np.maximum(lengths, 1e-12), np.float32)


def plan_batches(lengths: Sequence[int]) -> list[list[int]]:
    """Which rows go together: longest first, so that little is padded; small, so that memory stays small."""
    batches: list[list[int]] = []
    room = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if room < 1:
            batches.append([])
            room = min(ROWS_PER_BATCH, max(1, TOKENS_PER_BATCH // max(1, lengths[row])))
        batches[-1].append(row)
        room -= 1
    return batches


def _pad(rows: Sequence[Sequence[int]], length: int, padding: int) -> NDArray[np.int64]:
    padded = np.full((len(rows), length), padding, np.int64)
    for row, values in enumerate(rows):
        padded[row, : len(values)] = values
    return padded


def _open_tokenizer(path: Path) -> tuple[Tokenizer, int]:
    """The tokenizer, neither padding nor cutting, and its padding token.

    Padding is masked, but some models derive the positions from where it is.
    """
    tokenizer = Tokenizer.from_file(str(path))
    padding = (tokenizer.padding or {}).get("pad_id", 0)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, padding


def _open_session(model: Path, threads: int) -> InferenceSession:
    # Heavy, and the page is served before it is needed.
    from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidProtobuf, NoSuchFile

    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
    # Memory patterns are kept for every shape that ever came, and here shapes vary.
    options.enable_mem_pattern = False
    # Threads that spin between two calls would take the cores from the chat model.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidProtobuf, NoSuchFile) as error:
        raise EmbedderError("The prepared embedder cannot be opened: restart to prepare it again.") from error


class _Abreast:
    """Batches worked on side by side: one by the caller, the others by ONNX Runtime's own threads."""

    def __init__(self, session: InferenceSession, batches: Sequence[Feeds], abreast: int) -> None:
        self._session = session
        self._waiting = deque(enumerate(batches))
        self._landed: deque[tuple[int, NDArray[np.float32]]] = deque()
        self._errors: list[str] = []
        self._lanes = [threading.Event() for _ in range(min(abreast, len(batches)) - 1)]

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Number and last hidden state of each batch, as they are done. Raises EmbedderError."""
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

        for lane in self._lanes:
            self._fly(lane)
        try:
            while (batch := self._next()) is not None:
                number, feeds = batch
                (hidden,) = self._session.run(None, feeds)
                yield number, cast("NDArray[np.float32]", hidden)
                yield from self._arrivals()
        except (Fail, RuntimeException) as error:
            self._errors.append(str(error))
        finally:
            self._waiting.clear()
            # ONNX Runtime still reads the inputs of those that fly.
            for lane in self._lanes:
                lane.wait()
        yield from self._arrivals()
        if self._errors:
            raise EmbedderError(
                "The embedder broke off, perhaps for lack of memory: close other programs."
            ) from RuntimeError(self._errors[0])

    def _next(self) -> tuple[int, Feeds] | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _fly(self, lane: threading.Event) -> None:
        """Send off the next batch; the lane ends when none is left."""
        batch = self._next()
        if batch is None:
            lane.set()
            return
        number, feeds = batch

        def land(outputs: Sequence[NDArray[np.float32]], _data: object, error: str) -> None:
            if error:
                self._errors.append(error)
                self._waiting.clear()
            else:
                self._landed.append((number, outputs[0]))
            self._fly(lane)

        self._session.run_async(None, feeds, land, None)

    def _arrivals(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        while self._landed:
            yield self._landed.popleft()
