"""Questions made from passages, and what measuring the search with them gave.

A question goes with its passage; a measurement holds numbers only, and stays. It does not know how
questions are made, or what makes a figure good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from sqlalchemy import delete, func, insert, select

from companion.domain import Figures, KnownItem, Measurement, Passage, Place
from companion.storage.database import Database
from companion.storage.passage_rows import PASSAGE, to_passage
from companion.storage.tables import (
    AnyRow,
    among,
    document_chunks,
    documents,
    quality_measurements,
    quality_questions,
)

KEPT = 30
"""Measurements of an owner; the oldest one goes first."""
_ALIVE = documents.c.deleted_at.is_(None)
_OF_DOCUMENT = document_chunks.c.doc_id == documents.c.doc_id
_OF_PASSAGE = quality_questions.c.chunk_id == document_chunks.c.chunk_id
_FACTS = ("questions", "by_model", "documents", "passages", "light", "deep", "deep_passages")


class QualityStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    # --- questions ----------------------------------------------------------------------

    def questions(self, owner: str, limit: int) -> list[KnownItem]:
        """The first ones made; none of deleted documents."""
        statement = (
            select(
                quality_questions,
                documents.c.doc_id,
                documents.c.name,
                document_chunks.c.place,
            )
            .join(document_chunks, _OF_PASSAGE)
            .join(documents, _OF_DOCUMENT)
            .where(
                documents.c.owner == owner,
                _ALIVE,
                quality_questions.c.text_hash == document_chunks.c.text_hash,
            )
            .order_by(quality_questions.c.question_id)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [_to_item(row) for row in connection.execute(statement)]

    def add(self, passage: Passage, question: str, made_by: str | None) -> None:
        """Keep a question, unless its passage has changed or gone, or has one already."""
        there = select(document_chunks.c.chunk_id).where(
            document_chunks.c.chunk_id == passage.chunk_id,
            document_chunks.c.text_hash == passage.text_hash,
        )
        taken = select(quality_questions.c.question_id).where(
            quality_questions.c.chunk_id == passage.chunk_id
        )
        with self._database.writing() as connection:
            if connection.execute(there).first() and not connection.execute(taken).first():
                connection.execute(
                    insert(quality_questions).values(
                        chunk_id=passage.chunk_id,
                        text_hash=passage.text_hash,
                        question=question,
                        made_by=made_by,
                        created_at=datetime.now(UTC),
                    )
                )

    def candidates(self, owner: str, fewest_tokens: int, limit: int) -> list[Passage]:
        """Passages without a question, evenly over the documents and always the same ones within each."""
        of_owner = (
            select(
                document_chunks.c.chunk_id,
                quality_questions.c.question_id,
                # Equal shares: a document with questions waits until the others have as many. Hashes
                # are as good as chance, and the same at the next start.
                func.row_number()
                .over(
                    partition_by=document_chunks.c.doc_id,
                    order_by=(quality_questions.c.question_id.is_(None), document_chunks.c.text_hash),
                )
                .label("turn"),
            )
            .join(documents, _OF_DOCUMENT)
            .outerjoin(quality_questions, _OF_PASSAGE)
            .where(documents.c.owner == owner, _ALIVE, document_chunks.c.tokens >= fewest_tokens)
            .subquery()
        )
        statement = (
            select(*PASSAGE)
            .join(of_owner, of_owner.c.chunk_id == document_chunks.c.chunk_id)
            .where(of_owner.c.question_id.is_(None))
            .order_by(of_owner.c.turn, document_chunks.c.text_hash)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [to_passage(row) for row in connection.execute(statement)]

    def twins(self, owner: str, chunk_ids: Sequence[str]) -> dict[str, set[str]]:
        """Of each passage those of the owner's that have its text: whichever is found, it is found."""
        same = document_chunks.alias()
        statement = (
            select(document_chunks.c.chunk_id, same.c.chunk_id.label("meant"))
            .join(same, same.c.text_hash == document_chunks.c.text_hash)
            .join(documents, _OF_DOCUMENT)
            .where(documents.c.owner == owner, among(same.c.chunk_id, chunk_ids))
        )
        found: dict[str, set[str]] = {}
        with self._database.reading() as connection:
            for row in connection.execute(statement):
                found.setdefault(row.meant, set()).add(row.chunk_id)
        return found

    # --- measurements -------------------------------------------------------------------

    def save(self, measurement: Measurement) -> None:
        facts = {name: getattr(measurement, name) for name in _FACTS}
        facts["figures"] = {name: asdict(each) for name, each in measurement.figures.items()}
        mine = quality_measurements.c.owner == measurement.owner
        ids = select(quality_measurements.c.measurement_id).where(mine)
        with self._database.writing() as connection:
            connection.execute(
                insert(quality_measurements).values(
                    owner=measurement.owner,
                    measured_at=measurement.measured_at,
                    situation=measurement.situation,
                    facts=facts,
                    ranks={str(key): ranks for key, ranks in measurement.ranks.items()},
                )
            )
            newest = ids.order_by(quality_measurements.c.measurement_id.desc()).limit(KEPT)
            connection.execute(
                delete(quality_measurements).where(mine, quality_measurements.c.measurement_id.not_in(newest))
            )

    def measurements(self, owner: str, limit: int = KEPT) -> list[Measurement]:
        """Newest first."""
        statement = (
            select(quality_measurements)
            .where(quality_measurements.c.owner == owner)
            .order_by(quality_measurements.c.measurement_id.desc())
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [_to_measurement(row) for row in connection.execute(statement)]


def _to_item(row: AnyRow) -> KnownItem:
    return KnownItem(
        question_id=row.question_id,
        question=row.question,
        chunk_id=row.chunk_id,
        doc_id=row.doc_id,
        document_name=row.name,
        place=Place(**(row.place or {})),
        made_by=row.made_by,
    )


def _to_measurement(row: AnyRow) -> Measurement:
    facts = dict(row.facts)
    figures = {name: Figures(**each) for name, each in facts.pop("figures").items()}
    return Measurement(
        owner=row.owner,
        measured_at=row.measured_at,
        situation=row.situation,
        **facts,
        figures=figures,
        ranks={int(key): ranks for key, ranks in row.ranks.items()},
    )
