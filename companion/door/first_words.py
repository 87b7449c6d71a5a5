"""What stands at the beginning of the page, before anything of Gradio's.

Knows where a page begins. It does not know what the words are for.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class FirstWords:
    """ASGI wrapper that puts something at the beginning of the page itself.

    What Gradio takes as `head` it adds from its own scripts, when it has long opened connections.
    """

    def __init__(self, app: ASGIApp, words: str) -> None:
        self._app = app
        self._words = b"<head>" + words.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            await self._app(scope, receive, send)
            return
        # Not compressed: it is changed here.
        plain = [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]
        await self._app({**scope, "headers": plain}, receive, self._beginning(send))

    def _beginning(self, send: Send) -> Send:
        start: Message = {}

        async def begin(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                # The length is known with the body, which comes in one piece.
                start = message
                return
            if start:
                body = message.get("body", b"").replace(b"<head>", self._words, 1)
                more = len(body) - len(message.get("body", b""))
                await send({**start, "headers": [_lengthened(pair, more) for pair in start["headers"]]})
                start, message = {}, {**message, "body": body}
            await send(message)

        return begin


def _lengthened(pair: tuple[bytes, bytes], more: int) -> tuple[bytes, bytes]:
    name, value = pair
    return (name, str(int(value) + more).encode()) if name.lower() == b"content-length" else pair
