"""Plain text: one section without a place.

Knows nothing but characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from companion.domain import Section
from companion.library.readers.decoding import decode


def read(path: Path, name: str, notes: list[str]) -> Iterator[Section]:
    yield Section(decode(path.read_bytes(), name, notes))
