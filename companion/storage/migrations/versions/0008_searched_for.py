"""In which words a follow-up was searched for.

Revision 0008. A column that may be empty: no table is rebuilt, so no trigger is lost.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("messages", sa.Column("searched_for", sa.Text))
