"""The shapes of requests and answers, and only those: they follow the domain's values.

It does not know routes, or where a value comes from.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from companion.domain import (
    DeepQuery,
    DocumentState,
    MessageState,
    Role,
    RunOutcome,
    ThinkingMode,
    Why,
    WorkState,
)
from companion.inference.pulls import PullState


def _no_words(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("a number is wanted")
    return value


Number = BeforeValidator(_no_words)
"""JSON's true is no 1, and its "5" is no 5."""
TopK = Annotated[int, Number, Field(ge=1, le=50, description="Passages given to the model")]
IdleThreshold = Annotated[
    int, Number, Field(ge=10, le=86400, description="Quiet seconds before deepening starts")
]
Name = Annotated[str, Field(min_length=1, max_length=300)]
Temperature = Annotated[
    float, Number, Field(ge=0, le=2, description="Of sampling; 0 takes the likeliest word")
]
SystemPrompt = Annotated[
    str, Field(max_length=4000, description="Told beside the rules for citing; empty for nothing")
]


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
    scope: tuple[str, ...] | None
    """The chosen documents, some perhaps deleted since; null: all of one's own."""
    temperature: float
    system_prompt: str
    """What the model is told beside the rules for citing; empty: nothing."""


class SessionDetail(Session):
    config: SessionConfig
    running: bool
    """An answer is being written."""
    stopping: bool
    """It was asked to stop, and the model has not let go yet."""


class Sessions(Page):
    sessions: list[Session]


class Change(Request):
    """What conversations and settings have in common. Fields left out stay as they are."""

    model_name: Name | None = None
    thinking_mode: ThinkingMode | None = None
    top_k: TopK | None = None
    embed_light: Name | None = None
    embed_deep: Name | None = None
    idle_threshold_s: IdleThreshold | None = None
    temperature: Temperature | None = None
    system_prompt: SystemPrompt | None = None

    def given(self) -> dict[str, Any]:
        """The fields to change."""
        return self.model_dump(exclude_none=True)


class ConfigChange(Change):
    """Fields left out stay as they are."""

    scope: Annotated[list[str], Field(json_schema_extra={"minItems": 1})] | None = None
    """The documents to search; null: all of one's own."""

    def given(self) -> dict[str, Any]:
        """The fields to change; null is a value for the scope alone."""
        chosen = {"scope": self.scope} if "scope" in self.model_fields_set else {}
        return super().given() | chosen


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
    least_similarity: int
    deep_query: DeepQuery
    show_cloud_models: bool
    temperature: float
    system_prompt: str
    quality_questions: int


class SettingsChange(Change):
    """Fields left out stay as they are."""

    gpu_idle_percent: Annotated[int, Number, Field(ge=1, le=100)] | None = None
    cot_iterations: Annotated[int, Number, Field(ge=1, le=3)] | None = None
    least_similarity: Annotated[int, Number, Field(ge=0, le=100)] | None = None
    """Percent; when no passage is as similar to the question, nothing counts as found."""
    deep_query: DeepQuery | None = None
    """Direct: the deep embedder reads questions, too, if it takes 50 ms at most here; else
    `/api/health` says why not."""
    show_cloud_models: StrictBool | None = None
    """List Ollama's cloud models; questions and passages then leave the machine."""
    quality_questions: Annotated[int, Number, Field(ge=0, le=300)] | None = None
    """Made from one's own documents to measure the search; 0: none."""


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
    error_code: str | None
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


class Totals(Shape):
    documents: int
    searchable: int
    """Those of them that have passages."""
    passages: int
    size: int
    """Bytes of the original files."""


class Documents(Page):
    documents: list[Document]
    totals: Totals
    """Of one's own documents, without the sample library."""


class DocumentDetail(Page):
    """A document with a part of its passages."""

    document: Document
    passages: list[Passage]
    """From `offset` on, at most `limit`."""


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
    samples_left: bool = False
    """With these, the first documents of one's own, the sample library is not searched any more.
    Never true with `wait=false`: that is decided once they are read."""


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
