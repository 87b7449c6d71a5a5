"""A long list in parts: which part is meant, and where the next one begins.

It does not know what is listed.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many")]
# Beyond this SQLite has no number.
Offset = Annotated[int, Query(ge=0, le=2**63 - 1, description="Leave out so many: `next` of the part before")]


def next_offset(offset: int, shown: int, total: int) -> int | None:
    """Where the part after this one begins; None if this is the last one."""
    end = offset + shown
    return end if shown and end < total else None
