"""Server-sent events: what happens in a turn or a download, as lines of text.

Knows the format and the names of the events. It does not know who makes them happen.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from companion.api.errors import error_body
from companion.api.schemas import messages as shapes
from companion.api.schemas.shape import ErrorAnswer
from companion.domain import Finished, Notice, Retrieved, Thought, Token, TurnEvent
from companion.errors import CompanionError

MEDIA_TYPE = "text/event-stream"
EVENTS: dict[str, Any] = {
    MEDIA_TYPE: {
        "schema": {
            "description": "Of each event",
            "type": "object",
            "required": ["data"],
            "properties": {
                "id": {"type": "string"},
                "event": {"type": "string"},
                "data": {"type": "string", "description": "JSON on one line"},
            },
        }
    }
}
"""For the specification: a stream of events."""


def wants_events(request: Request) -> bool:
    """Whether the client asked for a stream instead of one answer."""
    return MEDIA_TYPE in request.headers.get("accept", "")


def event_text(name: str, data: str, event_id: str | None = None) -> str:
    """One event; `data` is JSON on one line."""
    first = "" if event_id is None else f"id: {event_id}\n"
    return f"{first}event: {name}\ndata: {data}\n\n"


def turn_event_text(event_id: str, event: TurnEvent) -> str:
    """An event of a turn under its id, after which a client may go on later."""
    name, shape = _named(event)
    return event_text(name, shape.model_validate(event).model_dump_json(), event_id)


def _named(event: TurnEvent) -> tuple[str, type[BaseModel]]:
    match event:
        case Retrieved():
            return "retrieved", shapes.RetrievedData
        case Thought():
            return "thought", shapes.TextData
        case Token():
            return "token", shapes.TextData
        case Notice():
            return "notice", shapes.TextData
        case Finished():
            return "finished", shapes.FinishedData


def stream_of(texts: AsyncGenerator[str, None]) -> StreamingResponse:
    """Send events as they come; an expected error becomes the last event, named `error`."""
    return StreamingResponse(
        _ending_in_words(texts), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"}
    )


async def _ending_in_words(texts: AsyncGenerator[str, None]) -> AsyncIterator[str]:
    # Without aclosing a client that leaves would let the source run on until it is collected.
    async with aclosing(texts):
        try:
            async for text in texts:
                yield text
        except CompanionError as error:
            yield event_text(
                "error",
                ErrorAnswer.model_validate(error_body(error.code, error.message)).model_dump_json(),
            )
