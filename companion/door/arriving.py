"""Files that pages are sending at this moment, and what of one is left when its sender goes.

Gradio keeps the part of a file that came until the next start: whoever breaks off again and again
would fill the disk. Knows Gradio's name for a file that is not whole yet. It does not know who sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.requests import ClientDisconnect


class Arriving:
    """Belongs to the loop of the server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._requests = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """A request with files; when the last one of several has ended, nothing unfinished stays."""
        self._requests += 1
        try:
            yield
        except ClientDisconnect:
            # Nobody is there who could be told.
            pass
        finally:
            self._requests -= 1
            if not self._requests:
                self._sweep()

    def _sweep(self) -> None:
        for path in self._folder.glob("tmp*"):
            if path.is_file():
                path.unlink(missing_ok=True)
