"""No request body grows without end: the limit is counted while it comes in.

Knows bytes. It does not know what they mean; uploads count their own files.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_JSON_BYTES = 2_000_000


class BodyLimit:
    """ASGI wrapper: bodies other than multipart forms end with 413 beyond `max_bytes`."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_JSON_BYTES) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_form(scope):
            await self._app(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                raise HTTPException(
                    413, f"This is more than the {self._max_bytes // 1_000_000} MB a request may have."
                )
            return message

        await self._app(scope, counted, send)


def _is_form(scope: Scope) -> bool:
    return any(
        key == b"content-type" and value.lower().startswith(b"multipart/form-data")
        for key, value in scope["headers"]
    )
