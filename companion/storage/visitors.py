"""Visitors of a demo: who came with which secret, and when they were seen last.

Knows a hash of the secret only. It does not know what a visitor may do, or when they are forgotten.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, func, insert, select, update

from companion.storage.database import Database
from companion.storage.tables import visitors


class VisitorStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def owner_of(self, key: str) -> str | None:
        with self._database.reading() as connection:
            return connection.execute(select(visitors.c.owner).where(visitors.c.key == key)).scalar()

    def admit(self, key: str, owner: str, at: datetime) -> str:
        """Remember a visitor; returns the owner they have already, if two requests came at once."""
        with self._database.writing() as connection:
            known = connection.execute(select(visitors.c.owner).where(visitors.c.key == key)).scalar()
            if known is None:
                connection.execute(insert(visitors).values(key=key, owner=owner, used_at=at))
            return known or owner

    def used(self, owner: str, at: datetime) -> None:
        with self._database.writing() as connection:
            connection.execute(update(visitors).where(visitors.c.owner == owner).values(used_at=at))

    def count(self) -> int:
        with self._database.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(visitors)).scalar_one())

    def gone(self, before: datetime) -> list[str]:
        """Owners that were not seen since `before`."""
        with self._database.reading() as connection:
            idle = select(visitors.c.owner).where(visitors.c.used_at < before)
            return list(connection.execute(idle).scalars())

    def forget(self, owner: str) -> None:
        with self._database.writing() as connection:
            connection.execute(delete(visitors).where(visitors.c.owner == owner))
