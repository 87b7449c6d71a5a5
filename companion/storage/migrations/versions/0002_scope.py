"""What a conversation searches, and why a document failed as a code.

Revision 0002. Two columns that may be empty: no table is rebuilt, so no trigger is lost.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("session_config", sa.Column("scope", sa.JSON))
    op.add_column("documents", sa.Column("error_code", sa.Text))
