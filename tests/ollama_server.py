"""A real HTTP server that speaks Ollama's protocol, and breaks it in every way on demand.

    with OllamaServer(models=["llama3.2:latest"], reply=["Hello", " there"]) as server:
        Ollama(server.url) ...

Everything may be changed while it runs. It knows nothing of the product.
"""

import asyncio
import contextlib
import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.waiting import until

LATEST_DATE = "2026-08-01T10:00:00Z"


class Thinking(str):
    """A piece of a scripted reply that is sent as thinking."""


@dataclass
class ServedModel:
    name: str
    capabilities: tuple[str, ...] = ("completion",)
    context_length: int = 8192
    remote_host: str | None = None
    size: int = 1_000_000_000
    vram: int = 0
    """Bytes on the card while it is loaded."""
    digest: str = ""
    architecture: str = "llama"
    parameter_size: str = "1.2B"
    quantization: str = "Q4_K_M"
    template: str = ""

    def __post_init__(self):
        self.digest = self.digest or hashlib.sha256(self.name.encode()).hexdigest()

    def tag(self):
        details = {
            "format": "gguf",
            "family": self.architecture,
            "families": [self.architecture],
            "parameter_size": self.parameter_size,
            "quantization_level": self.quantization,
        }
        tag = {"name": self.name, "model": self.name, "modified_at": LATEST_DATE, "size": self.size}
        tag |= {"digest": self.digest, "details": details}
        if self.remote_host:
            tag |= {"remote_host": self.remote_host, "remote_model": self.name.removesuffix("-cloud")}
        return tag


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    body: dict[str, Any]
    at: float = field(default_factory=time.monotonic)


@dataclass
class Gone:
    """A client that left before its answer was whole."""

    path: str


Reply = list[str] | Callable[[dict[str, Any]], list[str]]

REFUSALS = {
    "missing": (404, "model 'x' not found"),
    "busy": (503, "server busy, please try again.  maximum pending requests exceeded"),
    "memory": (500, "model requires more system memory (9.5 GiB) than is available (3.1 GiB)"),
    "refused": (400, "invalid options"),
    "forbidden": (401, "unauthorized"),
}
BREAKS = {
    "fin": "connection closed in the middle of a chunked answer",
    "rst": "connection reset",
    "no_done": "a whole answer without its last line",
    "garbage": "a line that is no JSON",
    "not_an_object": "a line of JSON that is no object",
    "half_line": "half a line, then the end",
    "error_line": "an error object in the stream",
    "memory_line": "an error object about memory in the stream",
    "disk_line": "an error object about a full disk in the stream",
    "offline_line": "an error object about an unreachable registry in the stream",
    "silent": "nothing more, connection open",
}


class OllamaServer:
    """Serves until the `with` block ends. `stop` and `start` let it vanish and come back on its port.

    `failure` is a key of REFUSALS or BREAKS and applies to `failing` paths; a break comes after
    `break_after` pieces. Times are in seconds. `disconnects` tells when clients left early.
    """

    def __init__(self, models=("llama3.2:latest",), reply: Reply = ("Hello", " there", "."), **settings):
        self.models = [ServedModel(model) if isinstance(model, str) else model for model in models]
        self.reply = reply
        self.thinking: list[str] = []
        self.first_delay_s = 0.0
        self.delay_s = 0.0
        self.load_s = 0.0
        self.unload_s = 0.0
        self.slow_s: dict[str, float] = {}
        """Path to the delay of its answer."""
        self.failure: str | None = None
        self.failing = {"/api/chat"}
        self.break_after = 1
        self.done_reason = "stop"
        self.chars_per_token = 4.0
        """How long the tokens of its models are."""
        self.read: list[tuple[int, int]] = []
        """Of each chat: the tokens of its prompt, and how many of them were read before."""
        self.version = "0.12.3"
        self.loaded: dict[str, int] = {}
        """Name to the window it was loaded with."""
        self.loads: list[tuple[str, int]] = []
        self._cache = ""
        self.layers: list[tuple[str, int]] = [("sha256:aaa", 1000)]
        """Of a model to pull: digest and bytes, in their order."""
        self.pull_steps = 2
        """In how many pieces a layer comes."""
        self.held = False
        """As long as it is set, a pull does not go on."""
        self.pulled: dict[str, int] = {}
        """Digest to the bytes that came so far; a pull that was cut off goes on from there."""
        self.embedding_dimension = 8
        self.vector_length = 1.0
        self.requests: list[Asked] = []
        self.disconnects: list[Gone] = []
        self._port = 0
        for name, value in settings.items():
            if not hasattr(self, name):
                raise TypeError(f"unknown setting {name}")
            setattr(self, name, value)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}"

    def start(self):
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="ollama-server", daemon=True)
        self._thread.start()
        assert ready.wait(60)
        return self

    def stop(self):
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(10)

    def asked(self, path):
        """Bodies of the requests to a path, in order."""
        return [request.body for request in self.requests if request.path == path]

    def wait_for(self, condition):
        """Until `condition(server)` holds."""
        until(lambda: condition(self), pause_s=0.005)

    # --- inside ---

    def _run(self, ready):
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve(ready))

    async def _serve(self, ready):
        self._ending = asyncio.Event()
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        server = await asyncio.start_server(self._accept, sock=listener)
        ready.set()
        await self._ending.wait()
        # Nobody new comes in, and whoever came at the last moment gets as far as being turned away:
        # asyncio never closes a connection that it accepted and finds its server closed.
        self._loop.remove_reader(listener)
        for _ in range(5):
            await asyncio.sleep(0)
        server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            lengths = [line[15:] for line in head.splitlines() if line.lower().startswith("content-length:")]
            body = (
                json.loads(await reader.readexactly(int(lengths[0]))) if lengths and int(lengths[0]) else {}
            )
            self.requests.append(Asked(method, path, body))
            await self._answer_or_notice_leaving(reader, Answer(writer), method, path, body)
        writer.close()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await writer.wait_closed()

    async def _answer_or_notice_leaving(self, reader, answer, method, path, body):
        answering = asyncio.ensure_future(self._answer(answer, method, path, body))
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and not answer.whole:
                self.disconnects.append(Gone(path))
        finally:
            leaving.cancel()
            if not answering.done():
                answering.cancel()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await answering
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await leaving

    async def _answer(self, answer, method, path, body):
        await asyncio.sleep(self.slow_s.get(path, 0))
        failure = self.failure if path in self.failing else None
        if failure in REFUSALS:
            status, text = REFUSALS[failure]
            return await answer.json({"error": text}, status)
        known = {
            ("GET", "/api/version"): self._version,
            ("GET", "/api/tags"): self._tags,
            ("GET", "/api/ps"): self._ps,
            ("POST", "/api/show"): self._show,
            ("POST", "/api/chat"): self._chat,
            ("POST", "/api/generate"): self._generate,
            ("POST", "/api/embed"): self._embed,
            ("POST", "/api/pull"): self._pull,
        }
        respond = known.get((method, path))
        if respond is None:
            return await answer.json({"error": "404 page not found"}, 404)
        if failure is not None and path not in ("/api/chat", "/api/pull"):
            await answer.start()
            return await self._break(answer, failure)
        await respond(answer, body, failure)

    async def _version(self, answer, body, failure):
        await answer.json({"version": self.version})

    async def _tags(self, answer, body, failure):
        await answer.json({"models": [model.tag() for model in self.models]})

    async def _ps(self, answer, body, failure):
        running = [
            {
                **model.tag(),
                "expires_at": LATEST_DATE,
                "size_vram": model.vram,
                "context_length": self.loaded[model.name],
            }
            for model in self.models
            if model.name in self.loaded
        ]
        await answer.json({"models": running})

    async def _show(self, answer, body, failure):
        model = self._find(body["model"])
        if model is None:
            return await self._not_found(answer, body)
        info = {"general.architecture": model.architecture}
        info[f"{model.architecture}.context_length"] = model.context_length
        info[f"{model.architecture}.embedding_length"] = self.embedding_dimension
        shown = {
            "modelfile": "",
            "parameters": "",
            "template": model.template,
            "details": model.tag()["details"],
        }
        await answer.json({**shown, "model_info": info, "capabilities": list(model.capabilities)})

    async def _generate(self, answer, body, failure):
        model = self._find(body["model"])
        if model is None:
            return await self._not_found(answer, body)
        end = {"model": body["model"], "created_at": LATEST_DATE, "response": "", "done": True}
        if body.get("keep_alive") == 0:
            self._loop.call_later(self.unload_s, self.loaded.pop, model.name, None)
            return await answer.json({**end, "done_reason": "unload"})
        await self._load(model, body)
        await answer.json({**end, "done_reason": "load"})

    async def _chat(self, answer, body, failure):
        model = self._find(body["model"])
        if model is None:
            return await self._not_found(answer, body)
        if body.get("think") is not None and "thinking" not in model.capabilities:
            return await answer.json({"error": f'"{model.name}" does not support thinking'}, 400)
        load_ns = await self._load(model, body)
        await asyncio.sleep(self.first_delay_s)
        await answer.start()
        pieces = list(self.reply(body) if callable(self.reply) else self.reply)
        if "thinking" in model.capabilities and body.get("think") is not False:
            pieces = [*map(Thinking, self.thinking), *pieces]
        await self._send_pieces(answer, model, pieces, failure)
        if failure in BREAKS:
            return await self._break(answer, failure)
        answer.whole = True
        await answer.line(self._last_line(model, body, pieces, load_ns))
        await answer.end()

    async def _send_pieces(self, answer, model, pieces, failure):
        for number, piece in enumerate(pieces):
            if failure in BREAKS and failure != "no_done" and number >= self.break_after:
                return
            if number:
                await asyncio.sleep(self.delay_s)
            message = {"role": "assistant", "content": piece}
            if isinstance(piece, Thinking):
                message = {"role": "assistant", "content": "", "thinking": piece}
            await answer.line(
                {"model": model.name, "created_at": LATEST_DATE, "message": message, "done": False}
            )

    def _last_line(self, model, body, pieces, load_ns):
        text = "".join(f"{message['role']}:{message['content']}\n" for message in body["messages"])
        content = sum(len(message["content"]) for message in body["messages"])
        prompt = int(content / self.chars_per_token) + 1
        window = body.get("options", {}).get("num_ctx", 4096)
        ends = (at for at, (one, other) in enumerate(zip(text, self._cache, strict=False)) if one != other)
        cached = prompt * next(ends, min(len(text), len(self._cache))) // len(text)
        self.read.append((prompt, cached))
        self._cache = text + "assistant:" + "".join(pieces)
        return {
            "model": model.name,
            "created_at": LATEST_DATE,
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": self.done_reason,
            "total_duration": load_ns + 30_000_000,
            "load_duration": load_ns,
            # Like Ollama, it cuts a too long prompt without a word.
            "prompt_eval_count": prompt if prompt <= window else window // 2 + 2,
            "prompt_eval_cached_count": cached,
            "prompt_eval_duration": 10_000_000,
            "eval_count": len(pieces),
            "eval_duration": 20_000_000,
        }

    async def _embed(self, answer, body, failure):
        model = self._find(body["model"])
        if model is None:
            return await self._not_found(answer, body)
        await self._load(model, body)
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        vectors = [self._vector(text) for text in texts]
        await answer.json({"model": model.name, "embeddings": vectors, "prompt_eval_count": len(texts)})

    def _vector(self, text):
        digest = hashlib.sha256(text.encode()).digest()
        values = [digest[i % len(digest)] - 127.5 for i in range(self.embedding_dimension)]
        length = sum(value * value for value in values) ** 0.5
        return [self.vector_length * value / length for value in values]

    async def _pull(self, answer, body, failure):
        await answer.start()
        if body["model"].startswith("unknown"):
            await answer.line({"error": "pull model manifest: file does not exist"})
            return await answer.end()
        await answer.line({"status": "pulling manifest"})
        for number, line in enumerate(self._layer_lines()):
            if failure in BREAKS and number >= self.break_after:
                return await self._break(answer, failure)
            await asyncio.sleep(self.delay_s)
            while self.held:
                await asyncio.sleep(0.005)
            self.pulled[line["digest"]] = line["completed"]
            await answer.line(line)
        for status in ("verifying sha256 digest", "writing manifest"):
            await answer.line({"status": status})
        self.models.append(ServedModel(body["model"]))
        answer.whole = True
        await answer.line({"status": "success"})
        await answer.end()

    def _layer_lines(self):
        for digest, total in self.layers:
            completed = self.pulled.get(digest, 0)
            line = {"status": f"pulling {digest.removeprefix('sha256:')}", "digest": digest, "total": total}
            yield {**line, "completed": completed}
            while completed < total:
                completed = min(completed + total // self.pull_steps, total)
                yield {**line, "completed": completed}

    async def _break(self, answer, failure):
        match failure:
            case "fin":
                await answer.raw(b"40\r\n{")
            case "rst":
                answer.reset()
            case "no_done":
                await answer.end()
            case "garbage":
                await answer.text("<html>Bad gateway</html>\n")
                await answer.end()
            case "not_an_object":
                await answer.text("[1]\n")
                await answer.end()
            case "half_line":
                await answer.text('{"model": "x", "mess')
                await answer.end()
            case "error_line":
                await answer.line({"error": "an error was encountered while running the model"})
                await answer.end()
            case "memory_line":
                await answer.line({"error": "cudaMalloc failed: out of memory"})
                await answer.end()
            case "disk_line":
                await answer.line({"error": "write /models/blobs/sha256-aaa: no space left on device"})
                await answer.end()
            case "offline_line":
                await answer.line({"error": "max retries exceeded: dial tcp: lookup registry: no such host"})
                await answer.end()
            case "silent":
                await asyncio.Event().wait()
            case _:
                raise ValueError(failure)

    async def _load(self, model, body):
        """Another window reloads the model, as in Ollama. Returns nanoseconds."""
        window = body.get("options", {}).get("num_ctx", 4096)
        if self.loaded.get(model.name) == window:
            return 0
        await asyncio.sleep(self.load_s)
        self.loaded[model.name] = window
        self._cache = ""
        self.loads.append((model.name, window))
        return int(self.load_s * 1e9)

    def _find(self, name):
        return next((model for model in self.models if model.name in (name, f"{name}:latest")), None)

    async def _not_found(self, answer, body):
        await answer.json({"error": f"model '{body['model']}' not found"}, 404)


class Answer:
    """One HTTP answer, down to its bytes."""

    def __init__(self, writer):
        self._writer = writer
        self.whole = False
        """Nothing of worth comes any more: a client may leave."""

    async def json(self, value, status=200):
        self.whole = True
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        await self.raw(head.encode() + b"Connection: close\r\n\r\n" + body)

    async def start(self):
        await self.raw(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        )

    async def line(self, value):
        await self.text(json.dumps(value) + "\n")

    async def text(self, text):
        data = text.encode()
        await self.raw(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def end(self):
        await self.raw(b"0\r\n\r\n")

    async def raw(self, data):
        self._writer.write(data)
        await self._writer.drain()

    def reset(self):
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()
