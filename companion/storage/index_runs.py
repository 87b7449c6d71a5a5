"""The history of deep work: when it ran, how far it came, and why it ended.

It does not know what deep work is.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, insert, select, update

from companion.domain import IndexRun, RunOutcome
from companion.storage.database import Database
from companion.storage.tables import embedders, index_runs


class IndexRunStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, embedder_id: str) -> int:
        """Note that a run starts now, and that those before it have ended; returns its id."""
        with self._database.writing() as connection:
            _end_broken(connection)
            begun = insert(index_runs).values(embedder_id=embedder_id, started_at=datetime.now(UTC))
            return int(connection.execute(begun.returning(index_runs.c.run_id)).scalar_one())

    def end(self, run_id: int, outcome: RunOutcome, passages: int, reason: str) -> None:
        with self._database.writing() as connection:
            ended = update(index_runs).where(index_runs.c.run_id == run_id)
            connection.execute(
                ended.values(
                    ended_at=datetime.now(UTC), outcome=str(outcome), passages=passages, reason=reason
                )
            )

    def end_broken(self) -> None:
        """Close the runs that an earlier process left open."""
        with self._database.writing() as connection:
            _end_broken(connection)

    def latest(self, limit: int = 20) -> list[IndexRun]:
        """Newest first."""
        statement = (
            select(index_runs, embedders.c.name)
            .join(embedders, embedders.c.embedder_id == index_runs.c.embedder_id)
            .order_by(index_runs.c.run_id.desc())
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [
                IndexRun(
                    run_id=row.run_id,
                    embedder=row.name,
                    started_at=row.started_at,
                    ended_at=row.ended_at,
                    outcome=RunOutcome(row.outcome) if row.outcome else None,
                    passages=row.passages,
                    reason=row.reason or "",
                )
                for row in connection.execute(statement)
            ]


def _end_broken(connection: Connection) -> None:
    open_ones = update(index_runs).where(index_runs.c.outcome.is_(None))
    connection.execute(
        open_ones.values(ended_at=datetime.now(UTC), outcome=str(RunOutcome.BROKEN), reason="")
    )
