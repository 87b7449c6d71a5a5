"""The words of the product: values, events, and the roles that engines and embedders play.

Knows the standard library and numpy's array type only. It does not know where a value is
kept, who computed it, or how it is shown.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

LOCAL_OWNER = "local"
SAMPLE_OWNER = "sample"
"""Owner of the bundled sample library; readable by everyone, writable by nobody."""


class ThinkingMode(StrEnum):
    """How a question is answered."""

    COT = "cot"
    """Reason step by step; documents are not read."""
    RAG = "rag"
    """Answer from the documents."""
    HYBRID = "hybrid"
    """Search the documents, then reason over what was found."""


class Role(StrEnum):
    """Who said a message."""

    USER = "user"
    ASSISTANT = "assistant"


class MessageState(StrEnum):
    """How far an answer came."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    """The person stopped it; what was said is kept."""
    FAILED = "failed"
    """The engine broke; what was said is kept."""


class DocumentState(StrEnum):
    """How far a document came."""

    READING = "reading"
    SEARCHABLE = "searchable"
    DEEP = "deep"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its document a passage stands; every part may be unknown."""

    page: int | None = None
    """1-based."""
    heading: str | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of text as a reader found it, with its place."""

    text: str
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader got out of a file."""

    source_type: str
    """`pdf`, `markdown`, `transcript`, `html`, `text`, `docx`, `csv`, …"""
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    """Sentences for the person, such as a guessed encoding or pages without text."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A passage before it belongs to a document: text, place and size."""

    text: str
    place: Place
    tokens: int


@dataclass(frozen=True, slots=True)
class Document:
    """A file of the library."""

    doc_id: str
    owner: str
    name: str
    source_type: str
    source_path: str | None
    content_hash: str
    """sha256 of the original file, hex."""
    size: int
    """Bytes of the original file."""
    state: DocumentState
    created_at: datetime
    updated_at: datetime
    error: str | None = None
    """One sentence for the person; only when `state` is failed."""
    notes: tuple[str, ...] = ()
    passages: int = 0


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document of about 500 tokens; the unit of search and citation."""

    chunk_id: str
    doc_id: str
    chunk_index: int
    text: str
    text_hash: str
    place: Place
    tokens: int


@dataclass(frozen=True, slots=True)
class EmbedderIdentity:
    """What decides whether two vectors may be compared. Equal identity, same space."""

    name: str
    weight_hash: str
    """sha256 over weights and tokenizer, hex."""
    dimension: int
    max_tokens: int
    """Tokens the model reads at once, special tokens included."""
    pooling: str
    """`mean` or `cls`."""
    normalize: bool
    query_prompt: str
    passage_prompt: str
    chunker_version: int

    @property
    def embedder_id(self) -> str:
        """A short stable key of the whole identity, fit for a collection name."""
        import hashlib

        parts = (
            self.weight_hash, self.dimension, self.max_tokens, self.pooling,
            self.normalize, self.query_prompt, self.passage_prompt, self.chunker_version,
        )  # fmt: skip
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that search found."""

    passage: Passage
    document_name: str
    score: float
    """Fused score, 0 to 1; comparable within one search only."""
    layers: tuple[str, ...]
    """Which rankings had it: `lexical`, `light`, `deep`."""
    similarity: float | None = None
    """Cosine to the question in the light space, where it was computed."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Answer to one search."""

    hits: tuple[Hit, ...]
    layers: tuple[str, ...]
    """Which rankings took part: `lexical`, `light`, `feedback`, …"""
    took_ms: float
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A passage given to the model under a number, as stored with the answer.

    Holds no text: the passage may change or go, and an old citation must say so.
    """

    number: int
    """1-based, as cited: `[1]`."""
    chunk_id: str
    doc_id: str
    document_name: str
    text_hash: str
    place: Place
    score: float
    layers: tuple[str, ...]
    cited: bool = False
    """The answer refers to it."""
    matched: bool = False
    """The reference was found by comparing texts afterwards, not claimed by the model."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost."""

    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    load_ms: float | None = None
    prompt_ms: float | None = None
    answer_ms: float | None = None
    search_ms: float | None = None
    thinking_ms: float | None = None
    first_token_ms: float | None = None
    """From the question to the first token of the answer."""


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation."""

    session_id: str
    owner: str
    title: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What a conversation is set to; the columns of `session_config`."""

    session_id: str
    model_name: str
    thinking_mode: ThinkingMode
    top_k: int
    embed_light: str
    embed_deep: str
    idle_threshold_s: int


@dataclass(frozen=True, slots=True)
class Preferences:
    """Last saved defaults: what a new session starts with, and what holds for the whole app."""

    model_name: str | None
    """None: the first local chat model of Ollama, else the built-in one."""
    thinking_mode: ThinkingMode
    top_k: int
    embed_light: str
    embed_deep: str
    idle_threshold_s: int
    gpu_idle_percent: int
    cot_iterations: int


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, as stored."""

    message_id: int
    session_id: str
    role: Role
    content: str
    created_at: datetime
    state: MessageState = MessageState.COMPLETE
    mode: ThinkingMode | None = None
    model: str | None = None
    thinking: str = ""
    sources: tuple[Source, ...] = ()
    notices: tuple[str, ...] = ()
    usage: Usage = Usage()


# --- events of a turn -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The passages that the model will see, and how they were found."""

    sources: tuple[Source, ...]
    layers: tuple[str, ...]
    took_ms: float


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of thinking; not part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence for the person about this turn: something left out, a model replaced."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The stored answer; always the last event of a turn."""

    message: Message


TurnEvent = Retrieved | Thought | Token | Notice | Finished


# --- engines ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A chat or embedding model that an engine offers."""

    name: str
    engine: Literal["ollama", "builtin"]
    size: int | None
    """Bytes on disk."""
    context_length: int | None
    """Tokens; None if the engine does not say."""
    capabilities: tuple[str, ...] = ("completion",)
    loaded: bool = False
    remote: bool = False
    """A cloud model: what is asked of it leaves the machine."""
    parameter_size: str | None = None
    quantization: str | None = None

    @property
    def can_chat(self) -> bool:
        return "completion" in self.capabilities

    @property
    def can_think(self) -> bool:
        return "thinking" in self.capabilities


@dataclass(frozen=True, slots=True)
class PromptMessage:
    """One message as a model reads it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One call of a chat model."""

    model: str
    messages: tuple[PromptMessage, ...]
    num_ctx: int
    max_tokens: int
    temperature: float = 0.2
    think: bool | None = None
    """Native thinking on or off; None for models that cannot."""
    grammar: str | None = None
    """What may be said at all, in llama.cpp's GBNF. Only the built-in engine heeds it."""


@dataclass(frozen=True, slots=True)
class EngineDone:
    """Last piece of a model's stream. A stream that ends without it is broken."""

    reason: str
    """`stop` or `length`."""
    usage: Usage = field(default_factory=Usage)


EnginePiece = Thought | Token | EngineDone


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a download of a model is."""

    status: str
    completed: int | None = None
    total: int | None = None


class ChatEngine(Protocol):
    """A program that runs chat models: Ollama, the built-in llama.cpp, a fake in tests.

    All methods may be called from any running event loop. Errors are `EngineError`s.
    """

    @property
    def name(self) -> Literal["ollama", "builtin"]: ...

    async def models(self) -> list[ModelInfo]:
        """What it offers now, chat and embedding models, local and cloud."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[EnginePiece, None]:
        """Pieces as they come, `EngineDone` last. Cancelling the consumer stops the model, and so
        does `aclose`; leaving the loop with a bare `break` does not.
        """

    async def load(self, model: str, num_ctx: int) -> None: ...

    async def unload(self, model: str) -> None: ...

    async def close(self) -> None: ...


class Embedder(Protocol):
    """Text to vectors. Sync; called in threads; safe to call from several at once."""

    @property
    def identity(self) -> EmbedderIdentity: ...

    def windows(self, text: str) -> list[str]:
        """The text in overlapping pieces that the model can read whole; at least one."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension), float32, rows of length 1."""

    def embed_query(self, text: str) -> Vectors:
        """Shape (dimension,), float32, length 1."""
