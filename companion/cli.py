"""The commands: `serve`, `migrate`, `ingest FILE…`, `search QUERY`, and the options they share.

Knows arguments, exit codes and where the log goes. It does not know how anything is done.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, NoReturn

import httpx
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from companion import __version__
from companion.app import Companion, build
from companion.config import Settings, place_uploads
from companion.domain import LOCAL_OWNER, DocumentState
from companion.errors import CompanionError, FolderLocked, InvalidInput
from companion.web import EndSignal, address_file, refuse_exposure, serve

LOG_BYTES = 1_000_000
LOG_FILES = 5
PATIENCE = httpx.Timeout(10.0, read=None)
"""A large file is read for minutes before the app answers."""


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m companion …`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m companion", description="Ask your own documents.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = _options()
    commands.add_parser("serve", parents=[shared], help="serve the page and the HTTP interface")
    commands.add_parser("migrate", parents=[shared], help="bring the database to this version's tables")
    ingest = commands.add_parser("ingest", parents=[shared], help="add documents to the library")
    ingest.add_argument("files", nargs="+", type=Path, metavar="FILE")
    search = commands.add_parser("search", parents=[shared], help="find passages")
    search.add_argument("query", metavar="QUERY")
    arguments = vars(parser.parse_args(argv))
    command: str = arguments.pop("command")
    work = {
        "serve": _serve,
        "migrate": _migrate,
        "ingest": lambda settings: _ingest(settings, arguments["files"]),
        "search": lambda settings: _search(settings, arguments["query"]),
    }[command]
    return _run(arguments, work)


def serve_app(argv: Sequence[str] | None = None) -> int:
    """`python companion_app.py …`; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="companion_app.py",
        description=f"LLM Companion {__version__}: ask your own documents in the browser.",
        epilog="Each option is COMPANION_<NAME> in the environment, too.",
        parents=[_options()],
    )
    return _run(vars(parser.parse_args(argv)), _serve)


def leave(code: int) -> NoReturn:
    """End the process now: what had to be closed is, and a thread that hangs must not hold it."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(arguments: dict[str, Any], work: Callable[[Settings], int]) -> int:
    try:
        return work(settings_from(arguments))
    except CompanionError as error:
        print(error.message, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


# --- settings -----------------------------------------------------------------------------


def settings_from(arguments: dict[str, Any]) -> Settings:
    """Settings from given options over the environment over defaults. Raises `InvalidInput`."""
    given = {name: value for name, value in arguments.items() if name in Settings.model_fields}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise InvalidInput(_sentence(error)) from None
    # Children run in another folder, so no path may depend on where we stand.
    paths = {name: value.expanduser().absolute() for name, value in settings if isinstance(value, Path)}
    return settings.model_copy(update=paths)


def _sentence(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    name = str(problem["loc"][0])
    limits = _limits(Settings.model_fields[name])
    reason = problem["msg"][0].lower() + problem["msg"][1:]
    wanted = f"it is a number from {limits[0]} to {limits[1]}" if limits else reason
    return f"{_option(name)} (COMPANION_{name.upper()}) cannot be {problem['input']!r}: {wanted}."


def _limits(field: FieldInfo) -> tuple[float, float] | None:
    found = {
        name: getattr(limit, name)
        for limit in field.metadata
        for name in ("ge", "le")
        if hasattr(limit, name)
    }
    return (found["ge"], found["le"]) if len(found) == 2 else None


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    for name, field in Settings.model_fields.items():
        kind: dict[str, Any] = {"metavar": _metavar(field)}
        if field.annotation is bool:
            kind = {"action": argparse.BooleanOptionalAction}
        parser.add_argument(
            _option(name), dest=name, default=argparse.SUPPRESS, help=_help(field).replace("%", "%%"), **kind
        )
    return parser


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(field: FieldInfo) -> str:
    kinds = typing.get_args(field.annotation) if _is_union(field.annotation) else (field.annotation,)
    words = {int: "N", float: "N", Path: "PATH"}
    return next((words[kind] for kind in kinds if kind in words), "TEXT")


def _is_union(annotation: object) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _help(field: FieldInfo) -> str:
    limits = _limits(field)
    between = f", {limits[0]} to {limits[1]}" if limits else ""
    default = field.get_default(call_default_factory=True)
    shown = default.value if isinstance(default, Enum) else default
    return f"{field.description}{between}" + ("" if shown is None else f" (default: {shown})")


# --- log ----------------------------------------------------------------------------------


def set_up_log(settings: Settings) -> None:
    """Our own lines at the chosen level, libraries' warnings; both without anybody's text."""
    # Delayed, because nothing may touch the folder before it is ours.
    file = RotatingFileHandler(
        settings.log_path, maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, encoding="utf-8", delay=True
    )
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    for handler in (file, terminal):
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [file, terminal]
    # Libraries log texts and addresses below this.
    root.setLevel(logging.WARNING)
    logging.getLogger("companion").setLevel(settings.log_level)


# --- commands -----------------------------------------------------------------------------


def _serve(settings: Settings) -> int:
    refuse_exposure(settings)
    end = EndSignal()
    companion = _open(settings)
    try:
        serve(companion, settings, end, lambda url: print(f"LLM Companion is at {url}", flush=True))
    finally:
        companion.close()
    return 0


def _migrate(settings: Settings) -> int:
    """Starting the app does it, too."""
    _open(settings).close()
    print(f"{settings.database_path} is up to date.")
    return 0


def _open(settings: Settings) -> Companion:
    place_uploads(settings)
    set_up_log(settings)
    companion = build(settings)
    # The folder is ours, so an address left by a killed app leads nowhere, or to somebody else.
    address_file(settings).unlink(missing_ok=True)
    return companion


def _ingest(settings: Settings, files: Sequence[Path]) -> int:
    """Add files through whoever has the folder; 1 if one of them failed."""
    with _library(settings) as library:
        failed = 0
        for path in files:
            trouble = library.add(path)
            print(f"{path.name}: {trouble or 'added'}", file=sys.stderr if trouble else sys.stdout)
            failed += bool(trouble)
    return 1 if failed else 0


def _search(settings: Settings, query: str) -> int:
    with _library(settings) as library:
        for name, score, text in library.search(query):
            print(f"{score:.3f}  {name}\n    {' '.join(text.split())[:300]}")
    return 0


class _Here:
    """The library in this process, warmed up."""

    def __init__(self, companion: Companion) -> None:
        self._companion = companion

    def add(self, path: Path) -> str | None:
        """None, or a sentence that says why not."""
        try:
            document = self._companion.library.add(LOCAL_OWNER, path.name, _readable(path))
        except CompanionError as error:
            return error.message
        return document.error if document.state is DocumentState.FAILED else None

    def search(self, query: str) -> list[tuple[str, float, str]]:
        """Document, score and text of the passages found, best first."""
        top_k = self._companion.sessions.preferences().top_k
        found = self._companion.library.search(LOCAL_OWNER, query, top_k)
        return [(hit.document_name, hit.score, hit.passage.text) for hit in found.hits]


class _There:
    """The library of the running app, over its HTTP interface."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def add(self, path: Path) -> str | None:
        """None, or a sentence that says why not."""
        try:
            with _readable(path).open("rb") as file:
                answer = self._client.post("/api/documents", files={"files": (path.name, file)})
        except CompanionError as error:
            return error.message
        return None if answer.is_success else str(answer.json()["error"]["message"])

    def search(self, query: str) -> list[tuple[str, float, str]]:
        """Document, score and text of the passages found, best first."""
        answer = self._client.get("/api/search", params={"q": query})
        hits = answer.raise_for_status().json()["hits"]
        return [(hit["document_name"], hit["score"], hit["passage"]["text"]) for hit in hits]


def _readable(path: Path) -> Path:
    if not path.is_file() or not os.access(path, os.R_OK):
        raise InvalidInput("there is no such file, or it cannot be read.")
    return path


@contextmanager
def _library(settings: Settings) -> Iterator[_Here | _There]:
    """The library of the data folder: the running app's if it has the lock, else ours."""
    try:
        companion = _open(settings)
    except FolderLocked as locked:
        with _client(settings, locked) as client:
            yield _There(client)
        return
    try:
        companion.start()
        while companion.health().state == "warming":
            time.sleep(0.05)
        yield _Here(companion)
    finally:
        companion.close()


@contextmanager
def _client(settings: Settings, locked: FolderLocked) -> Iterator[httpx.Client]:
    try:
        address = address_file(settings).read_text(encoding="utf-8")
        # Proxies of the environment are not asked: the app is on this machine.
        with httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False) as client:
            yield client
    except FileNotFoundError:
        raise locked from None
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise FolderLocked("The running app does not answer as it should; close it and try again.") from error
