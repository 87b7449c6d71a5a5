"""Who asks, whether they may, and which companion answers: what every route needs.

It does not know what is asked.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from companion.app import Companion
from companion.domain import LOCAL_PERSON, Person
from companion.people.identity import person_of


def who_asks(request: Request) -> Person:
    """The person in whose name a request acts: the one place where this is decided.

    Raises NotSignedIn where others can come in and no gate has let this one pass.
    """
    if request.app.state.companion.settings.mode == "local":
        return LOCAL_PERSON
    return person_of(request.scope)


async def _owner(request: Request) -> str:
    return who_asks(request).owner


async def _admin(request: Request) -> str:
    owner, companion = who_asks(request).owner, request.app.state.companion
    await run_in_threadpool(companion.people.require_admin, owner)
    return owner


async def _companion(request: Request) -> Companion:
    companion: Companion = request.app.state.companion
    return companion


OwnerOf = Annotated[str, Depends(_owner)]
AdminOf = Annotated[str, Depends(_admin)]
"""As `OwnerOf`, for what concerns the whole machine; 403 for everybody else."""
CompanionOf = Annotated[Companion, Depends(_companion)]
