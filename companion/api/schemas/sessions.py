"""The shapes of conversations, and of a question that is not asked yet.

It does not know routes, or where a value comes from.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from companion.api.schemas.settings import ConfigChange, SessionConfig
from companion.api.schemas.shape import Page, Request, Shape
from companion.domain import ThinkingMode


class Session(Shape):
    session_id: str
    title: str | None
    created_at: datetime
    updated_at: datetime


class SessionDetail(Session):
    config: SessionConfig
    running: bool
    """An answer is being written."""
    stopping: bool
    """It was asked to stop, and the model has not let go yet."""


class Sessions(Page):
    sessions: list[Session]


class NewSession(ConfigChange):
    """Fields left out come from the settings."""

    title: Annotated[str, Field(max_length=120)] | None = None


class Renaming(Request):
    title: Annotated[str, Field(min_length=1, max_length=120)]


class Draft(Request):
    """A question that is not asked yet."""

    content: Annotated[str, Field(max_length=100_000)]
    session_id: str | None = None
    """None: a new conversation."""
    thinking_mode: ThinkingMode | None = None


class Estimate(Shape):
    """Tokens of a prompt; `tokens` is the sum of its parts."""

    tokens: int
    window: int
    """What the model would hold at once, its answer included."""
    question: int
    history: int
    passages: int
    instructions: int


class Suggestions(Shape):
    suggestions: list[str]
