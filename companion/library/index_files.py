"""The index's files as bytes on a disk: what can be told of their health without opening them.

Knows how Chroma lays out the graph of a collection. It does not know Chroma itself, or vectors.
A graph is written in place, one file after the other, so a kill leaves any mix of old and new
ones: some of these hang at open, some crash, some answer wrongly, some grow without end.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from companion.errors import IndexUnusable

LINKS_TO_DATA = 10
"""A link file more than this many times its data file is torn: one was seen at 2.7 TB, sparse."""
SMALL = 8 * 1024**2
"""Bytes of a data file below which a ratio says nothing: it may just be being written."""
FIRST_PLACES = 100
"""Of a new graph; a grown one has a power of two."""

_HEADER = struct.Struct("<iQQQQQQiIQQQdQ")
"""Version, offset of the lowest level, places, elements, bytes per element, and what stays the same."""
_LENGTH = struct.Struct("<I")

Fingerprint = dict[str, list[int]]
"""Size and time of the last change in nanoseconds, by path."""


def fingerprint(generation: Path) -> Fingerprint:
    """What changes with any write into these files."""
    found = {}
    for path in sorted(generation.rglob("*")):
        if path.is_file():
            status = path.stat()
            found[path.relative_to(generation).as_posix()] = [status.st_size, status.st_mtime_ns]
    return found


def check_sizes(generation: Path) -> None:
    """A look at sizes finds the worst damage; quick enough to be done again and again.

    Raises `IndexUnusable`.
    """
    for data in generation.glob("*/data_level0.bin"):
        links = data.with_name("link_lists.bin")
        # They come and go with their collection.
        if links.exists() and data.exists():
            largest = LINKS_TO_DATA * max(data.stat().st_size, SMALL)
            if links.stat().st_size > largest:
                raise IndexUnusable(f"The vector index is torn: {links.name} has an impossible size.")


def elements(generation: Path) -> int:
    """Vectors in all written graphs, with those that were deleted: a graph only marks these.

    Raises OSError or struct.error for files that are not whole.
    """
    return sum(_header(path.parent)[3] for path in generation.glob("*/header.bin"))


def blank_empty_places(folder: Path) -> None:
    """Zeros into the places of a graph that hold no vector: Chroma writes a new graph as its memory
    happens to be, and words of any document may lie there. Not while anybody writes into it."""
    with suppress(OSError, struct.error):
        _version, _offset, _places, elements, element_bytes, *_same = _header(folder)
        for name, size in (("data_level0.bin", element_bytes), ("length.bin", _LENGTH.size)):
            with (folder / name).open("r+b") as file:
                empty = file.seek(0, os.SEEK_END) - elements * size
                if 0 < empty <= SMALL:
                    file.seek(elements * size)
                    file.write(bytes(empty))


def graph_fault(generation: Path) -> str | None:
    """Half a sentence if the files of a graph do not speak of the same elements; check sizes before.

    Not while anybody writes.
    """
    try:
        faults = (_fault(folder) for folder in sorted(generation.iterdir()) if folder.is_dir())
        return next((fault for fault in faults if fault), None)
    except (OSError, struct.error) as error:
        return f"its files cannot be read ({type(error).__name__})"


def _fault(folder: Path) -> str | None:
    if (folder / "header.bin").stat().st_size != _HEADER.size:
        return "header.bin has an impossible size"
    _version, _offset, places, elements, element_bytes, *_same = _header(folder)
    # A graph keeps its first places, empty or not, until it has grown; then it has no empty ones.
    written = places if not elements or places == FIRST_PLACES else elements
    if (folder / "data_level0.bin").stat().st_size != written * element_bytes:
        return "data_level0.bin does not have the elements of header.bin"
    if (folder / "length.bin").stat().st_size != written * _LENGTH.size:
        return "length.bin does not have the elements of header.bin"
    if _lists((folder / "link_lists.bin").read_bytes()) != elements:
        return "link_lists.bin does not have the elements of header.bin"
    if elements and not (folder / "index_metadata.pickle").exists():
        return "index_metadata.pickle is missing"
    return None


def _header(folder: Path) -> tuple[Any, ...]:
    return _HEADER.unpack((folder / "header.bin").read_bytes())


def _lists(links: bytes) -> int | None:
    """How many lists there are, each behind its own length; None if the last one does not end in time."""
    count = place = 0
    while place < len(links):
        place += _LENGTH.size + _LENGTH.unpack_from(links, place)[0]
        count += 1
    return count if place == len(links) else None
