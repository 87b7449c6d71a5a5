"""The shapes of questions and answers, whole and as events.

It does not know routes, or where a value comes from.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field

from companion.api.schemas.passages import Place
from companion.api.schemas.shape import Page, Request, Shape
from companion.domain import MessageState, Role, ThinkingMode


class Source(Shape):
    """A passage given to the model under a number."""

    number: int
    chunk_id: str
    doc_id: str
    document_name: str
    text_hash: str
    place: Place
    score: float
    layers: tuple[str, ...]
    cited: bool
    matched: bool


class Usage(Shape):
    prompt_tokens: int | None
    answer_tokens: int | None
    load_ms: float | None
    prompt_ms: float | None
    answer_ms: float | None
    search_ms: float | None
    thinking_ms: float | None
    first_token_ms: float | None
    ended: str | None
    """Why the model ended its answer: `stop`, or `length` at its longest."""
    cached_tokens: int | None
    """Of the prompt, what the engine had read before."""
    window: int | None
    passages_left_out: int
    turns_left_out: int


class Message(Shape):
    message_id: int
    session_id: str
    role: Role
    content: str
    created_at: datetime
    state: MessageState
    mode: ThinkingMode | None
    model: str | None
    thinking: str
    sources: tuple[Source, ...]
    notices: tuple[str, ...]
    usage: Usage
    searched_for: str | None
    """Of an answer: in which words, where the question could not be searched for as it was."""


class Messages(Page):
    messages: list[Message]


class Question(Request):
    content: Annotated[str, Field(min_length=1, max_length=100_000)]
    thinking_mode: ThinkingMode | None = None
    """Before the header of the same name; without both the session's mode holds."""
    time_zone: ZoneInfo | None = None
    """Where the person is, such as `Europe/Berlin`: it says what “yesterday” is. Null: the server's."""


class Retry(Request):
    thinking_mode: ThinkingMode | None = None
    """Before the header of the same name; without both the mode in which it was asked holds."""
    time_zone: ZoneInfo | None = None
    """As of a question."""


class RetrievedData(Shape):
    sources: tuple[Source, ...]
    layers: tuple[str, ...]
    took_ms: float
    searched_for: str | None
    """In which words, where the question could not be searched for as it was."""


class TextData(Shape):
    """A piece of thinking or answer, or a notice."""

    text: str


class FinishedData(Shape):
    message: Message


class Stopped(Shape):
    stopped: bool
    """False: nothing was running."""
