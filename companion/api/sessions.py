"""Routes of the conversations: list, create, show, rename, delete, export, what to ask next.

It does not know what is said in them.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from companion.api.access import CompanionOf, OwnerOf
from companion.api.errors import refusals
from companion.api.paging import Limit, Offset, next_offset
from companion.api.places import LOCATED, locate
from companion.api.schemas import sessions as shapes
from companion.api.schemas.settings import SessionConfig
from companion.app import Companion
from companion.chat.export import ExportKind

router = APIRouter(tags=["sessions"])

_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A file, named after the title",
        "content": {
            "text/markdown": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}
Format = Annotated[
    ExportKind, Query(alias="format", description="markdown to read, json with all that is stored")
]


@router.get("/sessions")
def sessions(
    companion: CompanionOf,
    owner: OwnerOf,
    limit: Limit = 200,
    offset: Offset = 0,
) -> shapes.Sessions:
    """Conversations, newest activity first."""
    found = companion.sessions.list(owner, limit, offset)
    total = companion.store.sessions.count(owner)
    return shapes.Sessions(
        sessions=[shapes.Session.model_validate(session) for session in found],
        total=total,
        next=next_offset(offset, len(found), total),
    )


@router.post("/sessions", status_code=201, responses={201: LOCATED})
async def create(
    request: Request,
    response: Response,
    companion: CompanionOf,
    owner: OwnerOf,
    wishes: shapes.NewSession | None = None,
) -> shapes.SessionDetail:
    """A new conversation; what is left out comes from the settings."""
    changes = wishes.given() if wishes else {}
    session = await companion.sessions.create(owner, **changes)
    locate(request, response, f"/sessions/{session.session_id}")
    return await run_in_threadpool(_detail, companion, owner, session.session_id)


@router.get("/sessions/{session_id}", responses=refusals(404))
def session(companion: CompanionOf, owner: OwnerOf, session_id: str) -> shapes.SessionDetail:
    """A conversation with what it is set to."""
    return _detail(companion, owner, session_id)


@router.patch("/sessions/{session_id}", responses=refusals(404))
def rename(
    companion: CompanionOf, owner: OwnerOf, session_id: str, renaming: shapes.Renaming
) -> shapes.SessionDetail:
    """Give a conversation another title."""
    companion.sessions.rename(owner, session_id, renaming.title)
    return _detail(companion, owner, session_id)


@router.delete("/sessions/{session_id}", status_code=204, responses=refusals(404))
def delete(companion: CompanionOf, owner: OwnerOf, session_id: str) -> None:
    """Delete a conversation with its messages, at once and for good; an answer that is being written
    is stopped. (The page hides a conversation first, so that its Undo can bring it back.)"""
    companion.sessions.delete(owner, session_id)


@router.get("/sessions/{session_id}/export", response_class=Response, responses=_FILE | refusals(404))
def export(
    companion: CompanionOf,
    owner: OwnerOf,
    session_id: str,
    kind: Format = "markdown",
) -> Response:
    """A conversation as a file: to read as Markdown, or with all that is stored as JSON."""
    made = companion.sessions.export(owner, session_id, kind)
    headers = {"Content-Disposition": _attachment(made.file_name)}
    return Response(made.text, media_type=made.media_type, headers=headers)


@router.get("/sessions/{session_id}/suggestions", responses=refusals(404))
def suggestions(companion: CompanionOf, owner: OwnerOf, session_id: str) -> shapes.Suggestions:
    """Questions that might follow the last answer, from the headings around what was found for it."""
    return shapes.Suggestions(suggestions=companion.chat.suggestions(owner, session_id))


@router.post("/estimate", responses=refusals(404))
def estimate(companion: CompanionOf, owner: OwnerOf, question: shapes.Draft) -> shapes.Estimate:
    """What a question would cost in tokens if it were asked now; passages by their usual share."""
    cost = companion.chat.estimate(owner, question.session_id, question.content, question.thinking_mode)
    return shapes.Estimate.model_validate(cost)


def _attachment(name: str) -> str:
    """RFC 6266: a plain name for old clients, the real one in UTF-8 for all others."""
    plain = "".join(letter if letter.isascii() and letter not in '"\\%' else "_" for letter in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _detail(companion: Companion, owner: str, session_id: str) -> shapes.SessionDetail:
    plain = shapes.Session.model_validate(companion.sessions.get(owner, session_id))
    config = SessionConfig.model_validate(companion.sessions.config(owner, session_id))
    run = companion.runs.get(session_id)
    return shapes.SessionDetail(
        **plain.model_dump(),
        config=config,
        running=run is not None and not run.done,
        stopping=run is not None and run.stopping,
    )
