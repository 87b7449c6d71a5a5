"""How many pages are open, and of which start each answer is.

Knows the connection that a page keeps, and ends it with the app. It does not know whose pages they
are, or what they show.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from companion.app import Companion

_HEARTBEAT = "/gradio_api/heartbeat/"


class OpenPages:
    """ASGI wrapper that counts open pages: each of them holds one connection as long as it lives.

    Every answer carries the id of this start, so that a page of an earlier one notices.
    """

    def __init__(self, app: ASGIApp, companion: Companion) -> None:
        """Inside the event loop of the server."""
        self._app = app
        self._companion = companion
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        companion.before_close(self._end)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        page = scope["path"].startswith(_HEARTBEAT)
        receive = self._until_the_end(receive) if page else receive
        self._companion.open_pages += page
        try:
            await self._app(scope, receive, _marked(send, self._companion.started_id))
        finally:
            self._companion.open_pages -= page

    def _end(self) -> None:
        with suppress(RuntimeError):  # The loop has ended first.
            self._loop.call_soon_threadsafe(self._over.set)

    def _until_the_end(self, receive: Receive) -> Receive:
        """Else the server waits for pages that stay, and then breaks them off with an error in the log."""

        async def received() -> Message:
            said, over = asyncio.ensure_future(receive()), asyncio.ensure_future(self._over.wait())
            try:
                await asyncio.wait((said, over), return_when=asyncio.FIRST_COMPLETED)
                return said.result() if said.done() else {"type": "http.disconnect"}
            finally:
                said.cancel()
                over.cancel()

        return received


def _marked(send: Send, started_id: str) -> Send:
    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            mark = (b"x-companion-start", started_id.encode())
            message = {**message, "headers": [*message.get("headers", ()), mark]}
        await send(message)

    return marked
