"""The shapes of models and their downloads.

It does not know routes, or where a value comes from.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from companion.api.schemas.shape import Shape
from companion.inference.pulls import PullState


class Model(Shape):
    name: str
    engine: str
    size: int | None
    context_length: int | None
    capabilities: tuple[str, ...]
    loaded: bool
    remote: bool
    parameter_size: str | None
    quantization: str | None
    memory: int | None
    """Bytes it takes now, on the card and beside it; null if it is not loaded."""
    vram: int | None
    """Bytes of `memory` that lie on the card; null if nobody tells."""
    expires_at: datetime | None
    """When its engine will unload it; null: when asked to."""


class Situation(Shape):
    """Whether there is somebody to answer, and what can be done about it."""

    state: Literal["no_ollama", "ollama_without_models", "ok"]
    answers: str | None
    sentence: str
    action: str


class Recommended(Shape):
    name: str
    size: int
    about: str


class Models(Shape):
    models: list[Model]
    default: str | None
    away: dict[str, str]
    """Engines that do not answer, each with a sentence."""
    situation: Situation
    recommended: tuple[Recommended, ...]
    """Models for a beginning, by the names to pull them under."""


class Pull(Shape):
    """A download over all its layers known so far, in bytes and seconds."""

    name: str
    state: PullState
    status: str
    """What is being done, or how it ended."""
    completed: int
    total: int | None
    percent: float
    rate: float | None
    seconds_left: float | None
    error: str | None
    """The code of what went wrong."""


class Pulls(Shape):
    pulls: list[Pull]
    forbidden: str | None
    """Why nothing may be downloaded here; null if it may."""
