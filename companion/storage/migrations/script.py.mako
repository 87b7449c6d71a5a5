"""${message}

Revision ${up_revision}, after ${down_revision | comma,n}. The file is named `<revision>_<what>.py`, and revisions are
numbers of four digits: `database.py` reads them from the names.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
