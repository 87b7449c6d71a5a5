"""SQLite itself: what it must be able to do, and which versions have a fault.

Knows versions and how SQLite was built. It does not know our database.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from companion.errors import StorageError

Version = tuple[int, int, int]

VERSION: Version = sqlite3.sqlite_version_info
"""Of this Python."""
LEAST: Version = (3, 35, 0)
"""The first with RETURNING and DROP COLUMN."""


def is_fixed(version: Version = VERSION) -> bool:
    """Whether this SQLite is free of the WAL-reset bug (sqlite.org/wal.html#walresetbug).

    The race needs two connections that write or checkpoint; we have one, so we are safe
    either way.
    """
    branch = version[:2]
    if branch == (3, 50):
        return version >= (3, 50, 7)
    if branch == (3, 44):
        return version >= (3, 44, 6)
    return version >= (3, 51, 3)


def has_full_text() -> bool:
    """Whether it was built with FTS5, which is a choice of whoever built Python."""
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE words USING fts5(word)")
        except sqlite3.OperationalError:
            return False
    return True


def refusal(
    version: Version = VERSION,
    *,
    full_text: bool | None = None,
    threads: int = sqlite3.threadsafety,
) -> str | None:
    """Why the app cannot work with this SQLite, as a sentence; None if it can."""
    shown = ".".join(map(str, version))
    if version < LEAST:
        return f"SQLite {shown} is too old: use a Python with SQLite {'.'.join(map(str, LEAST))} or newer."
    if not (has_full_text() if full_text is None else full_text):
        return f"This SQLite {shown} has no full-text search (FTS5): use a Python that was built with it."
    if threads == 0:
        return f"This SQLite {shown} was built for one thread only: use another build of Python."
    return None


def require() -> None:
    """Raises StorageError if the app cannot work with this SQLite."""
    sentence = refusal()
    if sentence:
        raise StorageError(sentence)
