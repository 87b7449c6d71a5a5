"""Routes of a conversation's messages and of the answer that is being written.

Answers go on when the client leaves; only DELETE ends them. It does not know how an answer
comes about.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from companion.api import schemas
from companion.api.access import CompanionOf, OwnerOf
from companion.api.events import MEDIA_TYPE, stream_of, turn_event_text, wants_events
from companion.chat.runs import Run
from companion.domain import Message, ThinkingMode
from companion.errors import Conflict, NotFound

router = APIRouter(tags=["messages"])

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The stored answer; with `Accept: text/event-stream` the events "
        "retrieved, thought, token, notice, finished and error",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}
ModeHeader = Annotated[ThinkingMode | None, Header(alias="thinking_mode", convert_underscores=False)]
DashedModeHeader = Annotated[ThinkingMode | None, Header(alias="thinking-mode")]
After = Annotated[int, Header(alias="last-event-id", ge=0, description="Events up to this number are known")]


@router.get("/sessions/{session_id}/messages")
def messages(
    companion: CompanionOf,
    owner: OwnerOf,
    session_id: str,
    limit: Annotated[int | None, Query(ge=1, le=1000, description="Only the latest ones")] = None,
    before: Annotated[int | None, Query(ge=1, description="Only those before this message_id")] = None,
) -> schemas.Messages:
    """What was said, oldest first, with thinking, sources and state."""
    found = companion.store.sessions.messages(owner, session_id, limit, before)
    return schemas.Messages(messages=[schemas.Message.model_validate(message) for message in found])


@router.post("/sessions/{session_id}/messages", response_model=schemas.Message, responses=_STREAM)
async def ask(
    request: Request,
    companion: CompanionOf,
    owner: OwnerOf,
    session_id: str,
    question: schemas.Question,
    mode: ModeHeader = None,
    dashed_mode: DashedModeHeader = None,
) -> Response | Message:
    """Ask, and get the answer whole or as it is written. 409 while another one is being written."""
    companion.touch()
    chosen = question.thinking_mode or mode or dashed_mode
    run = await run_in_threadpool(companion.runs.start, owner, session_id, question.content, chosen)
    return stream_of(_events(run, 0)) if wants_events(request) else await _answer(run)


@router.get("/sessions/{session_id}/run", response_model=schemas.Message, responses=_STREAM)
async def follow(
    request: Request, companion: CompanionOf, owner: OwnerOf, session_id: str, after: After = 0
) -> Response | Message:
    """Pick up the answer that is being written, from an event on or from its start."""
    await run_in_threadpool(companion.store.sessions.get, owner, session_id)
    run = companion.runs.get(session_id)
    if run is None:
        raise NotFound("No answer is being written here; the messages hold what was said.")
    return stream_of(_events(run, after)) if wants_events(request) else await _answer(run)


@router.delete("/sessions/{session_id}/run")
def stop(companion: CompanionOf, owner: OwnerOf, session_id: str) -> schemas.Stopped:
    """Stop the answer that is being written; what was said is kept."""
    companion.store.sessions.get(owner, session_id)
    return schemas.Stopped(stopped=companion.runs.stop(owner, session_id) is not None)


async def _events(run: Run, after: int) -> AsyncGenerator[str, None]:
    async with aclosing(run.follow(after)) as events:
        async for number, event in events:
            yield turn_event_text(number, event)
    if run.error:
        raise run.error


async def _answer(run: Run) -> Message:
    async with aclosing(run.follow()) as events:
        async for _ in events:
            pass
    if run.answer is None:
        raise run.error or Conflict("This answer was stopped before anything was said.")
    return run.answer
