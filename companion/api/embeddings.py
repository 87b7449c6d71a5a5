"""Routes of the embeddings: how far the layers are; deepening by hand.

Deepening is not part of this version, and says so. It does not know vectors.
"""

from __future__ import annotations

from typing import NoReturn

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from companion.api import schemas
from companion.api.access import CompanionOf, OwnerOf
from companion.api.models import default_name
from companion.app import Companion
from companion.errors import Conflict

router = APIRouter(tags=["embeddings"])

NOT_YET = "Deepening is not part of this version yet; documents are searched by words and the light embedder."


@router.get("/embeddings/status")
async def status(companion: CompanionOf, owner: OwnerOf) -> schemas.EmbeddingsStatus:
    """What is being indexed, why not, and how complete each layer is."""
    light = await run_in_threadpool(_light_layer, companion, owner)
    return schemas.EmbeddingsStatus(
        is_indexing=False,
        gpu_util=None,
        current_model=await _model_in_use(companion),
        current_embedder=light.embedder if light.ready else None,
        state="off",
        reason=NOT_YET,
        progress=None,
        eta_s=None,
        layers=[light],
    )


@router.post("/embeddings/index", status_code=202, responses={409: {"model": schemas.ErrorAnswer}})
def start() -> None:
    """Start deepening now. Not in this version: always 409."""
    _refuse()


@router.delete("/embeddings/index", status_code=204, responses={409: {"model": schemas.ErrorAnswer}})
def stop() -> None:
    """Stop deepening. Not in this version: always 409."""
    _refuse()


def _refuse() -> NoReturn:
    raise Conflict(NOT_YET)


def _light_layer(companion: Companion, owner: str) -> schemas.LayerStatus:
    now = companion.library.status(owner)
    return schemas.LayerStatus(
        layer="light",
        embedder=now.embedder or companion.settings.embed_light,
        ready=now.ready,
        index=now.index,
        passages=now.passages,
        embedded=now.embedded,
        coverage=now.embedded / now.passages if now.passages else 1.0,
        error=now.error,
    )


async def _model_in_use(companion: Companion) -> str | None:
    """The chat model in memory, else the one that would answer."""
    for model in await companion.catalog.models():
        if model.loaded:
            return model.name
    return await default_name(companion)
