"""Files that are whole or not there: hashed, flushed to the disk, put in place in one step.

Knows bytes and folders. It does not know what is in them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path


def sha256(path: Path) -> str:
    """sha256 of a file, hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def put_in_place(partial: Path, target: Path) -> None:
    """Flush the finished folder `partial` and give it the name `target`, replacing a damaged one.

    Both are on one disk. Whenever the machine stops, `target` is whole or absent.
    """
    flush_all(partial)
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
    flush(target.parent)


def flush_all(folder: Path) -> None:
    """A folder and all that is in it are on the disk when this returns."""
    for path in sorted(folder.rglob("*"), reverse=True):
        flush(path)
    flush(folder)


def flush(path: Path) -> None:
    """A file, or the names in a folder, are on the disk when this returns."""
    if path.is_dir() and os.name == "nt":  # Windows cannot flush a folder
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
