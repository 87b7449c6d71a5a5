"""The commands: `serve`, `migrate`, `ingest FILE…`, `search QUERY`, `backup FILE`, `restore FILE`,
`doctor`, `evaluate DIR`, `user …`.

Knows arguments, exit codes and where the log goes. It does not know how anything is done.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, NoReturn

from companion import __version__
from companion.app import Companion, build
from companion.background.machine_load import LoadReader
from companion.backup.restore import restore
from companion.backup.take import take
from companion.config import Settings, place_uploads
from companion.doctor.examine import examine, examine_idle
from companion.doctor.findings import Finding, healthy, unanswered
from companion.domain import Embedder
from companion.embedding import load_embedder, load_for_questions, open_deep
from companion.errors import CompanionError, FolderLocked, StorageError
from companion.inference.deep import DeepEmbedder
from companion.options import options, settings_from
from companion.people import command as users
from companion.quality import command as quality
from companion.quality.command import OpenDeep, OpenLight
from companion.reach import client_of, library
from companion.storage.folder import lock_folder
from companion.storage.space import megabytes
from companion.web import EndSignal, address_file, key_file, refuse_exposure, serve

LOG_BYTES = 1_000_000
LOG_FILES = 5
LOG_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
DOCTOR_S = 60.0


def main(
    argv: Sequence[str] | None = None,
    *,
    light: OpenLight | None = None,
    deep: OpenDeep | None = None,
    reader: OpenLight | None = None,
) -> int:
    """`python -m companion …`; returns the exit code. Tests bring their own embedders to evaluate."""
    parser = argparse.ArgumentParser(prog="python -m companion", description="Ask your own documents.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = options()
    commands.add_parser("serve", parents=[shared], help="serve the page and the HTTP interface")
    commands.add_parser("migrate", parents=[shared], help="bring the database to this version's tables")
    ingest = commands.add_parser("ingest", parents=[shared], help="add documents to the library")
    ingest.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a file to add")
    search = commands.add_parser("search", parents=[shared], help="find passages")
    search.add_argument("query", metavar="QUERY", help="words or a question")
    quality.add_arguments(
        commands.add_parser("evaluate", parents=[shared], help="measure search on a judged set")
    )
    backup = commands.add_parser(
        "backup", parents=[shared], help="write everything that matters into one file"
    )
    backup.add_argument("file", type=Path, metavar="FILE", help="the file to write")
    restore = commands.add_parser("restore", parents=[shared], help="make a backup the data folder")
    restore.add_argument("file", type=Path, metavar="FILE", help="the backup to read")
    restore.add_argument("--replace", action="store_true", help="set aside what is in the data folder")
    doctor = commands.add_parser("doctor", parents=[shared], help="say what is fine, what is not, what to do")
    doctor.add_argument("--json", action="store_true", help="for programs")
    users.add_arguments(
        commands.add_parser("user", parents=[shared], help="add, list and remove users, and their tokens")
    )
    arguments = vars(parser.parse_args(argv))
    command: str = arguments.pop("command")
    work = {
        "serve": _serve,
        "migrate": _migrate,
        "ingest": lambda settings: _ingest(settings, arguments["files"]),
        "search": lambda settings: _search(settings, arguments["query"]),
        "evaluate": lambda settings: quality.run(
            settings, arguments, light or _light, deep or _deep, reader or _reader
        ),
        "backup": lambda settings: _backup(settings, arguments["file"]),
        "restore": lambda settings: _restore(settings, arguments["file"], arguments["replace"]),
        "doctor": lambda settings: _doctor(settings, arguments["json"]),
        "user": lambda settings: users.run(settings, arguments),
    }[command]
    return _run(arguments, work)


def _light(settings: Settings) -> Embedder:
    return load_embedder(settings.embed_light, settings)


def _reader(settings: Settings) -> Embedder:
    return load_for_questions(settings.embed_deep, settings)


def _deep(settings: Settings) -> DeepEmbedder:
    return open_deep(settings.embed_deep, settings, LoadReader().read())


def serve_app(argv: Sequence[str] | None = None) -> int:
    """`python companion_app.py …`; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="companion_app.py",
        description=f"LLM Companion {__version__}: ask your own documents in the browser.",
        epilog="Each option is COMPANION_<NAME> in the environment, too.",
        parents=[options()],
    )
    return _run(vars(parser.parse_args(argv)), _serve)


def leave(code: int) -> NoReturn:
    """End the process now: what had to be closed is, and a thread that hangs must not hold it."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # Whoever read has gone, as after `| head`.
        with suppress(BrokenPipeError):
            stream.flush()
    os._exit(code)


def _run(arguments: dict[str, Any], work: Callable[[Settings], int]) -> int:
    for stream in (sys.stdout, sys.stderr):
        # A name of a file may hold what the terminal cannot show.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return work(settings_from(arguments))
    except BrokenPipeError:
        return 1
    except CompanionError as error:
        print(error.message, file=sys.stderr)
        return 2
    except PermissionError as error:
        print(f"{error.filename} cannot be used: {error.strerror}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


# --- log ----------------------------------------------------------------------------------


class _Sentence(logging.Formatter):
    """For who started the app: what failed; where in the program stands in the log."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None}))
        return f"{line} ({record.exc_info[1]})" if record.exc_info else line


def set_up_log(settings: Settings) -> None:
    """Our own lines at the chosen level, libraries' warnings; both without anybody's text."""
    # Delayed, because nothing may touch the folder before it is ours.
    file = RotatingFileHandler(
        settings.log_path, maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, encoding="utf-8", delay=True
    )
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    file.setFormatter(logging.Formatter(LOG_LINE))
    terminal.setFormatter(_Sentence(LOG_LINE))
    root = logging.getLogger()
    root.handlers[:] = [file, terminal]
    # Libraries log texts and addresses below this.
    root.setLevel(logging.WARNING)
    logging.getLogger("companion").setLevel(settings.log_level)
    # On a full disk every line of the log would print a traceback.
    logging.raiseExceptions = False


# --- commands -----------------------------------------------------------------------------


def _serve(settings: Settings) -> int:
    refuse_exposure(settings)
    end = EndSignal()
    try:
        companion = _open(settings)
    except FolderLocked as locked:
        raise _with_address(settings, locked) from locked
    try:
        serve(companion, settings, end, lambda url: print(f"LLM Companion is at {url}", flush=True))
    finally:
        companion.close()
    return 0


def _with_address(settings: Settings, locked: FolderLocked) -> FolderLocked:
    """The same error with the way to the page that is open already; a command has none."""
    try:
        address = address_file(settings).read_text(encoding="utf-8")
    except (OSError, ValueError):
        address = ""
    if not address:
        return locked
    return FolderLocked(
        f"LLM Companion already runs on {settings.data_dir}: open {address}, or choose another --data-dir."
    )


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
    for path in (address_file(settings), key_file(settings)):
        path.unlink(missing_ok=True)
    return companion


def _ingest(settings: Settings, files: Sequence[Path]) -> int:
    """Add files through whoever has the folder; 1 if one of them failed."""
    with library(settings, _open) as found:
        failed = 0
        for path in files:
            trouble = found.add(path)
            print(f"{path.name}: {trouble or 'added'}", file=sys.stderr if trouble else sys.stdout)
            failed += bool(trouble)
    return 1 if failed else 0


def _search(settings: Settings, query: str) -> int:
    with library(settings, _open) as found:
        for name, score, text in found.search(query):
            print(f"{score:.3f}  {name}\n    {' '.join(text.split())[:300]}")
    return 0


def _backup(settings: Settings, file: Path) -> int:
    """Works whether the app runs or not."""
    taken = take(settings, file)
    if taken.lost:
        print(
            f"Without the originals, which are missing or damaged: {', '.join(taken.lost)}", file=sys.stderr
        )
    content = f"{taken.documents} documents and {taken.conversations} conversations"
    print(f"{file} holds {content} ({megabytes(taken.size)}).")
    return 0


def _restore(settings: Settings, file: Path, replace: bool) -> int:
    restored = restore(file, settings, replace=replace)
    content = f"{restored.documents} documents and {restored.conversations} conversations"
    print(f"{settings.data_dir} holds {content} of {restored.created_at[:16].replace('T', ' ')} UTC.")
    if restored.set_aside:
        print(f"What was there before is in {restored.set_aside}; remove it when you need it no more.")
    return 0


def _doctor(settings: Settings, as_json: bool) -> int:
    """One line for each finding; 1 if something does not work."""
    found = _examined(settings)
    if as_json:
        print(json.dumps({"healthy": healthy(found), "findings": [asdict(each) for each in found]}, indent=1))
    else:
        for each in found:
            print(f"{each.state:8}{' '.join(filter(None, (each.sentence, each.advice)))}")
    return 0 if healthy(found) else 1


def _examined(settings: Settings) -> tuple[Finding, ...]:
    """The index is looked at by whoever has the folder."""
    if not settings.data_dir.is_dir():
        return examine_idle(settings)
    try:
        lock = lock_folder(settings.data_dir)
    except FolderLocked as locked:
        return examine(settings, index=partial(_index_of_running, settings, locked), in_use=True)
    except StorageError:
        # A folder that cannot be written cannot be locked; the finding about it says so.
        return examine_idle(settings)
    try:
        return examine_idle(settings)
    finally:
        lock.release()


def _index_of_running(settings: Settings, locked: FolderLocked) -> Finding:
    try:
        with client_of(settings, locked) as client:
            answer = client.get("/api/health/doctor", timeout=DOCTOR_S).raise_for_status().json()
            return next(Finding(**each) for each in answer["findings"] if each["code"] == "index")
    except (FolderLocked, StopIteration) as error:
        return unanswered(getattr(error, "message", "The running app says nothing of its index."))
