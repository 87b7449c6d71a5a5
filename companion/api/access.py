"""Who asks, and which companion answers: the two things every route needs.

It does not know what is asked.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from companion.app import Companion
from companion.domain import LOCAL_OWNER


def owner_of(request: Request) -> str:
    """The owner in whose name a request acts: the one place where this is decided."""
    return LOCAL_OWNER


async def _owner(request: Request) -> str:
    return owner_of(request)


async def _companion(request: Request) -> Companion:
    companion: Companion = request.app.state.companion
    return companion


OwnerOf = Annotated[str, Depends(_owner)]
CompanionOf = Annotated[Companion, Depends(_companion)]
