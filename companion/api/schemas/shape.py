"""What shapes are made of: strict requests, answers read from the domain's values, pages, errors.

It does not know routes, or where a value comes from.
"""

from __future__ import annotations

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _no_words(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("a number is wanted")
    return value


Number = BeforeValidator(_no_words)
"""JSON's true is no 1, and its "5" is no 5."""


class Shape(BaseModel):
    """Base of the answers: read from domain values by attribute."""

    model_config = ConfigDict(from_attributes=True, protected_namespaces=())


class Request(BaseModel):
    """Base of the requests: a misspelt field is an error, not silence."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Page(Shape):
    """A part of a long list."""

    total: int
    """Of the whole list."""
    next: int | None
    """Where the next part begins, to be sent as `offset`, or as `before` for messages; null: this is the
    last one."""


class ErrorText(Shape):
    code: str
    message: str


class ErrorAnswer(Shape):
    """Every answer with a status of 400 and more."""

    error: ErrorText
