"""Routes of the chat models: which there are, load, unload, download.

Downloads go on when the client leaves; only DELETE ends them. It does not know engines; the
catalog does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from companion.api.access import AdminOf, CompanionOf, OwnerOf
from companion.api.errors import refusals
from companion.api.events import EVENTS, event_text, stream_of, wants_events
from companion.api.schemas import models as shapes
from companion.api.schemas.messages import Stopped
from companion.app import Companion
from companion.domain import ModelInfo
from companion.errors import Conflict, EngineUnavailable
from companion.inference.catalog import RECOMMENDED
from companion.inference.pulls import Pull, PullState

router = APIRouter(tags=["models"])

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The download when it has ended; with `Accept: text/event-stream` the events "
        "progress, finished and error",
        "content": EVENTS,
    }
}


@router.get("/models")
async def models(companion: CompanionOf, _owner: OwnerOf) -> shapes.Models:
    """Chat models of all engines, as they are now."""
    found = await companion.catalog.models()
    default = await default_name(companion)
    return shapes.Models(
        models=[shapes.Model.model_validate(model) for model in found],
        default=default,
        away=dict(companion.catalog.away),
        situation=shapes.Situation.model_validate(await companion.catalog.situation()),
        recommended=tuple(shapes.Recommended.model_validate(each) for each in RECOMMENDED),
    )


@router.post("/models/{name:path}/load", responses=refusals(404, 502, 504))
async def load(companion: CompanionOf, _admin: AdminOf, name: str) -> shapes.Model:
    """Bring a model into memory, so that the next answer starts at once."""
    model = await companion.catalog.info(name)
    await companion.chat.preload(model.name)
    return await _now(companion, name)


@router.post("/models/{name:path}/unload", responses=refusals(404, 409, 502, 504))
async def unload(companion: CompanionOf, _admin: AdminOf, name: str) -> shapes.Model:
    """Free a model's memory. 409 while an answer is written with it."""
    await companion.chat.unload(name)
    return await _now(companion, name)


@router.post(
    "/models/{name:path}/pull",
    response_model=shapes.Pull,
    responses=_STREAM | refusals(404, 409, 502, 504),
)
async def pull(
    request: Request, companion: CompanionOf, _admin: AdminOf, name: str
) -> Response | shapes.Pull:
    """Download a model with Ollama, or join its download. A client that leaves does not end it."""
    begun = companion.pulls.start(name)
    return stream_of(_pull_events(begun)) if wants_events(request) else await _whole(begun)


@router.delete("/models/{name:path}/pull")
def cancel_pull(companion: CompanionOf, _admin: AdminOf, name: str) -> Stopped:
    """Cancel the download of a model. What came is kept, and the next one goes on from there."""
    return Stopped(stopped=companion.pulls.cancel(name) is not None)


@router.get("/pulls")
def pulls(companion: CompanionOf, _owner: OwnerOf) -> shapes.Pulls:
    """Downloads since the start, the newest first."""
    return shapes.Pulls(
        pulls=[shapes.Pull.model_validate(each.now) for each in companion.pulls.all()],
        forbidden=companion.pulls.forbidden,
    )


async def default_name(companion: Companion) -> str | None:
    """The model that answers where none was chosen."""
    try:
        return (await companion.catalog.default()).name
    except EngineUnavailable:
        return None


async def _now(companion: Companion, name: str) -> shapes.Model:
    model: ModelInfo = await companion.catalog.info(name)
    return shapes.Model.model_validate(model)


async def _pull_events(pull: Pull) -> AsyncGenerator[str, None]:
    async with aclosing(pull.follow()) as statuses:
        async for status in statuses:
            yield event_text("progress", shapes.Pull.model_validate(status).model_dump_json())
    yield event_text("finished", _ended(pull).model_dump_json())


async def _whole(pull: Pull) -> shapes.Pull:
    async with aclosing(pull.follow()) as statuses:
        async for _ in statuses:
            pass
    return _ended(pull)


def _ended(pull: Pull) -> shapes.Pull:
    """Raises why it failed, or that it was cancelled."""
    if pull.failure:
        raise pull.failure
    if pull.now.state is PullState.CANCELLED:
        raise Conflict(pull.now.status)
    return shapes.Pull.model_validate(pull.now)
