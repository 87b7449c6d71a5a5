"""One state of the database, read from outside while the app writes on.

Knows SQLite's read-only connections and a few columns that every revision has. It never writes
to the database, nor checkpoints it: that is the app's alone. It does not know what is done with
a copy.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from companion.domain import SAMPLE_OWNER
from companion.errors import DatabaseTooNew, NotFound, StorageError
from companion.storage.database import BUSY_TIMEOUT_S, known_revisions, translated


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A document's file as a row of the database tells of it."""

    doc_id: str
    name: str
    content_hash: str


class Snapshot:
    """What the database held at one moment; it stays so until the `with` ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.revision = self._revision()

    def files(self) -> set[StoredFile]:
        """Of all documents, deleted ones and those that a version not yet read would replace too."""
        rows = self._connection.execute("SELECT doc_id, name, content_hash, previous FROM documents")
        found = set()
        for doc_id, name, content_hash, previous in rows:
            found.add(StoredFile(doc_id, name, content_hash))
            if before := json.loads(previous or "null"):
                found.add(StoredFile(doc_id, before["name"], before["content_hash"]))
        return found

    def count(self) -> tuple[int, int]:
        """People's documents, and conversations."""
        own = "deleted_at IS NULL AND owner <> ?"
        documents = self._connection.execute(f"SELECT count(*) FROM documents WHERE {own}", [SAMPLE_OWNER])
        sessions = self._connection.execute("SELECT count(*) FROM sessions")
        return int(documents.fetchone()[0]), int(sessions.fetchone()[0])

    def settings(self) -> dict[str, Any]:
        """What a person has set, as JSON values by name."""
        return {
            name: json.loads(value)
            for name, value in self._connection.execute("SELECT name, value FROM settings")
        }

    def trouble(self) -> str | None:
        """What SQLite finds wrong with the file, in its words; None for a sound one."""
        found = str(self._connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        # Its first line says which of several databases it is about.
        return None if found == "ok" else found.splitlines()[-1]

    def copy_to(self, target: Path) -> None:
        """Write this state into a new file, without what was ever deleted from it."""
        # VACUUM INTO would see a later state: it cannot run inside a transaction.
        pages = target.with_name(target.name + ".pages")
        with closing(sqlite3.connect(pages, isolation_level=None)) as copy:
            self._connection.backup(copy)
            copy.execute("VACUUM INTO ?", [str(target)])
        pages.unlink()

    def _revision(self) -> str:
        try:
            row = self._connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            row = None
        if row is None:
            raise StorageError("This database has no tables of LLM Companion.")
        if not is_known(row[0]):
            raise DatabaseTooNew("This database was written by a newer version of LLM Companion; update it.")
        return str(row[0])


def is_known(revision: str) -> bool:
    """Whether this program can read a database of the revision; older ones are brought up to date."""
    return revision in known_revisions()


def is_current(revision: str) -> bool:
    """Whether nothing of a database of the revision has to be brought up to date."""
    return revision == known_revisions()[-1]


def has_content(path: Path) -> bool:
    """Whether there is anything at `path`; an empty file is a database that was only begun.

    Raises StorageError where that cannot be seen.
    """
    try:
        return path.exists() and path.stat().st_size > 0
    except OSError as error:
        raise StorageError(f"The data folder {path.parent} cannot be read; check its permissions.") from error


@contextmanager
def snapshot(path: Path) -> Iterator[Snapshot]:
    """The database at `path` as it is now, whoever has it open.

    Raises NotFound where there is none, DatabaseTooNew, or StorageError if it cannot be read.
    """
    if not has_content(path):
        raise NotFound(f"There is no database in {path.parent}.")
    with translated(), closing(_read_only(path)) as connection:
        # The first reading fixes the state.
        connection.execute("BEGIN")
        yield Snapshot(connection)


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S
    )
