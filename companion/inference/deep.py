"""The deep embedder as its owner sees it: identity and windows here, the work in a child.

Knows how the child is started, asked and killed, and what its death means. It does not know torch,
where weights come from, what is embedded, or when the person needs the machine.
"""

from __future__ import annotations

import json
import math
import selectors
import signal
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

import numpy as np

from companion.child import Child
from companion.domain import EmbedderIdentity
from companion.errors import EmbedderCrashed, EmbedderError, EmbedderHindered
from companion.inference.frames import ERROR, HINDERED, READY, ROWS, read_frame
from companion.inference.recipe import identify, read_recipe
from companion.inference.weight_hash import weight_hash
from companion.inference.windows import Windows

if TYPE_CHECKING:
    from companion.domain import Vectors

NICENESS = 5
"""Behind everybody else, but not last: a process also dies at its own priority. Beside two busy
processes on two cores it is gone after 65 ms (at most 133); at 10, 81 (396); at 19, 740 (2,076)."""
START_TIMEOUT_S = 1800.0
"""The first start on a processor exports the model."""
ANSWER_TIMEOUT_S = 600.0
ENDING_S = 2.0
LONGEST_MESSAGE = 10_000

ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
"""The numbers of cards as the driver counts them, where it does not tell their ids."""

CARD_CONTEXT_BYTES = 1_200_000_000
"""What CUDA and one batch take beside the weights."""
PROCESS_BYTES = 250_000_000
"""What ONNX Runtime and one batch take beside the weights."""


class Interrupted(Exception):
    """The embedder was killed, or not started, because its owner wanted it: not a failure."""


class DeepEmbedder(Protocol):
    """An embedder that gives the machine back at once. One thread asks, any thread kills.

    Errors are `EmbedderError`s: among them `EmbedderCrashed` when the process ended by itself, and
    `EmbedderHindered` when what it was to read has nothing to do with it.
    """

    @property
    def identity(self) -> EmbedderIdentity: ...

    @property
    def memory_bytes(self) -> int | None:
        """What it needs while it works, an estimate; None: not known."""

    @property
    def pid(self) -> int | None:
        """Process whose load is ours, if there is one."""

    def windows(self, text: str) -> list[str]:
        """The text in overlapping pieces that the model can read whole; at least one."""

    def start(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Get ready, unless it is; may take a minute. Raises Interrupted when `wanted` says no
        at the last moment, or `kill` comes."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension), float32, rows of length 1. Raises Interrupted when `kill`
        came, before or meanwhile; `start` it first, and again after any error."""

    def kill(self) -> None:
        """Give the machine back, from any thread, at any moment; returns when it is given back.

        To be sure that no start slips in, make `wanted` say no first.
        """


class ChildEmbedder:
    """A sentence-transformers folder that runs in a child process."""

    def __init__(
        self,
        folder: Path,
        identity: EmbedderIdentity,
        *,
        cache_dir: Path,
        device: str = "cpu",
        card: str | None = None,
        threads: int | None = None,
    ) -> None:
        """`open` is the usual way in. Raises EmbedderError when the folder has no tokenizer."""
        self.identity = identity
        self.device = device
        """Where it runs; after `start` the child's word, which may know no such card."""
        self._windows = Windows(
            _tokenizer(folder),
            name=identity.name,
            prompt=identity.passage_prompt,
            max_tokens=identity.max_tokens,
        )
        self._folder = folder
        self._environment = {} if card is None else {"CUDA_VISIBLE_DEVICES": card, **ORDER}
        self._arguments = ["serve", str(folder), identity.weight_hash, str(cache_dir), "--device", device]
        self._arguments += ["--threads", str(threads)] if threads else []
        # Held while the child is begun or taken away, never while it works.
        self._guard = threading.Lock()
        # Held by the one thread that asks, as long as it uses the pipes.
        self._talking = threading.Lock()
        self._child: Child | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        name: str,
        cache_dir: Path,
        device: str = "cpu",
        card: str | None = None,
        threads: int | None = None,
        chunker_version: int = 1,
    ) -> ChildEmbedder:
        """Read and hash the folder; starts nothing. Raises EmbedderError.

        `device` is `cpu` (ONNX Runtime) or a card in torch's words; `card`: the only one that it may
        see, as CUDA names it; `threads` None: as many as cores.
        """
        # The child works in another folder than this process.
        folder, cache_dir = folder.resolve(), cache_dir.resolve()
        recipe = read_recipe(folder)
        try:
            weights = weight_hash(folder, cache_dir)
        except OSError as error:
            raise EmbedderError(f"The embedder {name} could not be kept in {cache_dir}: {error}.") from error
        identity = identify(recipe, name, weights, chunker_version)
        return cls(folder, identity, cache_dir=cache_dir, device=device, card=card, threads=threads)

    @property
    def memory_bytes(self) -> int:
        parameters = count_parameters(self._folder)
        if self.device == "cpu":
            return 4 * parameters + PROCESS_BYTES
        return 2 * parameters + CARD_CONTEXT_BYTES

    @property
    def pid(self) -> int | None:
        child = self._child
        return child.pid if child is not None else None

    def windows(self, text: str) -> list[str]:
        return self._windows.of(text)

    def start(self, wanted: Callable[[], bool] = lambda: True) -> None:
        with self._talking:
            child = self._begin(wanted)
            if child is not None:
                self.device = self._receive(child, READY, LONGEST_MESSAGE, START_TIMEOUT_S).decode()

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        with self._talking:
            child = self._child
            if child is None:
                raise Interrupted
            return self._ask(child, texts)

    def kill(self) -> None:
        # Taken away first: whoever waits for its answer then knows that this was no accident.
        with self._guard:
            child, self._child = self._child, None
        if child is not None:
            child.end()
            # Whoever waits for it hears the end of the pipe, and only then is the pipe closed.
            with self._talking:
                child.kill()

    def _ask(self, child: Child, texts: Sequence[str]) -> Vectors:
        shape = (len(texts), self.identity.dimension)
        if not texts:
            return np.empty(shape, np.float32)
        try:
            child.stdin.write(json.dumps(list(texts)).encode() + b"\n")
            child.stdin.flush()
        except (OSError, ValueError) as error:
            self._lost(child, error)
        rows = self._receive(child, ROWS, max(4 * math.prod(shape), LONGEST_MESSAGE), ANSWER_TIMEOUT_S)
        return self._checked(child, rows, shape)

    def _begin(self, wanted: Callable[[], bool]) -> Child | None:
        """A new child; None when there is one."""
        with self._guard:
            if self._child is not None:
                return None
            # Asked under the lock: a `kill` that comes after the answer finds the child.
            if not wanted():
                raise Interrupted
            try:
                self._child = Child(
                    "companion.inference.embedder_process",
                    self._arguments,
                    nice=NICENESS,
                    environment=self._environment,
                )
            except OSError as error:
                raise EmbedderError(
                    f"The embedder {self.identity.name} could not be started: {error.strerror or error}."
                ) from error
            return self._child

    def _receive(self, child: Child, expected: bytes, longest: int, patience_s: float) -> bytes:
        try:
            if not _speaks(child, patience_s):
                raise TimeoutError(f"no answer within {patience_s:g} s")
            kind, payload = read_frame(child.stdout, longest=longest)
        except (EOFError, OSError, ValueError) as error:
            self._lost(child, error)
        if kind in (ERROR, HINDERED):
            if expected == READY and self._take_away(child):
                child.kill()
            refusal = EmbedderHindered if kind == HINDERED else EmbedderError
            raise refusal(payload.decode(errors="replace"))
        if kind != expected:
            self._lost(child, ValueError(f"a frame {kind!r} instead of {expected!r}"))
        return payload

    def _checked(self, child: Child, rows: bytes, shape: tuple[int, int]) -> Vectors:
        if len(rows) != 4 * math.prod(shape):
            self._lost(child, ValueError(f"{len(rows)} bytes for {shape}"))
        vectors = np.frombuffer(rows, "<f4").reshape(shape)
        if not np.isfinite(vectors).all():
            raise EmbedderError(
                f"The embedder {self.identity.name} gives no usable vectors here: choose another."
            )
        return vectors

    def _lost(self, child: Child, error: Exception) -> NoReturn:
        """Say why there is no answer, and collect what is left of the child."""
        if not self._take_away(child):
            raise Interrupted from error
        code = child.wait(ENDING_S)
        child.kill()
        # Where memory ends, the system ends this process first, whatever it reads.
        kind = EmbedderHindered if code == -signal.SIGKILL else EmbedderCrashed
        raise kind(_obituary(self.identity.name, code)) from error

    def _take_away(self, child: Child) -> bool:
        """It is no longer ours to ask; False if `kill` was first."""
        with self._guard:
            mine = self._child is child
            if mine:
                self._child = None
        return mine


def count_parameters(folder: Path) -> int:
    """Numbers in the weights of a folder, from the heads of its safetensors. Raises EmbedderError."""
    try:
        return sum(_parameters(path) for path in folder.rglob("*.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise EmbedderError(f"The weights in {folder} cannot be read: fetch the embedder again.") from error


def _parameters(path: Path) -> int:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        head = json.loads(file.read(min(length, path.stat().st_size)))
    return sum(math.prod(tensor["shape"]) for name, tensor in head.items() if name != "__metadata__")


def _tokenizer(folder: Path) -> Path:
    """Beside the transformer, which may have a folder of its own."""
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    place = next((module["path"] for module in modules if module["type"].endswith("Transformer")), "")
    return folder / str(place) / "tokenizer.json"


def _speaks(child: Child, patience_s: float) -> bool:
    """Wait until there is something to read, or the end."""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        return bool(selector.select(patience_s))


def _obituary(name: str, code: int | None) -> str:
    """`code` None: it lived, but did not answer, or not in our words."""
    if code is None:
        return f"The embedder {name} did not answer any more and was ended."
    if code == -signal.SIGKILL:
        return f"The embedder {name} was ended by the system, perhaps for lack of memory: close programs."
    if code < 0:
        return f"The embedder {name} crashed ({signal.Signals(-code).name}): see the log."
    return f"The embedder {name} ended unexpectedly: see the log."
