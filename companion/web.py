"""One server with two doors: the page at `/`, the HTTP interface at `/api`, guard and gate before both.

Knows Gradio's launch, hosts, origins, headers and signals. It does not know what is on the
page or what a route answers.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.types import ASGIApp

from companion.api.app import NO_TELEMETRY
from companion.api.doors import doors
from companion.api.uploads import incoming_folder
from companion.app import Companion
from companion.config import Settings
from companion.door.entrances import Entrance, HouseKey, OwnMachine, SignedIn, Visiting
from companion.door.first_words import FirstWords
from companion.door.gate import Gate
from companion.door.guard import FRAMES_OF_A_SPACE, Guard, allowed_hosts, bracketed, names_of
from companion.door.pages import OpenPages
from companion.errors import Conflict, Refused
from companion.memory import collect_from_now_on
from companion.people.secrets import new_secret

if TYPE_CHECKING:
    import gradio as gr

log = logging.getLogger(__name__)

NOBODY = (
    "Others could reach the app, and nobody could sign in; add a user first: "
    "python -m companion user add NAME."
)
CLOSE_SECONDS = 9
"""A supervisor kills ten seconds after it asked; by then we are gone by ourselves."""
GRACE_SECONDS = 3
"""For answers on their way out."""
CACHE_SWEEP_S = (3600, 86400)
"""Gradio's copies of uploads: looked at hourly, kept for a day."""


# --- what may be served -------------------------------------------------------------------


def refuse_exposure(settings: Settings) -> None:
    """Others get in only where somebody can sign in. Raises `Refused` before anything is written."""
    if settings.mode == "shared" and not settings.database_path.exists():
        raise Refused(NOBODY)


def _refuse_nobody(companion: Companion) -> None:
    if companion.settings.mode == "shared" and not companion.people.list():
        raise Refused(NOBODY)


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
    _refuse_nobody(companion)
    # Gradio takes seconds to import: only the program that serves pays for it.
    from companion.ui.page import build_page, launch_arguments

    demo = build_page(companion)
    launch(demo, companion, settings, **launch_arguments(settings.mode))
    try:
        public = f", and for others at {demo.share_url}" if demo.share_url else ""
        announce(url_of(settings) + public)
        companion.start()
        collect_from_now_on()
        end.wait()
    finally:
        stop(demo, companion)


def url_of(settings: Settings) -> str:
    """The address on this machine."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    host = settings.host.strip("[]")
    return f"http://{bracketed(everywhere.get(host, host))}:{settings.port}"


def address_file(settings: Settings) -> Path:
    """Where the running app leaves its address, for the commands that go to it."""
    return settings.data_dir / "address"


def key_file(settings: Settings) -> Path:
    """Where it leaves the key with which those commands come in."""
    return settings.data_dir / "key"


def launch(
    demo: gr.Blocks, companion: Companion, settings: Settings, *, first: str = "", **page: Any
) -> None:
    """Serve `demo` and the interface in Gradio's own thread. Raises `Conflict` on a taken port.

    `first` stands at the beginning of the page, before anything of Gradio's.
    """
    _empty_upload_cache(settings)
    door = _Door(companion, first)
    demo.delete_cache = CACHE_SWEEP_S
    try:
        demo.launch(
            server_name=bracketed(settings.host),
            server_port=settings.port,
            app_kwargs={
                "routes": doors(companion),
                "lifespan": door.lifespan,
                "telemetry": NO_TELEMETRY,
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
            },
            blocked_paths=blocked_paths(settings),
            max_file_size=f"{settings.max_upload_mb}mb",
            share=settings.share,
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
        reason = ": another program uses it" if _is_taken(settings) else ""
        raise Conflict(
            f"Port {settings.port} of {settings.host} cannot be opened{reason}; "
            "choose another one with --port."
        ) from error
    _log_with_us()
    _leave_address(settings)
    if settings.share:
        _open_tunnel_to(door, demo)


def _is_taken(settings: Settings) -> bool:
    try:
        with socket.create_connection((settings.host.strip("[]"), settings.port), timeout=1):
            return True
    except OSError:
        return False


def _open_tunnel_to(door: _Door, demo: gr.Blocks) -> None:
    """The public name is known only now. Raises `Conflict` if there is none."""
    name = urlsplit(demo.share_url or "").hostname
    if not name:
        demo.close(verbose=False)
        raise Conflict(
            "The public link could not be made; check the internet connection, or start without --share."
        )
    door.names.add(name)


def _leave_address(settings: Settings) -> None:
    try:
        address_file(settings).write_text(url_of(settings), encoding="utf-8")
    except OSError as error:
        # On a full disk, say. The page works; only commands beside the app do not find it.
        log.warning("the address could not be written down: %s", error)


class _Door:
    """Everything that stands before page and interface, from the outside in."""

    def __init__(self, companion: Companion, first: str) -> None:
        self.names = names_of(companion.settings)
        self._companion = companion
        self._first = first

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        # `middleware=` would put the guard below Gradio's CORS layer and the error page. The
        # stack exists by now, and no socket is open yet.
        assert app.middleware_stack is not None
        page = FirstWords(app.middleware_stack, self._first)
        app.middleware_stack = self._guarded(self._gated(OpenPages(page, self._companion)))
        yield

    def _gated(self, app: ASGIApp) -> ASGIApp:
        mode = self._companion.settings.mode
        return Gate(app, self._companion, _entrance(self._companion), mode)

    def _guarded(self, app: ASGIApp) -> ASGIApp:
        settings = self._companion.settings
        if settings.mode == "local":
            return Guard(app, allowed_hosts(settings.host, settings.port))
        frames = FRAMES_OF_A_SPACE if settings.mode == "demo" else ""
        return Guard(app, self.names, behind=True, frames=frames)


def _entrance(companion: Companion) -> Entrance:
    settings = companion.settings
    if settings.mode == "local":
        return OwnMachine()
    key = HouseKey(_new_key(settings))
    if settings.mode == "demo":
        return Visiting(companion.visitors, key)
    return SignedIn(companion.people, key, settings.port)


def _new_key(settings: Settings) -> str:
    """For whoever can read the data folder; another one after each start."""
    key, path = new_secret(), key_file(settings)
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(key)
    return key


def blocked_paths(settings: Settings) -> list[str]:
    """Everything in the data folder but Gradio's own upload folder, which it must read."""
    database = settings.database_path
    named = [
        database,
        settings.index_dir,
        settings.originals_dir,
        settings.log_path,
        key_file(settings),
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
    for path in (address_file(companion.settings), key_file(companion.settings)):
        path.unlink(missing_ok=True)
