"""When a conversation was deleted, so that this can be undone for a moment.

Revision 0004. A column that may be empty: no table is rebuilt, so no trigger is lost.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("deleted_at", sa.DateTime))
