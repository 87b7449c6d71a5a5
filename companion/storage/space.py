"""The disk below the data folder: how much is free, and whether that is enough for more.

Knows bytes only. It does not know what is to be kept, or what a database does on a full disk.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from companion.errors import DiskFull


class Space:
    """Room for documents ends before the disk does: questions and answers are still kept then."""

    def __init__(self, folder: Path, least_bytes: int) -> None:
        """`least_bytes` stay free of documents."""
        self._folder = folder
        self.least_bytes = least_bytes

    def free(self) -> int | None:
        """Bytes that may be written; None where that cannot be found out."""
        try:
            return shutil.disk_usage(self._folder).free
        except OSError:
            return None

    def require(self, size: int = 0) -> None:
        """Raises `DiskFull` if `size` bytes more would go below the limit."""
        free = self.free()
        if free is not None and free - size < self.least_bytes:
            raise DiskFull(
                f"The disk has only {megabytes(free)} left, and {megabytes(self.least_bytes)} stay free for "
                "conversations; free some space and add the document again."
            )


def megabytes(size: int) -> str:
    """In words for the person."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
