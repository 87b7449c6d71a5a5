"""Folders under another name, so that what was in them is there for the person.

Knows how such a name is made and found again. It does not know what is in them, or why.
"""

from __future__ import annotations

import itertools
from datetime import datetime
from pathlib import Path


def place_aside(folder: Path) -> Path:
    """Where to put what a folder holds: beside it, under a name of its own."""
    name = f"{folder.name}.before-{datetime.now():%Y%m%d-%H%M%S}"
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(path for path in map(folder.with_name, names) if not path.exists())


def places_aside(folder: Path) -> list[Path]:
    """Where things of a folder were put, oldest first."""
    return sorted(folder.parent.glob(f"{folder.name}.before-*"))
