"""One server with two doors: the page at `/`, the HTTP interface at `/api`, one guard before both.

Knows Gradio's launch, hosts, origins, headers and signals. It does not know what is on the
page or what a route answers.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from companion.api.app import NO_TELEMETRY, create_api
from companion.api.uploads import incoming_folder
from companion.app import Companion
from companion.config import Settings
from companion.errors import Conflict, Refused

if TYPE_CHECKING:
    import gradio as gr

log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-src 'none'; frame-ancestors 'none'"
)
GUARD_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_REPLACED_HEADERS = frozenset(name for name, _ in GUARD_HEADERS)

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

CLOSE_SECONDS = 9
"""A supervisor kills ten seconds after it asked; by then we are gone by ourselves."""
GRACE_SECONDS = 3
"""For answers on their way out."""
CACHE_SWEEP_S = (3600, 86400)
"""Gradio's copies of uploads: looked at hourly, kept for a day."""


# --- the guard ----------------------------------------------------------------------------


class Guard:
    """ASGI wrapper that lets only this server's own pages in, and sends its headers on all answers.

    Must be the outermost layer: Gradio answers CORS preflights and server errors by itself.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        reason = self._refusal(scope)
        if scope["type"] == "websocket":
            await (_close(send) if reason else self._app(scope, receive, send))
            return
        if reason:
            await _forbid(_guarded(send), reason)
            return
        await self._app(scope, receive, _guarded(send))

    def _refusal(self, scope: Scope) -> str | None:
        """Why this request may not pass, as a sentence; None if it may."""
        hosts, origins = _header(scope, b"host"), _header(scope, b"origin")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return "This address is not one that this server answers to."
        scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
        if origins and origins != [f"{scheme}://{hosts[0]}"]:
            return "Another site may not use this server."
        path: str = scope["path"]
        if path.startswith(_CLOSED_PREFIXES) or _REMOTE_FILE.match(path):
            return "This part of the server is switched off."
        return None


def _header(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1").lower() for key, value in scope["headers"] if key.lower() == name]


def _guarded(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [
                (key, value) for key, value in message.get("headers", ()) if not _is_replaced(key.lower())
            ]
            message = {**message, "headers": [*kept, *GUARD_HEADERS]}
        await send(message)

    return guarded


def _is_replaced(name: bytes) -> bool:
    return name in _REPLACED_HEADERS or name.startswith(b"access-control-")


async def _forbid(send: Send, reason: str) -> None:
    body = json.dumps({"error": {"code": Refused.code, "message": reason}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _close(send: Send) -> None:
    await send({"type": "websocket.close", "code": 1008})


def allowed_hosts(host: str, port: int) -> frozenset[str]:
    """`Host` headers under which a server on this loopback address may be reached."""
    names = {"localhost", "127.0.0.1", "[::1]", _bracketed(host).lower()}
    with_port = {f"{name}:{port}" for name in names}
    return frozenset(with_port | names if port == 80 else with_port)


# --- what may be served -------------------------------------------------------------------


def refuse_exposure(settings: Settings) -> None:
    """Nothing but this machine may reach a server without logins. Raises `Refused`."""
    for name in ("share", "demo"):
        if getattr(settings, name):
            raise Refused(f"Sharing needs logins, and this version has none yet; start without --{name}.")
    if not _is_loopback(settings.host):
        raise Refused(
            f"Other machines could reach {settings.host}, and this version has no logins yet; "
            "start with --host 127.0.0.1."
        )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


# --- launch and end -----------------------------------------------------------------------


class EndSignal:
    """Remembers that the process was asked to end; a second request ends it at once.

    Gradio dies at once on SIGTERM by itself, so this must be in place before it is launched.
    """

    def __init__(self) -> None:
        self.seen = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.seen:
            os._exit(128 + number)
        self.seen = True

    def wait(self) -> None:
        # Not an Event: setting it in a signal handler can deadlock with the waiting thread.
        while not self.seen:
            time.sleep(0.1)


def serve(companion: Companion, settings: Settings, end: EndSignal, announce: Callable[[str], None]) -> None:
    """Build the page, serve until asked to end, close everything. Raises `Refused`, `Conflict`.

    `announce` is given the address once it answers.

    The environment must be set by `config.place_uploads` before: Gradio reads it at import.
    """
    refuse_exposure(settings)
    # Gradio takes seconds to import: only the program that serves pays for it.
    from companion.ui.page import build_page, launch_arguments

    demo = build_page(companion)
    launch(demo, companion, settings, **launch_arguments())
    try:
        announce(url_of(settings))
        companion.start()
        end.wait()
    finally:
        stop(demo, companion)


def url_of(settings: Settings) -> str:
    return f"http://{_bracketed(settings.host)}:{settings.port}"


def address_file(settings: Settings) -> Path:
    """Where the running app leaves its address, for the commands that go to it."""
    return settings.data_dir / "address"


def launch(demo: gr.Blocks, companion: Companion, settings: Settings, **page: Any) -> None:
    """Serve `demo` and the interface in Gradio's own thread. Raises `Conflict` on a taken port."""
    _empty_upload_cache(settings)
    demo.delete_cache = CACHE_SWEEP_S
    try:
        demo.launch(
            server_name=_bracketed(settings.host),
            server_port=settings.port,
            app_kwargs={
                "routes": [Mount("/api", create_api(companion))],
                "lifespan": _guarded_lifespan(allowed_hosts(settings.host, settings.port)),
                "telemetry": NO_TELEMETRY,
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
            },
            blocked_paths=blocked_paths(settings),
            max_file_size=f"{settings.max_upload_mb}mb",
            share=False,
            inbrowser=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            run_history=False,
            enable_monitoring=False,
            show_error=False,
            footer_links=[],
            max_threads=100,
            prevent_thread_lock=True,
            quiet=True,
            **page,
        )
    except OSError as error:
        raise Conflict(
            f"Port {settings.port} of {settings.host} cannot be opened; choose another one with --port."
        ) from error
    _log_with_us()
    address_file(settings).write_text(url_of(settings), encoding="utf-8")


def _guarded_lifespan(hosts: frozenset[str]) -> Any:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        # `middleware=` would put the guard below Gradio's CORS layer and the error page. The
        # stack exists by now, and no socket is open yet.
        assert app.middleware_stack is not None
        app.middleware_stack = Guard(app.middleware_stack, hosts)
        yield

    return lifespan


def blocked_paths(settings: Settings) -> list[str]:
    """Everything in the data folder but Gradio's own upload folder, which it must read."""
    database = settings.database_path
    named = [
        database,
        settings.index_dir,
        settings.originals_dir,
        settings.log_path,
        incoming_folder(settings),
    ]
    named += [database.with_name(database.name + end) for end in ("-wal", "-shm", "-journal")]
    found = [path for path in settings.data_dir.iterdir() if path != settings.uploads_dir]
    return sorted({str(path.absolute()) for path in (*named, *found)})


def _empty_upload_cache(settings: Settings) -> None:
    """Copies that a killed process left; documents have their original elsewhere."""
    shutil.rmtree(settings.uploads_dir, ignore_errors=True)
    settings.uploads_dir.mkdir(parents=True, exist_ok=True)


def _log_with_us() -> None:
    """uvicorn set up its own handlers at launch; its errors belong into our log."""
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def stop(demo: gr.Blocks, companion: Companion) -> None:
    """Take no more requests, end the work, let go of the port. Never takes ten seconds."""
    if hasattr(signal, "alarm"):
        # The default action needs no Python: it works when everything else hangs.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CLOSE_SECONDS)
    # Open pages hold a connection each for ever.
    demo.server.config.timeout_graceful_shutdown = GRACE_SECONDS
    demo.server.should_exit = True
    companion.close()
    demo.close(verbose=False)
    address_file(companion.settings).unlink(missing_ok=True)
