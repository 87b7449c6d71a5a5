"""The parent's side of reading: one child at a time, with a wall clock, replaced when it dies.

Knows pipes and deadlines. It does not know formats, and trusts nothing that the child says.
"""

from __future__ import annotations

import json
import os
import selectors
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from companion.child import Child
from companion.domain import Place, Reading, Section
from companion.errors import Conflict, DocumentTooLarge, UnreadableDocument
from companion.library.readers.cleaning import clean_name
from companion.library.readers.formats import same_error

_START_S = 60.0
_RETIRING_S = 10.0
"""Until a child that has closed its pipes is gone: on a busy machine more than a moment."""
_MAX_ANSWER_BYTES = 100_000_000
_PIECE = 262_144
_LOOK_S = 0.25
"""How often a waiting parent looks whether the program closes."""


class _Gone(Exception):
    """The child ended before its answer did."""


class _Late(Exception):
    """The deadline passed."""


class _TooMuch(Exception):
    """The answer is larger than any document may be."""


class ReaderProcess:
    """Reads files in a child process. Safe to call from several threads; one file at a time."""

    def __init__(
        self, *, wall_s: float = 60.0, memory_bytes: int = 1_500_000_000, retire_bytes: int = 300_000_000
    ) -> None:
        """`wall_s` is for one file; a child above `retire_bytes` after a file is replaced."""
        self._wall_s = wall_s
        self._memory_bytes = memory_bytes
        self._retire_bytes = retire_bytes
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._closing = False

    def read(self, path: Path, name: str) -> Reading:
        """The text of the file at `path`, which the person knows as `name`.

        Raises `DocumentError` with one sentence; `Conflict` if `close` was called meanwhile.
        """
        shown = clean_name(name)
        with self._lock:
            try:
                return self._read(path, shown)
            except _Late as error:
                self._end()
                raise UnreadableDocument(
                    f"Reading {shown} took longer than {self._wall_s:g} seconds; it was given up. "
                    "Split it and add the parts."
                ) from error
            except _TooMuch as error:
                self._end()
                raise DocumentTooLarge(
                    f"{shown} holds more text than can be read; split it and add the parts."
                ) from error
            except (_Gone, OSError, ValueError, LookupError, TypeError) as error:
                self._end()
                raise UnreadableDocument(
                    f"Reading {shown} ended unexpectedly; the file may be damaged; save it anew and add that."
                ) from error

    def close(self) -> None:
        """End the child, also in the middle of a file; may be called twice."""
        self._closing = True
        with self._lock:
            self._end()

    def _read(self, path: Path, name: str) -> Reading:
        child = self._ready(name)
        request = json.dumps({"path": str(path.resolve()), "name": name}).encode() + b"\n"
        try:
            return self._exchange(child, request, name)
        except (_Gone, BrokenPipeError):
            if child.wait(_RETIRING_S) != 0:
                raise
        # It retired after the file before, in order; nobody has looked at this one yet.
        self._end()
        return self._exchange(self._ready(name), request, name)

    def _exchange(self, child: Child, request: bytes, name: str) -> Reading:
        child.stdin.write(request)
        child.stdin.flush()
        return _reading(self._lines(child, time.monotonic() + self._wall_s, name))

    def _ready(self, name: str) -> Child:
        """The child, a new one if need be; its start does not count as reading."""
        if self._child is not None and self._child.alive:
            return self._child
        self._end()
        limits = (str(self._memory_bytes), str(int(self._wall_s) + 5), str(self._retire_bytes))
        self._child = Child("companion.library.readers.child", limits)
        next(self._lines(self._child, time.monotonic() + _START_S, name))
        return self._child

    def _lines(self, child: Child, deadline: float, name: str) -> Iterator[bytes]:
        parts: list[bytes] = []
        total = 0
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while True:
                piece = self._piece(selector, child, deadline, name)
                total += len(piece)
                if total > _MAX_ANSWER_BYTES:
                    raise _TooMuch
                first, *rest = piece.split(b"\n")
                parts.append(first)
                for following in rest:
                    yield b"".join(parts)
                    parts = [following]

    def _piece(self, selector: selectors.BaseSelector, child: Child, deadline: float, name: str) -> bytes:
        while True:
            left = deadline - time.monotonic()
            if self._closing:
                raise Conflict(f"The program is closing; {name} will be read at the next start.")
            if left <= 0:
                raise _Late
            if selector.select(min(left, _LOOK_S)):
                break
        piece = os.read(child.stdout.fileno(), _PIECE)
        if not piece:
            raise _Gone
        return piece

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()


def _reading(lines: Iterator[bytes]) -> Reading:
    sections: list[Section] = []
    for line in lines:
        answer = json.loads(line)
        if "section" in answer:
            sections.append(_section(*answer["section"]))
        elif "error" in answer:
            raise same_error(str(answer["error"]), str(answer["message"]))
        else:
            return Reading(str(answer["source_type"]), tuple(sections), tuple(map(str, answer["notes"])))
    raise _Gone


def _section(
    text: str, page: int | None, heading: str | None, start_s: float | None, end_s: float | None
) -> Section:
    return Section(str(text), Place(page, heading, start_s, end_s))
