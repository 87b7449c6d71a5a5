"""Settings that outlive a start: names and JSON values.

Knows nothing of their meaning, ranges or defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from companion.storage.database import Database
from companion.storage.tables import settings


class SettingStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> dict[str, Any]:
        with self._database.reading() as connection:
            return {row.name: row.value for row in connection.execute(select(settings))}

    def get(self, name: str, default: Any = None) -> Any:
        return self.load().get(name, default)

    def save(self, values: Mapping[str, Any]) -> None:
        """Keep these values, all or none; other names stay as they are."""
        if not values:
            return
        new = insert(settings)
        with self._database.writing() as connection:
            connection.execute(
                new.on_conflict_do_update(index_elements=["name"], set_={"value": new.excluded.value}),
                [{"name": name, "value": value} for name, value in values.items()],
            )
