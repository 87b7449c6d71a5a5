"""The store: everything the product remembers, behind one door.

Knows which stores there are and how to open and close them. It does not know SQL.
"""

from __future__ import annotations

from pathlib import Path

from companion.storage.database import Database
from companion.storage.documents import DocumentStore
from companion.storage.embeddings import EmbeddingStore
from companion.storage.sessions import SessionStore
from companion.storage.settings import SettingStore


class Store:
    """One per process and data folder. Methods may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.sessions = SessionStore(database)
        self.documents = DocumentStore(database)
        self.embeddings = EmbeddingStore(database)
        self.settings = SettingStore(database)

    @classmethod
    def open(cls, path: Path) -> Store:
        """The store in the file `path`, created if missing, brought up to date.

        Raises DatabaseTooNew, DiskFull, or StorageError if it cannot be used.
        """
        return cls(Database.open(path))

    def checkpoint(self) -> None:
        """Empty the write-ahead log: only now has a purged text left the disk."""
        self._database.checkpoint()

    def close(self) -> None:
        """Finish and close; harmless when closed already."""
        self._database.close()
