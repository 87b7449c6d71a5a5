"""The shapes of requests and answers, and only those: they follow the domain's values.

It does not know routes, or where a value comes from.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from companion.domain import DocumentState, MessageState, Role, ThinkingMode

TopK = Annotated[int, Field(ge=1, le=50, description="Passages given to the model")]
IdleThreshold = Annotated[int, Field(ge=10, le=86400, description="Quiet seconds before deepening starts")]
Name = Annotated[str, Field(min_length=1, max_length=300)]


class Shape(BaseModel):
    """Base of the answers: read from domain values by attribute."""

    model_config = ConfigDict(from_attributes=True, protected_namespaces=())


class Request(BaseModel):
    """Base of the requests: a misspelt field is an error, not silence."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ErrorText(Shape):
    code: str
    message: str


class ErrorAnswer(Shape):
    """Every answer with a status of 400 and more."""

    error: ErrorText


class Health(Shape):
    state: Literal["ready", "warming", "degraded"]
    reasons: tuple[str, ...]
    version: str


# --- conversations ------------------------------------------------------------------------


class Session(Shape):
    session_id: str
    title: str | None
    created_at: datetime
    updated_at: datetime


class SessionConfig(Shape):
    session_id: str
    model_name: str
    thinking_mode: ThinkingMode
    top_k: int
    embed_light: str
    embed_deep: str
    idle_threshold_s: int


class SessionDetail(Session):
    config: SessionConfig
    running: bool
    """An answer is being written."""


class Sessions(Shape):
    sessions: list[Session]


class ConfigChange(Request):
    """Fields left out stay as they are."""

    model_name: Name | None = None
    thinking_mode: ThinkingMode | None = None
    top_k: TopK | None = None
    embed_light: Name | None = None
    embed_deep: Name | None = None
    idle_threshold_s: IdleThreshold | None = None


class NewSession(ConfigChange):
    """Fields left out come from the settings."""

    title: Annotated[str, Field(max_length=120)] | None = None


class Renaming(Request):
    title: Annotated[str, Field(min_length=1, max_length=120)]


class Settings(Shape):
    """What new sessions start with, and what holds for the whole app."""

    model_name: str | None
    thinking_mode: ThinkingMode
    top_k: int
    embed_light: str
    embed_deep: str
    idle_threshold_s: int
    gpu_idle_percent: int
    cot_iterations: int


class SettingsChange(ConfigChange):
    """Fields left out stay as they are."""

    gpu_idle_percent: Annotated[int, Field(ge=1, le=100)] | None = None
    cot_iterations: Annotated[int, Field(ge=1, le=3)] | None = None


class Place(Shape):
    page: int | None
    heading: str | None
    start_s: float | None
    end_s: float | None


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


class Messages(Shape):
    messages: list[Message]


class Question(Request):
    content: Annotated[str, Field(min_length=1, max_length=100_000)]
    thinking_mode: ThinkingMode | None = None
    """Before the header of the same name; without both the session's mode holds."""


class RetrievedData(Shape):
    sources: tuple[Source, ...]
    layers: tuple[str, ...]
    took_ms: float


class TextData(Shape):
    """A piece of thinking or answer, or a notice."""

    text: str


class FinishedData(Shape):
    message: Message


class Stopped(Shape):
    stopped: bool
    """False: nothing was running."""


# --- models -------------------------------------------------------------------------------


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


class Models(Shape):
    models: list[Model]
    default: str | None
    away: dict[str, str]
    """Engines that do not answer, each with a sentence."""


class PullStep(Shape):
    status: str
    completed: int | None
    total: int | None


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


class EmbeddingsStatus(Shape):
    is_indexing: bool
    gpu_util: float | None
    current_model: str | None
    current_embedder: str | None
    state: Literal["off"]
    reason: str
    progress: float | None
    eta_s: float | None
    layers: list[LayerStatus]


# --- documents ----------------------------------------------------------------------------


class Progress(Shape):
    stage: Literal["waiting", "reading", "embedding"]
    done: int
    total: int


class Document(Shape):
    doc_id: str
    name: str
    source_type: str
    size: int
    content_hash: str
    state: DocumentState
    created_at: datetime
    updated_at: datetime
    error: str | None
    notes: tuple[str, ...]
    passages: int
    sample: bool
    """Part of the bundled sample library, which cannot be changed."""
    progress: Progress | None


class Passage(Shape):
    chunk_id: str
    doc_id: str
    chunk_index: int
    text: str
    text_hash: str
    place: Place
    tokens: int


class Documents(Shape):
    documents: list[Document]


class DocumentDetail(Shape):
    document: Document
    passages: list[Passage]
    """From `offset` on, at most `limit`; `document.passages` counts all."""


class UploadResult(Shape):
    """What became of one file; with `ok` false, `error` says why."""

    name: str
    ok: bool
    already_there: bool = False
    """The same content was there under this name; nothing had to be done."""
    document: Document | None = None
    error: ErrorText | None = None


class UploadResults(Shape):
    results: list[UploadResult]


class FailedUpload(UploadResults):
    """Not one file could be used."""

    error: ErrorText


class PassageDetail(Shape):
    passage: Passage
    document: Document
    before: list[Passage]
    after: list[Passage]


class Hit(Shape):
    passage: Passage
    document_name: str
    score: float
    layers: tuple[str, ...]
    similarity: float | None


class SearchAnswer(Shape):
    hits: tuple[Hit, ...]
    layers: tuple[str, ...]
    took_ms: float
    notices: tuple[str, ...]
