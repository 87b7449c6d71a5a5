"""Text to vectors on ONNX Runtime, from a sentence-transformers folder with mean, CLS or last-token pooling.

Knows tokenizers, windows, batches, and the identity of an embedder. It does not know where
weights come from, what a passage is, or torch: what needs torch happens once, in a child.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import psutil
from filelock import FileLock
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from companion.child import Child
from companion.domain import Embedder, EmbedderIdentity
from companion.errors import CompanionError, EmbedderError, EmbedderWarming
from companion.inference.files import sha256
from companion.inference.windows import Windows

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from companion.domain import Vectors

log = logging.getLogger(__name__)

EXPORT_FORMAT = 1
"""Raised when the export changes, so that older ones are made again."""
EXPORT_TIMEOUT_S = 1800.0
MODEL_FILE, TOKENIZER_FILE, SIDECAR_FILE = "model.onnx", "tokenizer.json", "model.json"

# A batch stays in the cache of the one core that works on it; larger ones are slower.
TOKENS_PER_BATCH = 256
ROWS_PER_BATCH = 16

Feeds = dict[str, NDArray[np.int64]]
"""Inputs of the model by name, shape (rows, longest) each."""

POOLINGS = ("mean", "cls", "lasttoken")
LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Their position table starts after the padding token, so it holds fewer tokens than rows.
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet")


# --- what a folder says about its model -------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a sentence-transformers folder turns the last hidden state into a vector."""

    dimension: int
    max_tokens: int
    """Special tokens included."""
    pooling: str
    """One of `POOLINGS`."""
    query_prompt: str
    passage_prompt: str


def read_recipe(folder: Path) -> Recipe:
    """What the folder's own files say, old key names and new ones. Raises EmbedderError."""
    modules = _read_json(folder / "modules.json")
    places = {str(m["type"]).rpartition(".")[2]: folder / m["path"] for m in modules}
    unknown = [kind for kind in places if kind not in ("Transformer", "Pooling", "Normalize")]
    if unknown or len(places) != len(modules) or not {"Transformer", "Pooling"} <= places.keys():
        what = f"a {unknown[0]} layer" if unknown else "an unusual order of layers"
        raise EmbedderError(f"The embedder {folder.name} has {what}, which is not supported: choose another.")
    pooling = _read_json(places["Pooling"] / "config.json")
    prompts = _read_json(folder / "config_sentence_transformers.json", missing={}).get("prompts") or {}
    recipe = Recipe(
        dimension=int(pooling.get("embedding_dimension") or pooling["word_embedding_dimension"]),
        max_tokens=_max_tokens(places["Transformer"]),
        pooling=_pooling(pooling, folder.name),
        query_prompt=_prompt(prompts, "query"),
        passage_prompt=_prompt(prompts, "document", "passage", "corpus"),
    )
    if not pooling.get("include_prompt", True) and (recipe.query_prompt or recipe.passage_prompt):
        raise EmbedderError(
            f"The embedder {folder.name} leaves its prompts out of pooling, which is not supported."
        )
    return recipe


def _pooling(config: Mapping[str, Any], name: str) -> str:
    modes = config.get("pooling_mode") or [mode for key, mode in LEGACY_POOLING.items() if config.get(key)]
    modes = [modes] if isinstance(modes, str) else list(modes)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise EmbedderError(
            f"The embedder {name} pools by {' and '.join(modes) or 'nothing'}: "
            f"choose one with {', '.join(POOLINGS)}."
        )
    return str(modes[0])


def _prompt(prompts: Mapping[str, str | None], *names: str) -> str:
    return next((text for name in names if (text := prompts.get(name))), "")


def _max_tokens(folder: Path) -> int:
    """The smallest of the limits that the folder names; a limit may be missing or absurd (1e30)."""
    config = _read_json(folder / "config.json")
    positions = config.get("max_position_embeddings")
    if positions and config.get("model_type") in OFFSET_POSITIONS:
        positions -= 2
    chosen = _read_json(folder / "sentence_bert_config.json", missing={}).get("max_seq_length")
    if not chosen:
        chosen = _read_json(folder / "tokenizer_config.json", missing={}).get("model_max_length")
    limits = [int(limit) for limit in (chosen, positions) if limit and limit > 0]
    return min([*limits, 8192])


def _read_json(path: Path, missing: Any = None) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if missing is not None:
            return missing
        raise EmbedderError(
            f"The embedder in {path.parent} is incomplete: {path.name} is missing."
        ) from error
    except (OSError, ValueError) as error:
        raise EmbedderError(f"The file {path} cannot be read: fetch the embedder again.") from error


# --- weights, hashed once ---------------------------------------------------------------


def weight_hash(folder: Path, cache_dir: Path) -> str:
    """sha256 over weights, tokenizer and configs, hex; remembered while no file changes.

    Raises EmbedderError when the folder has no safetensors.
    """
    files = sorted(path for path in folder.rglob("*") if _decides(path.relative_to(folder)))
    if not any(path.suffix == ".safetensors" for path in files):
        raise EmbedderError(f"The embedder in {folder} has no weights as safetensors: choose another.")
    seen = [
        [path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns] for path in files
    ]
    note = cache_dir / "hashes" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]}.json"
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["files"] == seen:
            return str(known["hash"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    together = hashlib.sha256()
    for path in files:
        together.update(f"{path.relative_to(folder).as_posix()}\0{sha256(path)}\n".encode())
    _write_note(note, {"files": seen, "hash": together.hexdigest()})
    return together.hexdigest()


def _decides(path: Path) -> bool:
    """Whether a file has a say in the vectors; the manifest of a fetch and training notes have none."""
    if any(part.startswith(".") or part in ("onnx", "openvino") for part in path.parts):
        return False
    if path.name in ("fetched.json", "data_config.json"):
        return False
    return path.suffix in (".safetensors", ".json", ".model") or path.name in ("vocab.txt", "merges.txt")


def _write_note(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(value), encoding="utf-8")
    partial.replace(path)


# --- the exported model -----------------------------------------------------------------


def exported(folder: Path, weights: str, cache_dir: Path, *, may_export: bool = True) -> Path:
    """Folder with the ONNX model and tokenizer of these weights, made in a child if it is not there.

    Checked by sha256 each time. Raises EmbedderError.
    """
    home = cache_dir / weights[:32]
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(cache_dir / f".{home.name}.lock"):
        if _is_intact(home, weights):
            return home
        if not may_export:
            raise EmbedderError(f"The embedder {folder.name} is not prepared yet: start the app once.")
        log.info("Preparing the embedder %s, once", folder.name)
        _export(folder, home, weights)
    return home


def _is_intact(home: Path, weights: str) -> bool:
    try:
        sidecar = json.loads((home / SIDECAR_FILE).read_text(encoding="utf-8"))
        return (
            sidecar["format"] == EXPORT_FORMAT
            and sidecar["weight_hash"] == weights
            and all(sha256(home / file) == sidecar["files"][file] for file in (MODEL_FILE, TOKENIZER_FILE))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _export(folder: Path, home: Path, weights: str) -> None:
    _remove_leftovers(home)
    child = Child("companion.inference.embedder_process", ["export", str(folder), str(home), weights])
    try:
        code = child.wait(EXPORT_TIMEOUT_S)
        answer = child.stdout.read() if code is not None else b""
    finally:
        child.kill()
        _remove_leftovers(home)
    if not _is_intact(home, weights):
        raise EmbedderError(
            _reason(answer) or f"The embedder {folder.name} could not be prepared: see the log."
        )


def _remove_leftovers(home: Path) -> None:
    """What a killed export left; only under the lock, so nobody is writing there."""
    for leftover in home.parent.glob(f".{home.name}.*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)


def _reason(answer: bytes) -> str | None:
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return None


# --- the embedder -----------------------------------------------------------------------


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


def identify(recipe: Recipe, name: str, weights: str, chunker_version: int) -> EmbedderIdentity:
    """The identity of these weights. Rows are always brought to length 1, whatever the folder says."""
    return EmbedderIdentity(
        name=name,
        weight_hash=weights,
        dimension=recipe.dimension,
        max_tokens=recipe.max_tokens,
        pooling=recipe.pooling,
        normalize=True,
        query_prompt=recipe.query_prompt,
        passage_prompt=recipe.passage_prompt,
        chunker_version=chunker_version,
    )


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


# --- an embedder that is still on its way -----------------------------------------------


class LateEmbedder:
    """An embedder that is loaded by somebody's `warm()` while others already hold it."""

    def __init__(self, load: Callable[[], Embedder], *, patience_s: float = 5.0) -> None:
        """`patience_s`: how long a question waits before search goes on without vectors."""
        self._load = load
        self._patience_s = patience_s
        self._decided = threading.Event()
        self._embedder: Embedder | None = None
        self._failure: str | None = None

    @property
    def ready(self) -> bool:
        return self._embedder is not None

    @property
    def failure(self) -> str | None:
        """Why it could not be loaded, one sentence for the person."""
        return self._failure

    @property
    def identity(self) -> EmbedderIdentity:
        """Raises EmbedderWarming before it is loaded, EmbedderError if it could not be."""
        return self._get(0.0).identity

    def warm(self) -> None:
        """Load it; call once more to try again after a failure. Never raises a CompanionError."""
        failure: str | None = "The embedder could not be loaded: see the log."
        try:
            self._embedder = self._load()
            failure = None
        except CompanionError as error:
            log.warning("The embedder could not be loaded: %s", error.message)
            failure = error.message
        finally:
            self._decide(failure)

    def close(self) -> None:
        """Let go of everybody who waits; with an error, if it is not loaded by now."""
        if not self.ready:
            self._decide("The app is closing.")

    def windows(self, text: str) -> list[str]:
        return self._get(None).windows(text)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Waits until it is loaded. Raises EmbedderError if it cannot be."""
        return self._get(None).embed_passages(texts)

    def embed_query(self, text: str) -> Vectors:
        """Waits a moment. Raises EmbedderWarming when it is still loading then."""
        return self._get(self._patience_s).embed_query(text)

    def _decide(self, failure: str | None) -> None:
        self._failure = failure
        self._decided.set()

    def _get(self, patience_s: float | None) -> Embedder:
        self._decided.wait(patience_s)
        if self._embedder is not None:
            return self._embedder
        if self._failure is not None:
            raise EmbedderError(self._failure)
        raise EmbedderWarming("The embedder is still loading: until it is ready, search goes by words.")
