"""The gate behind the guard: every request gets a person, or goes no further.

Knows paths, tabs and files that were just sent. It does not know how a person is recognised, and
not what belongs to anybody: each handler and each route asks for that by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from companion.app import Companion
from companion.config import Mode
from companion.domain import Person
from companion.door.arriving import Arriving
from companion.door.entrances import Entrance
from companion.door.tabs import Tabs
from companion.errors import CompanionError, DiskFull, InvalidInput, Refused, TooMany
from companion.people.identity import introduce

_OF_GRADIO = ("/login", "/logout")
"""Its own way in and out, beside ours."""
UPLOAD = "/gradio_api/upload"
JOIN = "/gradio_api/queue/join"
LONGEST_EVENT = 10_000_000
"""Bytes of what a page sends at once; files come another way."""
# Where several people come in: what our page does not need, and what would be one more way to
# files, streams or answers of others.
_CLOSED_TO_SEVERAL = (
    "/gradio_api/file",
    "/gradio_api/stream",
    "/gradio_api/call",
    "/gradio_api/component_server",
    "/gradio_api/process_recording",
    "/gradio_api/queue/status",
    "/gradio_api/openapi.json",
    "/gradio_api/token",
    "/gradio_api/user",
    "/gradio_api/login_check",
    "/gradio_api/mcp",
)


class Gate:
    """ASGI wrapper. `entrance` says who asks."""

    def __init__(self, app: ASGIApp, companion: Companion, entrance: Entrance, mode: Mode) -> None:
        self._app = app
        self._companion = companion
        self._entrance = entrance
        self._several = mode != "local"
        self._tabs = Tabs()
        self._arriving = Arriving(companion.settings.uploads_dir)
        companion.when_gone(self._tabs.forget)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and self._several:
            # Nothing of ours speaks so.
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            answer = await self._entrance.answer(request) or await self._pass(request, send)
        except (Refused, TooMany, InvalidInput, DiskFull) as error:
            answer = _refused(error)
        if answer:
            await answer(scope, receive, send)

    async def _pass(self, request: Request, send: Send) -> Response | None:
        """None: it went on, and was answered there."""
        person = await self._entrance.person(request)
        if person is None:
            refusal = self._entrance.refusal(request)
            if refusal is None:
                await self._app(request.scope, request.receive, send)
            return refusal
        if self._several and request.url.path.startswith(_OF_GRADIO):
            raise Refused("This part of the server is switched off.")
        introduce(request.scope, person)
        receive = request.receive
        path = request.url.path.rstrip("/")
        if path == UPLOAD and request.method == "POST":
            size = _announced(request)
            await asyncio.to_thread(self._companion.quotas.require_upload, person.owner, size)
            await asyncio.to_thread(self._companion.library.require_room, size)
            send = _reading_along(send, lambda paths: self._note_files(person, paths))
            with self._arriving.one():
                await self._app(request.scope, receive, send)
            return None
        if self._several and path.startswith("/gradio_api/"):
            receive = await self._own_tab(request, person)
            if path == JOIN:
                send = _reading_along(send, lambda joined: self._note_event(person, joined))
        await self._app(request.scope, receive, send)
        return None

    async def _own_tab(self, request: Request, person: Person) -> Receive:
        """What is left to be read of the request. Raises Refused for another person's tab."""
        path = request.url.path
        if path.startswith(_CLOSED_TO_SEVERAL):
            raise Refused("This part of the server is switched off.")
        named = [request.query_params.get("session_hash"), *request.query_params.getlist("session_hash")]
        if path.startswith("/gradio_api/heartbeat/"):
            named.append(path.split("/")[3])
        receive = request.receive
        if request.method == "POST":
            event = await _event(request)
            named.append(event.get("session_hash"))
            if path.rstrip("/").endswith(("/cancel", "/reset")):
                named.append(event.get("event_id"))
            receive = _replayed(request, json.dumps(event).encode())
        for tab in {str(name) for name in named if name}:
            if not self._tabs.belongs(tab, person.owner):
                raise Refused("This is another person's page; load yours again.")
        return receive

    def _note_files(self, person: Person, paths: Any) -> None:
        self._companion.arrivals.note(person.owner, map(Path, paths))

    def _note_event(self, person: Person, joined: Any) -> None:
        """Only who asked for something may cancel it."""
        self._tabs.belongs(str(joined["event_id"]), person.owner)


def _reading_along(send: Send, note: Callable[[Any], None]) -> Send:
    """`note` is given an answer that succeeded, as JSON, before the client has the whole of it."""
    status, body = 0, b""

    async def reading(message: Message) -> None:
        nonlocal status, body
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            body += message.get("body", b"")
            if status == 200 and not message.get("more_body"):
                note(json.loads(body))
        await send(message)

    return reading


async def _event(request: Request) -> dict[str, Any]:
    """What a page sends, as JSON. Raises InvalidInput for anything else."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_EVENT:
            raise InvalidInput(f"This is more than the {LONGEST_EVENT // 1_000_000} MB a request may have.")
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise InvalidInput("The request's body is not valid JSON.")
    return event


def _replayed(request: Request, body: bytes) -> Receive:
    """The body once more, in one piece and written in one way; then what the client does."""
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            return await request.receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdigit() else 0


def _refused(error: CompanionError) -> Response:
    status = {Refused: 403, TooMany: 429, DiskFull: 507}.get(type(error), 422)
    return JSONResponse({"error": {"code": error.code, "message": error.message}}, status)
