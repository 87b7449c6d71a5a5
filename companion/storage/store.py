"""The store: everything the product remembers, behind one door.

Knows which stores there are and how to open and close them. It does not know SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from companion.storage.database import Database
from companion.storage.documents import DocumentStore
from companion.storage.embeddings import EmbeddingStore
from companion.storage.fulltext import forget_some_words
from companion.storage.index_runs import IndexRunStore
from companion.storage.layers import LayerStore
from companion.storage.owed import Owed, owed, settle
from companion.storage.passages import PassageStore
from companion.storage.quality import QualityStore
from companion.storage.sessions import SessionStore
from companion.storage.settings import SettingStore
from companion.storage.users import UserStore
from companion.storage.visitors import VisitorStore
from companion.storage.words import WordStore


class Store:
    """One per process and data folder. Methods may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.sessions = SessionStore(database)
        self.documents = DocumentStore(database)
        self.passages = PassageStore(database)
        self.words = WordStore(database)
        self.embeddings = EmbeddingStore(database)
        self.layers = LayerStore(database)
        self.index_runs = IndexRunStore(database)
        self.quality = QualityStore(database)
        self.settings = SettingStore(database)
        self.users = UserStore(database)
        self.visitors = VisitorStore(database)

    @classmethod
    def open(cls, path: Path, reserve_bytes: int = 0) -> Store:
        """The store in the file `path`, created if missing, brought up to date.

        So many bytes of the disk are kept for conversations. Raises DatabaseTooNew, DiskFull, or
        StorageError if it cannot be used.
        """
        return cls(Database.open(path, reserve_bytes))

    @property
    def full(self) -> bool:
        """A write found no room on the disk, and there is none yet: only conversations go on."""
        return self._database.full

    @property
    def damaged(self) -> bool:
        """Something in the database file could not be read; nothing is written any more."""
        return self._database.damaged

    @property
    def refusal(self) -> str | None:
        """Why nothing is written but conversations, one sentence for the person; None: all is."""
        return self._database.refusal

    def look_for_room(self) -> bool:
        """Try whether there is room again, without changing anything."""
        return self._database.look_for_room()

    def checkpoint(self) -> None:
        """Empty the write-ahead log, unless somebody reads for long."""
        self._database.checkpoint()

    def tidy(self) -> None:
        """What was deleted leaves the write-ahead log, too; to be called every few seconds."""
        self._database.tidy()

    def forget_deleted(self, proceed: Callable[[], bool] = lambda: True) -> None:
        """What was purged, replaced or edited away leaves the files; others can write in between.

        Costs nothing when nothing was deleted. `proceed` may end it early; the next call goes on.
        """
        if self._forget_words(proceed):
            self._clear_remains(proceed)

    def _forget_words(self, proceed: Callable[[], bool]) -> bool:
        mark = self._owed(Owed.WORDS)
        if mark is None:
            return True
        first = more = True
        while more:
            if not proceed():
                return False
            with self._database.writing() as connection:
                more, first = forget_some_words(connection, first=first), False
        self._settle(Owed.WORDS, mark)
        return True

    def _clear_remains(self, proceed: Callable[[], bool]) -> None:
        mark = self._owed(Owed.REMAINS)
        if mark is not None and self._database.compact(proceed):
            self._settle(Owed.REMAINS, mark)

    def _owed(self, what: Owed) -> str | None:
        with self._database.reading() as connection:
            return owed(connection, what)

    def _settle(self, what: Owed, mark: str) -> None:
        with self._database.writing() as connection:
            settle(connection, what, mark)
        self._database.checkpoint()

    def close(self) -> None:
        """Finish and close; harmless when closed already."""
        self._database.close()
