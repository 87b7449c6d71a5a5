"""Routes of the embeddings: how far the layers are, what deepening does and why, start and stop.

It does not know vectors, nor when deepening may run.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from companion.api.access import AdminOf, CompanionOf, OwnerOf
from companion.api.models import default_name
from companion.api.schemas import embeddings as shapes
from companion.app import Companion
from companion.background.reasons import sentence
from companion.domain import LOCAL_OWNER, EmbedderChange, LayerInfo

router = APIRouter(tags=["embeddings"])


@router.get("/embeddings/status")
async def status(companion: CompanionOf, owner: OwnerOf) -> shapes.EmbeddingsStatus:
    """What is being indexed, why not, and how complete each layer is."""
    layers = await run_in_threadpool(_layers, companion, owner)
    deep = await run_in_threadpool(companion.deep_status, owner)
    return shapes.EmbeddingsStatus(
        is_indexing=deep.is_indexing,
        gpu_util=deep.load.percent if deep.load and deep.load.source == "gpu" else None,
        current_model=await _model_in_use(companion),
        current_embedder=deep.embedder if deep.is_indexing else _light_name(companion),
        state=deep.state,
        why=deep.reason.why,
        reason=sentence(deep.state, deep.reason),
        done=deep.done,
        total=deep.total,
        progress=deep.done / deep.total if deep.total else None,
        eta_s=deep.eta_s,
        layers=layers,
        runs=await run_in_threadpool(_runs, companion, owner),
    )


@router.get("/embeddings/cost")
async def cost(
    companion: CompanionOf,
    _admin: AdminOf,
    name: Annotated[str, Query(min_length=1, max_length=300)],
    layer: Literal["light", "deep"] = "light",
) -> shapes.EmbedderCost:
    """What choosing an embedder would cost: download, memory, time for the library."""
    return shapes.EmbedderCost.model_validate(await companion.embedder_cost(name, layer))


@router.post("/embeddings/index", status_code=202)
def start(companion: CompanionOf, _admin: AdminOf) -> shapes.EmbeddingsWish:
    """Start deepening now, without waiting for idle time.

    It yields to you, and goes on after 30 s of quiet.
    """
    companion.work.deepening.press("start")
    return shapes.EmbeddingsWish(wish="start")


@router.delete("/embeddings/index", status_code=202)
def stop(companion: CompanionOf, _admin: AdminOf) -> shapes.EmbeddingsWish:
    """Stop deepening, until you start it again or the app is started again."""
    companion.work.deepening.press("stop")
    return shapes.EmbeddingsWish(wish="stop")


def _layers(companion: Companion, owner: str) -> list[shapes.LayerStatus]:
    change = companion.work.light_change.progress
    coming = [_coming_layer(change)] if change else []
    deep = [_deep_layer(layer) for layer in companion.library.deep_layers(owner)]
    return [_light_layer(companion, owner), *coming, *deep]


def _coming_layer(change: EmbedderChange) -> shapes.LayerStatus:
    """The light layer that is to answer next, of everybody's documents."""
    return shapes.LayerStatus(
        layer="light",
        embedder=change.embedder,
        ready=False,
        index=None,
        passages=change.total,
        embedded=change.done,
        coverage=change.done / change.total if change.total else 0.0,
        error=None,
    )


def _deep_layer(layer: LayerInfo) -> shapes.LayerStatus:
    return shapes.LayerStatus(
        layer="deep",
        embedder=layer.embedder,
        ready=layer.in_force,
        index=None,
        passages=layer.passages,
        embedded=layer.embedded,
        coverage=layer.coverage,
        error=None,
    )


def _light_name(companion: Companion) -> str | None:
    return companion.library.status(LOCAL_OWNER).embedder


def _runs(companion: Companion, owner: str) -> list[shapes.IndexRun]:
    """They count everybody's passages."""
    if not companion.people.is_admin(owner):
        return []
    return [shapes.IndexRun.model_validate(run) for run in companion.store.index_runs.latest()]


def _light_layer(companion: Companion, owner: str) -> shapes.LayerStatus:
    now = companion.library.status(owner)
    return shapes.LayerStatus(
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
