"""A mark in the database: the index was closed in good order, and its files are as they were then.

Knows when a mark holds. It does not know what is checked without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from companion.inference.files import flush_all
from companion.library.index_files import fingerprint

if TYPE_CHECKING:
    from companion.library.vectors import VectorIndex
    from companion.storage.settings import SettingStore

SETTING = "index_closed"


class CleanMark:
    """Left after the index was closed, taken away before it is opened: a kill leaves none."""

    def __init__(self, settings: SettingStore, index: VectorIndex) -> None:
        self._settings = settings
        self._index = index

    def take(self) -> bool:
        """Whether the index is as it was left; from now on there is no mark. Raises `StorageError`."""
        left = self._settings.load().get(SETTING)
        if left is not None:
            self._settings.save({SETTING: None})
        return left is not None and left == self._files()

    def leave(self) -> None:
        """For an index that was closed and agreed with the database. Raises `StorageError` or OSError."""
        # Chroma leaves them to the system: without power they would be lost, and the mark would not.
        flush_all(self._index.generation())
        self._settings.save({SETTING: self._files()})

    def _files(self) -> dict[str, object]:
        generation = self._index.generation()
        return {"generation": generation.name, "files": fingerprint(generation)}
