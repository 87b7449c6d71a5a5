"""Routes of the conversations: list, create, show, rename, delete.

It does not know what is said in them.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from companion.api import schemas
from companion.api.access import CompanionOf, OwnerOf
from companion.app import Companion

router = APIRouter(tags=["sessions"])


@router.get("/sessions")
def sessions(
    companion: CompanionOf,
    owner: OwnerOf,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> schemas.Sessions:
    """Conversations, newest activity first."""
    found = companion.sessions.list(owner, limit, offset)
    return schemas.Sessions(sessions=[schemas.Session.model_validate(session) for session in found])


@router.post("/sessions", status_code=201)
async def create(
    companion: CompanionOf, owner: OwnerOf, wishes: schemas.NewSession | None = None
) -> schemas.SessionDetail:
    """A new conversation; what is left out comes from the settings."""
    changes = wishes.model_dump(exclude_none=True) if wishes else {}
    session = await companion.sessions.create(owner, **changes)
    return await run_in_threadpool(_detail, companion, owner, session.session_id)


@router.get("/sessions/{session_id}")
def session(companion: CompanionOf, owner: OwnerOf, session_id: str) -> schemas.SessionDetail:
    """A conversation with what it is set to."""
    return _detail(companion, owner, session_id)


@router.patch("/sessions/{session_id}")
def rename(
    companion: CompanionOf, owner: OwnerOf, session_id: str, renaming: schemas.Renaming
) -> schemas.SessionDetail:
    """Give a conversation another title."""
    companion.sessions.rename(owner, session_id, renaming.title)
    return _detail(companion, owner, session_id)


@router.delete("/sessions/{session_id}", status_code=204)
def delete(companion: CompanionOf, owner: OwnerOf, session_id: str) -> None:
    """Delete a conversation with its messages; an answer that is being written is stopped."""
    companion.sessions.delete(owner, session_id)


def _detail(companion: Companion, owner: str, session_id: str) -> schemas.SessionDetail:
    plain = schemas.Session.model_validate(companion.sessions.get(owner, session_id))
    config = schemas.SessionConfig.model_validate(companion.sessions.config(owner, session_id))
    run = companion.runs.get(session_id)
    return schemas.SessionDetail(
        **plain.model_dump(), config=config, running=run is not None and not run.done
    )
