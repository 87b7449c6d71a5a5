"""The shapes of layers, and of the work on them in idle time.

It does not know routes, or where a value comes from.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from companion.api.schemas.shape import Shape
from companion.domain import RunOutcome, Why, WorkState


class LayerStatus(Shape):
    layer: Literal["light", "deep"]
    embedder: str
    ready: bool
    index: Literal["opening", "ready", "rebuilding", "exact"] | None
    passages: int
    embedded: int
    coverage: float
    """Share of the passages that have vectors, 0 to 1."""
    error: str | None


class EmbedderCost(Shape):
    """What is to be known before an embedder is chosen; sizes in bytes."""

    name: str
    layer: Literal["light", "deep"]
    refusal: str | None
    """Why it cannot be used here; then nothing else is known."""
    download: int | None
    """0: it is here. null: nobody tells."""
    memory: int | None
    passages: int
    """To be embedded."""
    seconds: float | None
    """For those passages, about; null: nothing was measured yet."""


class IndexRun(Shape):
    """One stretch of deep work."""

    run_id: int
    embedder: str
    started_at: datetime
    ended_at: datetime | None
    outcome: RunOutcome | None
    """null: it goes on."""
    passages: int
    reason: str


class EmbeddingsStatus(Shape):
    is_indexing: bool
    gpu_util: float | None
    current_model: str | None
    current_embedder: str | None
    state: WorkState
    why: Why
    """The reason as a code."""
    reason: str
    """The same as a sentence."""
    done: int
    """Passages in the deep layer that is being filled, of everybody's."""
    total: int
    progress: float | None
    """`done` of `total`, 0 to 1; null where there is nothing."""
    eta_s: float | None
    layers: list[LayerStatus]
    runs: list[IndexRun]
    """Newest first."""


class EmbeddingsWish(Shape):
    """What was asked of the background work; `GET /api/embeddings/status` tells what came of it."""

    wish: Literal["start", "stop"]
