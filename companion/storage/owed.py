"""What was deleted and may still be in the file: noted in the transaction that deletes it.

So a kill in between forgets nothing. It does not know how the file gets rid of it.
"""

from __future__ import annotations

import uuid
from enum import StrEnum

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert

from companion.storage.tables import settings


class Owed(StrEnum):
    WORDS = "deleted_words"
    """In segments of the full text."""
    REMAINS = "deleted_remains"
    """Between the rows of any table: SQLite moves rows about in their page, and not even `secure_delete`
    overwrites where they were."""


def owe(connection: Connection, what: Owed) -> None:
    owed = insert(settings).values(name=what, value=uuid.uuid4().hex)
    connection.execute(
        owed.on_conflict_do_update(index_elements=["name"], set_={"value": owed.excluded.value})
    )


def owed(connection: Connection, what: Owed) -> str | None:
    """A mark of what is owed; another one when more was deleted since."""
    return connection.execute(select(settings.c.value).where(settings.c.name == what)).scalar()


def settle(connection: Connection, what: Owed, mark: str) -> None:
    """Nothing of it is owed, if nothing was deleted since."""
    connection.execute(delete(settings).where(settings.c.name == what, settings.c.value == mark))
