"""Questions made from passages, and how well the search answered them.

Revision 0005. Two new tables: nothing is rebuilt, so no trigger is lost.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "quality_questions",
        sa.Column("question_id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("chunk_id", sa.Text, sa.ForeignKey("document_chunks.chunk_id"), nullable=False),
        sa.Column("text_hash", sa.Text, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("made_by", sa.Text),
        sa.Column("created_at", sa.DateTime, nullable=False, server_default=sa.text("CURRENT_TIMESTAMP")),
        sqlite_autoincrement=True,
    )
    op.create_index("ux_quality_questions_chunk", "quality_questions", ["chunk_id"], unique=True)
    op.create_table(
        "quality_measurements",
        sa.Column("measurement_id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("measured_at", sa.DateTime, nullable=False, server_default=sa.text("CURRENT_TIMESTAMP")),
        sa.Column("situation", sa.Text, nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.Column("ranks", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_quality_measurements_owner", "quality_measurements", ["owner", "measurement_id"])
