"""The built-in chat model: llama.cpp in this process, for machines without Ollama.

Knows GGUF files and llama.cpp's chunks, and that one answer is made at a time. It does not know
where weights come from, prompts, sessions, or other engines.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import struct
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import psutil

from companion.domain import ChatRequest, EngineDone, EnginePiece, ModelInfo, Thought, Token, Usage
from companion.errors import CompanionError, EngineError, EngineUnavailable, ModelMissing, StreamBroken

if TYPE_CHECKING:
    import xllamacpp

BATCH_TOKENS = 64
"""Stop reaches llama.cpp between two batches of a prompt: about .2 s on two cores."""
PROMPT_CACHE_MIB = 256
"""For prompts of other sessions. llama.cpp's own default is 8 GiB."""
POLL_S = 0.02
CUT_OFF = "The built-in model broke off its answer; try again."

Json = dict[str, Any]


class Builtin:
    """One GGUF model. Loaded at its first use; may be used from several event loops at once."""

    def __init__(self, find_model: Callable[[], Path], *, n_ctx: int = 4096) -> None:
        """`find_model` gives the GGUF file and may take long; it is called in a thread, when needed.
        `n_ctx` in tokens is capped by the model's own window."""
        self._find_model = find_model
        self._n_ctx = n_ctx
        # All cores but one: llama.cpp's threads wait for each other at every layer, so one that is held
        # up by the server or the browser holds up all (with two busy cores, 1.4 s instead of 42 s).
        self._threads = max(1, (psutil.cpu_count(logical=False) or 1) - 1)
        self._path: Path | None = None
        self._finding = threading.Lock()
        # Guards the server object and lets one answer be made at a time, whatever loop asks.
        self._busy = threading.Lock()
        self._server: xllamacpp.Server | None = None
        self._without_card = False
        self._closing = threading.Event()

    @property
    def name(self) -> Literal["builtin"]:
        return "builtin"

    async def models(self) -> list[ModelInfo]:
        """The one model, from the head of its file; loads nothing."""
        return [await asyncio.to_thread(self._info)]

    async def stream(self, request: ChatRequest) -> AsyncGenerator[EnginePiece, None]:
        """Pieces as they come, `EngineDone` last; `num_ctx` is fixed here and not read.

        Cancelling the consumer or `aclose` stops the model within a second, also while it reads
        the prompt or waits for another answer to end.
        """
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[Json | None] = asyncio.Queue()
        stopped = threading.Event()
        # Waiting for one's turn here leaves the loop's few threads to others.
        while self._busy.locked():
            await asyncio.sleep(POLL_S)
        work = asyncio.create_task(
            asyncio.to_thread(
                self._complete,
                request,
                lambda chunk: loop.call_soon_threadsafe(chunks.put_nowait, chunk),
                stopped,
            )
        )
        # Arrives after all chunks: both come through the loop's queue, in order.
        work.add_done_callback(lambda task: _note_end(task, chunks))
        try:
            while (chunk := await chunks.get()) is not None:
                for piece in _pieces(chunk):
                    yield piece
            usage, reason = await work
            yield EngineDone(reason, usage)
        finally:
            stopped.set()

    async def load(self, model: str, num_ctx: int) -> None:
        """Read the weights into memory; `num_ctx` is fixed here and not read."""
        await asyncio.to_thread(self._check_and_load, model)

    async def unload(self, model: str) -> None:
        """Give the memory back, after the answer in the making."""
        await asyncio.to_thread(self._drop)

    async def close(self) -> None:
        """Stop the answer in the making and give the memory back."""
        self._closing.set()
        try:
            await asyncio.to_thread(self._drop)
        finally:
            self._closing.clear()

    # What follows runs in threads.

    def _complete(
        self, request: ChatRequest, post: Callable[[Json], object], stopped: threading.Event
    ) -> tuple[Usage, str]:
        """One answer; `post` gets each chunk. Returns what it cost and why it ended."""
        last: Json = {}

        def receive(chunk: Json) -> bool:
            """True stops the model. An exception in here would vanish in llama.cpp."""
            nonlocal last
            if stopped.is_set() or self._closing.is_set():
                return True
            last = chunk
            post(chunk)
            return "error" in chunk

        with self._turn(stopped) as mine:
            if not mine:
                return Usage(), "stop"
            load_ms = self._check_and_load_mine(request.model)
            if stopped.is_set():
                return Usage(), "stop"
            self._ask(_chat_body(request), receive)
        return (Usage(), "stop") if stopped.is_set() else _outcome(last, load_ms)

    def _ask(self, body: Json, receive: Callable[[Json], bool]) -> None:
        assert self._server is not None
        try:
            self._server.handle_chat_completions(body, receive)
        except (RuntimeError, ValueError) as error:
            raise StreamBroken(CUT_OFF) from error

    @contextmanager
    def _turn(self, stopped: threading.Event) -> Iterator[bool]:
        """Wait until no other answer is made; False if stopped meanwhile."""
        mine = False
        while not mine and not stopped.is_set():
            mine = self._busy.acquire(timeout=POLL_S)
        try:
            yield mine
        finally:
            if mine:
                self._busy.release()

    def _check_and_load(self, model: str) -> None:
        with self._busy:
            self._check_and_load_mine(model)

    def _check_and_load_mine(self, model: str) -> float | None:
        """With the lock held. Milliseconds it took to load, None if it was loaded already."""
        path = self._model_path()
        if model != _model_name(path):
            raise ModelMissing(f"The built-in engine has no model named {model}; it has {_model_name(path)}.")
        if self._server is not None:
            return None
        begun = time.perf_counter()
        self._server = self._start(path)
        return (time.perf_counter() - begun) * 1000

    def _start(self, path: Path) -> xllamacpp.Server:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = self._window(path)
        params.n_parallel = 1
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.cache_ram_mib = PROMPT_CACHE_MIB
        params.verbosity = -1
        params.warmup = False
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
        _shut_listener(params, _model_name(path))
        self._without_card = not any("GPU" in each["type"].name for each in xllamacpp.get_device_info())
        try:
            server = xllamacpp.Server(params)
            # Warms up, and waits until its loop runs: a server dropped before that never ends,
            # and takes every thread of Python with it.
            server.handle_completions({"prompt": "a", "max_tokens": 1})
        except (RuntimeError, ValueError, MemoryError) as error:
            raise EngineError(f"The model file {path.name} cannot be loaded; choose another one.") from error
        return server

    def _drop(self) -> None:
        with self._busy:
            # Memory and threads go with the object.
            self._server = None

    def _info(self) -> ModelInfo:
        path = self._model_path()
        head = _read_head(path)
        loaded = self._server is not None
        return ModelInfo(
            name=_model_name(path),
            engine="builtin",
            size=path.stat().st_size,
            context_length=self._window(path),
            loaded=loaded,
            parameter_size=str(head["general.size_label"]) if "general.size_label" in head else None,
            quantization=_quantization(path),
            memory=path.stat().st_size + _window_bytes(head, self._window(path)) if loaded else None,
            # llama.cpp does not tell how it shared itself out.
            vram=0 if loaded and self._without_card else None,
        )

    def _window(self, path: Path) -> int:
        head = _read_head(path)
        own = head.get(f"{head.get('general.architecture')}.context_length")
        return min(self._n_ctx, own) if isinstance(own, int) else self._n_ctx

    def _model_path(self) -> Path:
        if self._path is None or not self._path.is_file():
            # Finding may mean fetching for minutes; nobody else's thread shall wait for it.
            if not self._finding.acquire(blocking=False):
                raise EngineUnavailable("The built-in model is still being fetched; try again in a moment.")
            try:
                self._path = self._found()
            finally:
                self._finding.release()
        return self._path

    def _found(self) -> Path:
        try:
            path = self._find_model()
        except CompanionError as error:
            raise EngineUnavailable(error.message) from error
        if not path.is_file():
            raise EngineUnavailable(f"The model file {path.name} is not there; choose another one.")
        return path


def _shut_listener(params: xllamacpp.CommonParams, name: str) -> None:
    """llama.cpp always opens an HTTP listener on loopback, for everybody and every website."""
    params.api_keys = [secrets.token_urlsafe(32)]
    params.cors_origins = "http://localhost.invalid"
    params.ui = False
    params.endpoint_slots = False
    # Else its answers carry the path of the file.
    params.model_alias = {name}


def _note_end(task: asyncio.Task[tuple[Usage, str]], chunks: asyncio.Queue[Json | None]) -> None:
    # Looking at the exception tells asyncio that it was noticed: after a stop nobody awaits the task.
    if not task.cancelled():
        task.exception()
    chunks.put_nowait(None)


def _chat_body(request: ChatRequest) -> Json:
    body: Json = {
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "stream": True,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        # Without it llama.cpp is silent, and cannot be stopped, until the prompt is read.
        "return_progress": True,
    }
    if request.grammar is not None:
        body["grammar"] = request.grammar
    return body


def _pieces(chunk: Json) -> Iterator[EnginePiece]:
    for choice in chunk.get("choices", ()):
        delta = choice.get("delta", {})
        if thinking := delta.get("reasoning_content"):
            yield Thought(thinking)
        if content := delta.get("content"):
            yield Token(content)


def _outcome(last: Json, load_ms: float | None) -> tuple[Usage, str]:
    """From the last chunk. Raises what llama.cpp refused, or that the end is missing."""
    if "error" in last:
        raise _refusal(last["error"])
    reason = next((choice.get("finish_reason") for choice in last.get("choices", ())), None)
    if reason is None:
        raise StreamBroken(CUT_OFF)
    return _usage(last.get("timings", {}), load_ms), "length" if reason == "length" else "stop"


def _refusal(error: Json) -> EngineError:
    if error.get("type") == "exceed_context_size_error":
        return EngineError(
            f"The built-in model reads {error.get('n_ctx')} tokens and was given "
            f"{error.get('n_prompt_tokens')}; shorten the question or choose another model."
        )
    return EngineError(f"The built-in model refused the request: {error.get('message', 'no reason given')}")


def _usage(timings: Json, load_ms: float | None) -> Usage:
    """llama.cpp counts only the tokens it had to read anew as the prompt's."""
    return Usage(
        prompt_tokens=int(timings.get("prompt_n", 0)) + int(timings.get("cache_n", 0)) or None,
        answer_tokens=timings.get("predicted_n"),
        cached_tokens=timings.get("cache_n"),
        load_ms=load_ms,
        prompt_ms=timings.get("prompt_ms"),
        answer_ms=timings.get("predicted_ms"),
    )


# --- GGUF files -------------------------------------------------------------------------

_QUANTIZATION = re.compile(r"[._-]((?:I?Q\d|F16|F32|BF16|MXFP4)\w*)$", re.IGNORECASE)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONGEST = 1 << 20


def _model_name(path: Path) -> str:
    """`SmolLM2-135M-Instruct.Q4_1.gguf` is `smollm2-135m-instruct`."""
    return _QUANTIZATION.sub("", path.stem).lower()


def _quantization(path: Path) -> str | None:
    found = _QUANTIZATION.search(path.stem)
    return found[1].upper() if found else None


def _window_bytes(head: dict[str, object], n_ctx: int) -> int:
    """What llama.cpp keeps of a full window: a key and a value per layer and token, two bytes each.
    0 if the file does not tell; its scratch memory, some tens of megabytes, comes on top."""

    def number(name: str, usual: int = 0) -> int:
        value = head.get(f"{head.get('general.architecture')}.{name}", usual)
        return value if isinstance(value, int) else usual

    heads = number("attention.head_count")
    width = number("embedding_length") // heads if heads else 0
    key, value = number("attention.key_length", width), number("attention.value_length", width)
    return number("block_count") * n_ctx * number("attention.head_count_kv", heads) * (key + value) * 2


def _read_head(path: Path) -> dict[str, object]:
    """The values at the head of a GGUF file, up to the vocabulary. Raises `EngineUnavailable`."""
    try:
        with path.open("rb") as file:
            return _head_values(file)
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise EngineUnavailable(
            f"{path.name} is not a model file in GGUF format; choose another one."
        ) from error


def _head_values(file: IO[bytes]) -> dict[str, object]:
    if file.read(4) != b"GGUF":
        raise ValueError("no GGUF")
    _version, _tensors, count = struct.unpack("<IQQ", file.read(20))
    values: dict[str, object] = {}
    for _ in range(count):
        key = str(_value(file, _STRING))
        if key.startswith("tokenizer."):
            break
        values[key] = _value(file, *struct.unpack("<I", file.read(4)))
    return values


def _value(file: IO[bytes], kind: int) -> object:
    if kind == _STRING:
        return file.read(_length(file)).decode()
    if kind == _ARRAY:
        (inner,) = struct.unpack("<I", file.read(4))
        return [_value(file, inner) for _ in range(_length(file))]
    layout = "<" + _SCALARS[kind]
    (value,) = struct.unpack(layout, file.read(struct.calcsize(layout)))
    return value


def _length(file: IO[bytes]) -> int:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > _LONGEST:
        raise ValueError("too long")
    return int(length)
