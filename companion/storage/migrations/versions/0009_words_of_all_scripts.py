"""Words of scripts without spaces, and spellings that are one word.

Revision 0009. The full text is made anew from the passages; no other table is touched.
"""

from __future__ import annotations

from alembic import op

from companion.storage.fulltext import create_full_text

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    create_full_text(op.get_bind())
