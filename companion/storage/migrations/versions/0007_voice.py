"""How a conversation's model speaks: its temperature, and what the person tells it beside our rules.

Revision 0007. Conversations from before get what was the default then, .2 and nothing. Columns
only: no table is rebuilt, so no trigger is lost.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    temperature = sa.Column("temperature", sa.Float, nullable=False, server_default=sa.text("0.2"))
    op.add_column("session_config", temperature)
    op.add_column("session_config", sa.Column("system_prompt", sa.Text, nullable=False, server_default=""))
