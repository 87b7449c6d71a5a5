"""Routes of the chat models: which there are, load, unload, download.

It does not know engines; the catalog does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from companion.api import schemas
from companion.api.access import CompanionOf
from companion.api.events import MEDIA_TYPE, event_text, stream_of, wants_events
from companion.app import Companion
from companion.domain import ModelInfo, PullProgress
from companion.errors import EngineUnavailable

router = APIRouter(tags=["models"])

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The last step; with `Accept: text/event-stream` the events "
        "progress, finished and error",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}


@router.get("/models")
async def models(companion: CompanionOf) -> schemas.Models:
    """Chat models of all engines, as they are now."""
    found = await companion.catalog.models()
    default = await default_name(companion)
    return schemas.Models(
        models=[schemas.Model.model_validate(model) for model in found],
        default=default,
        away=dict(companion.catalog.away),
    )


@router.post("/models/{name:path}/load")
async def load(companion: CompanionOf, name: str) -> schemas.Model:
    """Bring a model into memory, so that the next answer starts at once."""
    model = await companion.catalog.info(name)
    await companion.chat.preload(model.name)
    return await _now(companion, name)


@router.post("/models/{name:path}/unload")
async def unload(companion: CompanionOf, name: str) -> schemas.Model:
    """Free a model's memory."""
    await companion.catalog.unload(name)
    return await _now(companion, name)


@router.post("/models/{name:path}/pull", response_model=schemas.PullStep, responses=_STREAM)
async def pull(request: Request, companion: CompanionOf, name: str) -> Response | PullProgress:
    """Download a model with Ollama. A client that leaves ends the download; what came is kept."""
    if wants_events(request):
        return stream_of(_pull_events(companion, name))
    last = PullProgress("nothing to do")
    async for step in companion.catalog.pull(name):
        last = step
    return last


async def default_name(companion: Companion) -> str | None:
    """The model that answers where none was chosen."""
    try:
        return (await companion.catalog.default()).name
    except EngineUnavailable:
        return None


async def _now(companion: Companion, name: str) -> schemas.Model:
    model: ModelInfo = await companion.catalog.info(name)
    return schemas.Model.model_validate(model)


async def _pull_events(companion: Companion, name: str) -> AsyncGenerator[str, None]:
    last = PullProgress("nothing to do")
    async for step in companion.catalog.pull(name):
        last = step
        yield event_text("progress", schemas.PullStep.model_validate(step).model_dump_json())
    yield event_text("finished", schemas.PullStep.model_validate(last).model_dump_json())
