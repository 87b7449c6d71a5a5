"""Room kept for conversations: a file that is given up when the disk is full.

Knows bytes only. It does not know who may write into the room that it gives up.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

BLOCK = 64 * 1024


class Reserve:
    """Some megabytes beside the database: hundreds of questions and answers."""

    def __init__(self, path: Path, size: int) -> None:
        """No bytes, no file."""
        self._path = path
        self._size = size

    def fill(self) -> bool:
        """Take the room, if it is not taken yet; False where there is not so much."""
        try:
            if self._size and not self._whole():
                self._write()
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> bool:
        """Give the room up; False if there was none."""
        with suppress(OSError):
            self._path.unlink()
            return True
        return False

    def _whole(self) -> bool:
        return self._path.exists() and self._path.stat().st_size == self._size

    def _write(self) -> None:
        with self._path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, self._size)
                return
            for _ in range(self._size // BLOCK):
                file.write(bytes(BLOCK))
