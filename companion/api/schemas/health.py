"""The shapes of how the app is: its states, and what the doctor found.

It does not know routes, or where a value comes from.
"""

from __future__ import annotations

from typing import Literal

from companion.api.schemas.shape import Shape


class Action(Shape):
    """What helps: a code for programs, a label for people, and a link if it leads to another site."""

    code: str
    label: str
    link: str | None


class Condition(Shape):
    """A state of the app, in one sentence."""

    code: str
    severity: Literal["error", "warning", "info"]
    sentence: str
    action: Action


class Health(Shape):
    state: Literal["ready", "warming", "degraded"]
    reasons: tuple[str, ...]
    conditions: tuple[Condition, ...]
    """Most important first."""
    started_id: str
    """Another one after each start of the app."""
    open_pages: int
    version: str


class Finding(Shape):
    """What the doctor found in one place, in one sentence, and what to do about it."""

    code: str
    state: Literal["ok", "info", "warning", "error"]
    sentence: str
    advice: str
    """Empty where nothing is to be done."""


class Examination(Shape):
    healthy: bool
    """Nothing is an error."""
    findings: tuple[Finding, ...]
