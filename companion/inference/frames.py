"""Frames: what a child and its parent send each other over a pipe, kind, length and bytes.

Knows how a frame is written and read whole. It does not know what is in it.
"""

from __future__ import annotations

import struct
from typing import IO

READY, ROWS, ERROR, HINDERED = b"R", b"V", b"E", b"H"
"""Kinds: where the child runs, float32 rows, one sentence for the person; the same where the text that
was to be read has nothing to do with it."""

HEAD = struct.Struct("<cQ")


def write_frame(stream: IO[bytes], kind: bytes, payload: bytes) -> None:
    """`kind` is one byte. Raises OSError when nobody reads any more."""
    stream.write(HEAD.pack(kind, len(payload)) + payload)
    stream.flush()


def read_frame(stream: IO[bytes], *, longest: int) -> tuple[bytes, bytes]:
    """Kind and payload. Raises EOFError when the other side ended, also in the middle of a frame,
    and ValueError when a frame says that it is longer than `longest` bytes."""
    kind, length = HEAD.unpack(_whole(stream, HEAD.size))
    if length > longest:
        raise ValueError(f"a frame of {length} bytes where {longest} are the most")
    return kind, _whole(stream, length)


def _whole(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError(f"{len(data)} bytes of {length}")
    return data
