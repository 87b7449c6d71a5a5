"""Routes of a conversation's messages: ask, ask again, ask otherwise; and of the answer in the making.

Answers go on when the client leaves; only DELETE ends them. It does not know how an answer
comes about.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from companion.api.access import CompanionOf, OwnerOf
from companion.api.errors import refusals
from companion.api.events import EVENTS, stream_of, turn_event_text, wants_events
from companion.api.schemas import messages as shapes
from companion.chat.runs import Run
from companion.domain import Message, ThinkingMode
from companion.errors import Conflict, NotFound

router = APIRouter(tags=["messages"])

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The stored answer; with `Accept: text/event-stream` the events "
        "retrieved, thought, token, notice, finished and error",
        "content": EVENTS,
    }
}
_ASKED = _STREAM | refusals(404, 409)
LastEvent = Annotated[
    str | None,
    Header(
        alias="last-event-id",
        pattern=r"^([0-9a-f]{8}-)?[0-9]{1,9}$",
        description="The id of the last event that came; or its number alone",
    ),
]
# Beyond this SQLite has no number.
MessageId = Annotated[int, Path(ge=1, le=2**63 - 1)]


async def _header_mode(
    mode: Annotated[ThinkingMode | None, Header(alias="thinking_mode", convert_underscores=False)] = None,
    dashed: Annotated[ThinkingMode | None, Header(alias="thinking-mode")] = None,
) -> ThinkingMode | None:
    # Servers in between drop names with an underscore.
    return mode or dashed


HeaderMode = Annotated[ThinkingMode | None, Depends(_header_mode)]


@router.get("/sessions/{session_id}/messages", responses=refusals(404))
def messages(
    companion: CompanionOf,
    owner: OwnerOf,
    session_id: str,
    limit: Annotated[int | None, Query(ge=1, le=1000, description="Only the latest ones")] = None,
    before: Annotated[
        int | None, Query(ge=1, le=2**63 - 1, description="Only those before this message_id")
    ] = None,
) -> shapes.Messages:
    """What was said, oldest first, with thinking, sources and state. The next part is the one before."""
    of = companion.store.sessions
    found = of.messages(owner, session_id, limit and limit + 1, before)
    shown = found[-limit:] if limit else found
    return shapes.Messages(
        messages=[shapes.Message.model_validate(message) for message in shown],
        total=of.count_messages(owner, session_id),
        next=shown[0].message_id if len(found) > len(shown) else None,
    )


@router.post("/sessions/{session_id}/messages", response_model=shapes.Message, responses=_ASKED)
async def ask(
    request: Request,
    companion: CompanionOf,
    owner: OwnerOf,
    session_id: str,
    question: shapes.Question,
    mode: HeaderMode,
) -> Response | Message:
    """Ask, and get the answer whole or as it is written. 409 while another one is being written."""
    chosen = question.thinking_mode or mode
    run = await run_in_threadpool(
        companion.runs.start, owner, session_id, question.content, chosen, zone=question.time_zone
    )
    return await _told(request, run)


@router.put("/sessions/{session_id}/messages/{message_id}", response_model=shapes.Message, responses=_ASKED)
async def ask_otherwise(
    request: Request,
    companion: CompanionOf,
    owner: OwnerOf,
    session_id: str,
    message_id: MessageId,
    question: shapes.Question,
    mode: HeaderMode,
) -> Response | Message:
    """Give a question another text and get it answered; all that was said after it goes for good."""
    chosen = question.thinking_mode or mode
    run = await run_in_threadpool(
        companion.runs.resend,
        owner,
        session_id,
        message_id,
        question.content,
        chosen,
        zone=question.time_zone,
    )
    return await _told(request, run)


@router.post(
    "/sessions/{session_id}/messages/{message_id}/retry", response_model=shapes.Message, responses=_ASKED
)
async def ask_again(
    request: Request,
    companion: CompanionOf,
    owner: OwnerOf,
    session_id: str,
    message_id: MessageId,
    mode: HeaderMode,
    retry: shapes.Retry | None = None,
) -> Response | Message:
    """Answer the last question again. If that fails, the earlier answer stays and comes back, with a
    notice why. 409 for another question than the last one.
    """
    chosen = (retry.thinking_mode if retry else None) or mode
    zone = retry.time_zone if retry else None
    run = await run_in_threadpool(
        companion.runs.retry, owner, session_id, chosen, message_id=message_id, zone=zone
    )
    return await _told(request, run)


@router.get("/sessions/{session_id}/run", response_model=shapes.Message, responses=_ASKED)
async def follow(
    request: Request, companion: CompanionOf, owner: OwnerOf, session_id: str, last: LastEvent = None
) -> Response | Message:
    """Pick up the answer that is being written, or was within the last minute: from its start, or
    after the event named by `Last-Event-ID`. 404 if that was of another answer.
    """
    await run_in_threadpool(companion.store.sessions.get, owner, session_id)
    run = companion.runs.get(session_id)
    answer_id, _, number = (last or "0").rpartition("-")
    if run is None or (answer_id and answer_id != _id_of(run)):
        raise NotFound("No such answer is being written here; the messages hold what was said.")
    return await _told(request, run, int(number))


@router.delete("/sessions/{session_id}/run", responses=refusals(404))
def stop(companion: CompanionOf, owner: OwnerOf, session_id: str) -> shapes.Stopped:
    """Stop the answer that is being written; what was said is kept."""
    companion.store.sessions.get(owner, session_id)
    return shapes.Stopped(stopped=companion.runs.stop(owner, session_id) is not None)


async def _told(request: Request, run: Run, after: int = 0) -> Response | Message:
    """The way the client wants to hear of it: events as they come, or the answer when it is whole."""
    return stream_of(_events(run, after)) if wants_events(request) else await _answer(run)


async def _events(run: Run, after: int) -> AsyncGenerator[str, None]:
    async with aclosing(run.follow(after)) as events:
        async for number, event in events:
            yield turn_event_text(f"{_id_of(run)}-{number}", event)
    if run.error:
        raise run.error


def _id_of(run: Run) -> str:
    """Tells its events from those of the answer before it."""
    return run.run_id[:8]


async def _answer(run: Run) -> Message:
    async with aclosing(run.follow()) as events:
        async for _ in events:
            pass
    if run.answer is None:
        raise run.error or Conflict("This answer was stopped before anything was said.")
    return run.answer
