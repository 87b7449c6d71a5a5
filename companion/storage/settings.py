"""Settings that outlive a start: names and JSON values.

Knows nothing of their meaning, ranges or defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from companion.storage.database import Database
from companion.storage.tables import settings


class SettingStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, owner: str | None = None) -> dict[str, Any]:
        """What holds for all, or what one owner has set for themselves."""
        with self._database.reading() as connection:
            rows = connection.execute(select(settings)).all()
        whose = {row.name: row.name.rpartition("/") for row in rows}
        return {whose[row.name][2]: row.value for row in rows if whose[row.name][0] == (owner or "")}

    def save(self, values: Mapping[str, Any], owner: str | None = None) -> None:
        """Keep these values, all or none; other names stay as they are."""
        if not values:
            return
        values = {_of(owner) + name: value for name, value in values.items()}
        new = insert(settings)
        with self._database.writing() as connection:
            connection.execute(
                new.on_conflict_do_update(index_elements=["name"], set_={"value": new.excluded.value}),
                [{"name": name, "value": value} for name, value in values.items()],
            )

    def forget_owner(self, owner: str) -> None:
        """Drop what an owner has set for themselves."""
        with self._database.writing() as connection:
            connection.execute(
                delete(settings).where(settings.c.name.startswith(_of(owner), autoescape=True))
            )


def _of(owner: str | None) -> str:
    return f"{owner}/" if owner else ""
