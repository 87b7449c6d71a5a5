"""Ollama: lists, streams, loads, unloads and pulls its models over its HTTP protocol.

Knows Ollama's messages, its errors and how long to wait for it. It does not know prompts,
sessions, other engines, or which model is the default.
"""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Literal, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import httpx
import ollama

from companion.domain import (
    ChatRequest,
    EnginePiece,
    ModelInfo,
    PullProgress,
)
from companion.errors import (
    EngineBusy,
    EngineError,
    EngineOutOfMemory,
    EngineSilent,
    EngineUnavailable,
    ModelMissing,
    StreamBroken,
)
from companion.inference.ollama_json import (
    UNREADABLE,
    EmbeddingFacts,
    Json,
    chat_body,
    digest_of,
    embedding_facts,
    full_name,
    is_remote,
    model_info,
    name_of,
    objects,
    pieces,
    pull_progress,
)
from companion.inference.thought_tags import ThoughtTags

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 10.0
"""For calls that need no model: lists, versions, the wish to unload."""
SHOW_BUDGET_S = 2.0
"""For reading the details of new models; what is not read by then is read with the next list."""
SHOWN_AT_ONCE = 8
FREEING_TIMEOUT_S = 10.0
FREEING_POLL_S = 0.1
EMBEDDING_KEEP_ALIVE = "30s"
"""Longer than the pause between two batches; after the last one the memory is soon free."""
LONGEST_QUOTE = 200

CUT_OFF = "The answer was cut off because the connection to Ollama broke; try again."
# The client lets five families of errors through; AttributeError and TypeError are what it
# makes of JSON that is not an object.
FAILURES = (
    ollama.ResponseError,
    httpx.HTTPError,
    httpx.InvalidURL,
    ConnectionError,
    TimeoutError,
    ValueError,
    TypeError,
    AttributeError,
)


class Ollama:
    """The models of one Ollama server. May be used from several event loops at once."""

    def __init__(self, url: str, *, silence_timeout_s: float = 120.0, load_timeout_s: float = 300.0) -> None:
        """`url` with scheme and port. Timeouts are per piece of a stream, in seconds; the first
        piece may take `load_timeout_s` if that is longer, since the model may have to load."""
        self._url = url
        self._silence_timeout_s = silence_timeout_s
        self._load_timeout_s = load_timeout_s
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, ollama.AsyncClient] = WeakKeyDictionary()
        self._clients_lock = threading.Lock()
        self._shown: dict[str, Json] = {}

    @property
    def name(self) -> Literal["ollama"]:
        return "ollama"

    async def models(self) -> list[ModelInfo]:
        """All it has, in its order, newest first: chat and embedding models, local and cloud."""
        tags = objects(await self._ask("GET", "/api/tags"), "models")
        running, _ = await asyncio.gather(self._running_if_told(), self._show_new(tags))
        return [model_info(tag, self._shown.get(digest_of(tag), {}), running) for tag in tags]

    async def version(self) -> str:
        return str((await self._ask("GET", "/api/version")).get("version", ""))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[EnginePiece, None]:
        """Pieces as they come, `EngineDone` last.

        Cancelling the consumer or `aclose` closes the connection, which stops the model, also
        while Ollama is silent. Raises the `EngineError` that fits.
        """
        first_s = max(self._silence_timeout_s, self._load_timeout_s)
        tags = ThoughtTags()
        async with aclosing(self._lines("/api/chat", chat_body(request), request.model, first_s)) as lines:
            async for line in lines:
                for piece in pieces(line):
                    for told in tags.tell_apart(piece):
                        yield told
                if line.get("done") is True:
                    return
        # A stream that merely ends raises nothing in the client.
        raise StreamBroken(CUT_OFF)

    async def load(self, model: str, num_ctx: int) -> None:
        """Bring a model into memory with the window it will be asked with; another one reloads it."""
        body = {"model": model, "stream": False, "options": {"num_ctx": num_ctx}}
        await self._ask("POST", "/api/generate", body, model=model, timeout_s=self._load_timeout_s)

    async def unload(self, model: str) -> None:
        """Give a model's memory back and wait until Ollama says so. Raises `EngineBusy` after
        ten seconds: somebody else's request keeps it."""
        await self._ask(
            "POST", "/api/generate", {"model": model, "stream": False, "keep_alive": 0}, model=model
        )
        try:
            async with asyncio.timeout(FREEING_TIMEOUT_S):
                while full_name(model) in await self._running():
                    await asyncio.sleep(FREEING_POLL_S)
        except TimeoutError as error:
            raise EngineBusy(
                f"{model} is still at work for another program and keeps its memory for now."
            ) from error

    async def embedding_facts(self, model: str) -> EmbeddingFacts:
        """What tells an embedding model from another, without loading it. Raises `ModelMissing`."""
        tags = objects(await self._ask("GET", "/api/tags"), "models")
        tag = next((tag for tag in tags if full_name(name_of(tag)) == full_name(model)), None)
        if tag is None or is_remote(tag):
            raise ModelMissing(f"Ollama has no model named {model} here; pull it with `ollama pull {model}`.")
        shown = await self._ask("POST", "/api/show", {"model": model}, model=model)
        return embedding_facts(tag, shown)

    async def embed(self, model: str, texts: Sequence[str], num_ctx: int) -> list[list[float]]:
        """A row for each text, as long as Ollama makes it; a text longer than the window is cut.
        Cancelling closes the connection, which stops the work."""
        body = {
            "model": model,
            "input": list(texts),
            "truncate": True,
            "options": {"num_ctx": num_ctx},
            "keep_alive": EMBEDDING_KEEP_ALIVE,
        }
        answer = await self._ask("POST", "/api/embed", body, model=model, timeout_s=self._load_timeout_s)
        rows = answer.get("embeddings")
        if not isinstance(rows, list) or len(rows) != len(texts):
            raise EngineError(f"Ollama did not give a vector for each text; {model} may not be able to.")
        return rows

    async def pull(self, model: str) -> AsyncGenerator[PullProgress, None]:
        """Download a model. An interrupted download goes on where it stopped when asked again."""
        body = {"model": model, "stream": True}
        patience_s = self._load_timeout_s
        try:
            async with aclosing(self._lines("/api/pull", body, model, patience_s, patience_s)) as lines:
                async for line in lines:
                    yield pull_progress(line)
                    if line.get("status") == "success":
                        return
        except EngineError as error:
            raise _of_download(error, model) from error
        raise StreamBroken(_cut_off(model))

    async def close(self) -> None:
        """Close the connections, also those of other event loops that still run."""
        with self._clients_lock:
            clients = list(self._clients.items())
            self._clients.clear()
        for loop, client in clients:
            if loop is asyncio.get_running_loop():
                await _close(client)
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_close(client), loop))

    def _client(self) -> ollama.AsyncClient:
        """The client of the running loop: an httpx pool belongs to the loop it was first used in."""
        loop = asyncio.get_running_loop()
        with self._clients_lock:
            if loop not in self._clients:
                self._clients[loop] = ollama.AsyncClient(
                    self._url,
                    timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
                    # A kept connection would keep its loop alive, and break when Ollama restarts.
                    limits=httpx.Limits(max_keepalive_connections=0),
                    # Questions go to the address that the person set, through no proxy meant for the web.
                    follow_redirects=False,
                    trust_env=not _is_loopback(self._url),
                    # Reading the certificates takes tens of milliseconds of the event loop.
                    verify=self._url.startswith("https:"),
                )
            return self._clients[loop]

    # The client's typed answers drop `remote_host`, `capabilities` and more, so its request
    # facility is asked for plain objects.

    async def _ask(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        model: str | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> Json:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._client()._request(dict, method, path, json=body, stream=False)
        except FAILURES as error:
            raise self._translated(error, model, timeout_s, in_stream=False) from error

    async def _lines(
        self, path: str, body: Json, model: str, first_s: float, next_s: float | None = None
    ) -> AsyncGenerator[Json, None]:
        patience_s = first_s
        try:
            answer = await self._client()._request(dict, "POST", path, json=body, stream=True)
            async with aclosing(cast("AsyncGenerator[Json, None]", answer)) as lines:
                while True:
                    try:
                        async with asyncio.timeout(patience_s):
                            line = await anext(lines)
                    except StopAsyncIteration:
                        return
                    yield line
                    patience_s = next_s or self._silence_timeout_s
        except FAILURES as error:
            raise self._translated(error, model, patience_s, in_stream=True) from error

    async def _running(self) -> dict[str, Json]:
        """What is in memory, under its full name."""
        running = objects(await self._ask("GET", "/api/ps"), "models")
        return {full_name(name_of(model)): model for model in running}

    async def _running_if_told(self) -> dict[str, Json]:
        try:
            return await self._running()
        except EngineError:
            return {}

    async def _show_new(self, tags: Iterable[Json]) -> None:
        """Read the details of models not seen before; a changed model has another digest."""
        # Asking about a cloud model may make Ollama ask its maker.
        local = {digest_of(tag): name_of(tag) for tag in tags if not is_remote(tag)}
        self._shown = {digest: shown for digest, shown in self._shown.items() if digest in local}
        turn = asyncio.Semaphore(SHOWN_AT_ONCE)

        async def show(digest: str, name: str) -> None:
            try:
                async with turn:
                    self._shown[digest] = await self._ask("POST", "/api/show", {"model": name}, model=name)
            except EngineError:
                return  # listed without details, asked again with the next list

        try:
            async with asyncio.timeout(SHOW_BUDGET_S):
                await asyncio.gather(*(show(*new) for new in local.items() if new[0] not in self._shown))
        except TimeoutError:
            return

    def _translated(
        self, error: Exception, model: str | None, waited_s: float, *, in_stream: bool
    ) -> EngineError:
        match error:
            case ollama.ResponseError():
                return self._refusal(error, model)
            case httpx.InvalidURL() | httpx.UnsupportedProtocol():
                return EngineUnavailable(f"{self._url} is not an address; correct where Ollama listens.")
            case httpx.ConnectError() | httpx.ConnectTimeout():
                return self._not_there()
            case TimeoutError() | httpx.TimeoutException():
                return EngineSilent(
                    f"Ollama has said nothing for {waited_s:g} seconds; try again or choose a smaller model."
                )
            case httpx.HTTPError() if in_stream:
                return StreamBroken(CUT_OFF)
            case httpx.HTTPError() | ConnectionError():
                return self._not_there()
            case _ if in_stream:
                return StreamBroken(UNREADABLE)
        return self._somebody_else()

    def _refusal(self, error: ollama.ResponseError, model: str | None) -> EngineError:
        """Status −1 is an error object in the middle of a stream that began well."""
        said = " ".join(str(error.error).split())[:LONGEST_QUOTE]
        asked = model or "the model"
        match error.status_code:
            case 404 if model is None:
                return EngineUnavailable(
                    f"What answers at {self._url} is not Ollama; correct where Ollama listens."
                )
            case 404:
                return ModelMissing(f"Ollama has no model named {model}; pull it with `ollama pull {model}`.")
            case 429 | 503:
                return EngineBusy("Ollama is busy with other requests; try again in a moment.")
            case 401 | 403:
                return EngineError(
                    f"Ollama may not use {asked}; sign in with `ollama signin` or choose a local model."
                )
            case -1 | 500 if "memory" in said.lower():
                return EngineOutOfMemory(
                    f"There is not enough memory for {asked}; choose a smaller model or close other programs."
                )
            case -1 | 500 if "file does not exist" in said:
                return ModelMissing(f"There is no model named {asked} to pull; check the name.")
            case -1:
                return StreamBroken(f"Ollama broke off: {said}")
        return EngineError(f"Ollama refused the request: {said}")

    def _somebody_else(self) -> EngineUnavailable:
        return EngineUnavailable(f"What answers at {self._url} is not Ollama; correct where Ollama listens.")

    def _not_there(self) -> EngineUnavailable:
        return EngineUnavailable(f"Ollama does not answer at {self._url}; start it with `ollama serve`.")


async def _close(client: ollama.AsyncClient) -> None:
    await client.close()  # type: ignore[no-untyped-call]


# What Ollama says when a download breaks off, in Go's words.
NO_ROOM = ("no space left", "not enough space", "disk quota")
NO_WAY = ("no such host", "dial tcp", "i/o timeout", "unreachable", "tls handshake", "max retries", "eof")


def _of_download(error: EngineError, model: str) -> EngineError:
    """The same failure in words that fit a download."""
    match error:
        case ModelMissing():
            return ModelMissing(f"There is no model named {model} to download; check the name.")
        case EngineSilent():
            return EngineSilent(f"{error.message.partition(';')[0]}; start the download again, it goes on.")
    refusal = error.__cause__
    if not isinstance(refusal, ollama.ResponseError):
        return StreamBroken(_cut_off(model)) if isinstance(error, StreamBroken) else error
    said = refusal.error.lower()
    if any(words in said for words in NO_ROOM):
        return EngineError(
            f"There is no room for {model} on Ollama's disk; free some space and start the download again."
        )
    if any(words in said for words in NO_WAY):
        return EngineError(
            "Ollama cannot reach the place it downloads from; check the internet connection and try again."
        )
    return error


def _cut_off(model: str) -> str:
    return f"The download of {model} was cut off; start it again, it goes on where it stopped."


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
