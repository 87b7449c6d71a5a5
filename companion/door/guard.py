"""The guard before everything: only this server's own pages come in, and its headers go out.

Knows hosts, origins, headers and paths. It does not know who asks.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Container, Iterable

import psutil
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from companion.config import Settings
from companion.errors import Refused

_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-src 'none'; frame-ancestors "
)
CONTENT_SECURITY_POLICY = _POLICY + "'none'"
FRAMES_OF_A_SPACE = "https://huggingface.co https://*.hf.space"
"""Sites that show a demo in a frame. Nobody signs in there, so nobody can be tricked into a click
that costs them something of their own."""

# Parts of Gradio that this page does not use: they call out, show what others do, or write files.
_CLOSED_PREFIXES = (
    "/monitoring",
    "/gradio_api/proxy=",
    "/gradio_api/runs",
    "/gradio_api/run-history",
    "/gradio_api/deep_link",
    "/gradio_api/dev/",
    "/gradio_api/profiling",
    "/gradio_api/vibe-",
    "/gradio_api/undo-vibe-edit",
)
# `file=http://…` makes Gradio fetch it. One letter before the colon is a Windows drive.
_REMOTE_FILE = re.compile(r"/gradio_api/file[=/]\s*([a-z][a-z0-9+.-]+:|//|\\\\)", re.IGNORECASE)


class Guard:
    """ASGI wrapper that lets only this server's own pages in, and sends its headers on all answers.

    Must be the outermost layer: Gradio answers CORS preflights and server errors by itself.
    """

    def __init__(
        self, app: ASGIApp, hosts: Container[str], *, behind: bool = False, frames: str = ""
    ) -> None:
        """`hosts`: `Host` headers that are answered. `behind`: others may have spoken HTTPS before us,
        so that a page of ours may have either scheme. `frames`: sites that may show ours in a frame."""
        self._app = app
        self._hosts = hosts
        self._schemes = ("http", "https") if behind else ()
        policy = _POLICY + frames if frames else CONTENT_SECURITY_POLICY
        self._headers = (
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            # A form, such as the login, names its origin only under the second; neither tells others.
            (b"referrer-policy", b"same-origin" if behind else b"no-referrer"),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        reason = self._refusal(scope)
        if scope["type"] == "websocket":
            await (_close(send) if reason else self._app(scope, receive, send))
            return
        if reason:
            await _forbid(self._guarded(send), reason)
            return
        await self._app(scope, receive, self._guarded(send))

    def _refusal(self, scope: Scope) -> str | None:
        """Why this request may not pass, as a sentence; None if it may."""
        hosts, origins = headers_of(scope, b"host"), headers_of(scope, b"origin")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return "This address is not one that this server answers to."
        scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
        own = [[f"{each}://{hosts[0]}"] for each in self._schemes or (scheme,)]
        if origins and origins not in own:
            return "Another site may not use this server."
        path: str = scope["path"]
        if path.startswith(_CLOSED_PREFIXES) or _REMOTE_FILE.match(path):
            return "This part of the server is switched off."
        return None

    def _guarded(self, send: Send) -> Send:
        replaced = {name for name, _ in self._headers}

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [
                    (key, value)
                    for key, value in message.get("headers", ())
                    if key.lower() not in replaced and not key.lower().startswith(b"access-control-")
                ]
                message = {**message, "headers": [*kept, *self._headers]}
            await send(message)

        return guarded


def headers_of(scope: Scope, name: bytes) -> list[str]:
    """All values of a header, in small letters."""
    return [value.decode("latin-1").lower() for key, value in scope["headers"] if key.lower() == name]


async def _forbid(send: Send, reason: str) -> None:
    body = json.dumps({"error": {"code": Refused.code, "message": reason}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _close(send: Send) -> None:
    await send({"type": "websocket.close", "code": 1008})


# --- under which names --------------------------------------------------------------------


def allowed_hosts(host: str, port: int) -> frozenset[str]:
    """`Host` headers under which a server on this loopback address may be reached."""
    names = {"localhost", "127.0.0.1", "[::1]", bracketed(host).lower()}
    with_port = {f"{name}:{port}" for name in names}
    return frozenset(with_port | names if port == 80 else with_port)


class Names:
    """Names under which others may reach the server, on whatever port a proxy has."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.lower() for name in names if name}

    def add(self, name: str) -> None:
        self._names.add(name.lower())

    def __contains__(self, host: object) -> bool:
        found = re.fullmatch(r"(\[[0-9a-f:.%]+\]|[^:\[\]]+)(:\d{1,5})?", str(host))
        return found is not None and found[1] in self._names


def names_of(settings: Settings) -> Names:
    """This machine's own, as far as others can know them, and those that were given."""
    given = [name.strip() for name in (settings.host_names or "").split(",")]
    names = {"localhost", "127.0.0.1", "[::1]", bracketed(settings.host), *given}
    if settings.host.strip("[]") in ("0.0.0.0", "::"):
        machine = socket.gethostname()
        names |= {machine, f"{machine}.local", *_own_addresses()}
    return Names(names)


def _own_addresses() -> set[str]:
    listed = (address for card in psutil.net_if_addrs().values() for address in card)
    return {
        bracketed(each.address.partition("%")[0])
        for each in listed
        if each.family in (socket.AF_INET, socket.AF_INET6)
    }


def bracketed(host: str) -> str:
    """An address as it stands in a URL."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
