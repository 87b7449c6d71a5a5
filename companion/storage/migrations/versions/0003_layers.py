"""Which layer is in force: one row for each owner and kind.

Revision 0003. One new table: nothing is rebuilt, so no trigger is lost.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "layers",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("embedder_id", sa.Text, sa.ForeignKey("embedders.embedder_id"), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("in_force_since", sa.DateTime),
        sa.Column("left_at", sa.DateTime),
        sa.CheckConstraint("kind IN ('light', 'deep')", name="ck_layers_kind"),
    )
    op.create_index(
        "ux_layers_in_force",
        "layers",
        ["owner", "kind"],
        unique=True,
        sqlite_where=sa.text("in_force_since IS NOT NULL"),
    )
