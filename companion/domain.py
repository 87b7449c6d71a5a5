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
"""Owns the bundled sample library; readable by everyone, writable by nobody."""
EVERYBODY = "everybody"
"""Owns what is the same for all: the light layer, since one question may search several owners'."""
LISTED = "list"
"""Stands where a source names its rankings: no search found it, the library's list names it."""


class ThinkingMode(StrEnum):
    """How a question is answered."""

    COT = "cot"
    """Reason step by step; documents are not read."""
    RAG = "rag"
    """Answer from the documents."""
    HYBRID = "hybrid"
    """Search the documents, then reason over what was found."""


class DeepQuery(StrEnum):
    """What is looked up in the deep layer."""

    FEEDBACK = "feedback"
    """The passages that were found: the deep embedder never sees a question."""
    DIRECT = "direct"
    """The question too, where the deep embedder is quick enough on this machine."""


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
class User:
    """Somebody who may sign in."""

    name: str
    owner: str
    """To whom what they make belongs; stays when a name is given again."""
    admin: bool
    """May change what concerns the whole machine."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Login:
    """A browser that somebody signed in with."""

    user: User
    created_at: datetime
    used_at: datetime


@dataclass(frozen=True, slots=True)
class Person:
    """In whose name a request acts, as the door found out; never as the request says."""

    owner: str
    admin: bool
    name: str | None = None
    """None: nobody signed in, on one's own machine or as a visitor of a demo."""


LOCAL_PERSON = Person(LOCAL_OWNER, admin=True)
"""Who sits in front of the machine."""


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
    """For the person: what is wrong and what to do; only when `state` is failed."""
    error_code: str | None = None
    """The same for programs: the `code` of the error, such as `encrypted_document`."""
    notes: tuple[str, ...] = ()
    passages: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """Documents counted together; deleted ones are not among them."""

    documents: int
    searchable: int
    """Those of them that have passages."""
    passages: int
    size: int
    """Bytes of the original files."""
    failed: int = 0
    """Those of them that could not be read."""


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
    ended: str | None = None
    """Why the model ended its answer: `stop`, or `length` at its longest; None if it did not say."""
    cached_tokens: int | None = None
    """Of the prompt, what the engine had read before; None if it does not tell."""
    window: int | None = None
    """Tokens that the model could hold at once."""
    passages_left_out: int = 0
    """Found, and not shown to the model for want of room."""
    turns_left_out: int = 0
    """Of the conversation, not told to the model; of a very long one only the nearest are counted."""


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
    scope: tuple[str, ...] | None = None
    """The documents that are searched, some perhaps deleted since; None: all of one's own."""
    temperature: float = 0.2
    """Of sampling, 0 to 2; 0 takes the likeliest word."""
    system_prompt: str = ""
    """What the person tells the model before each question, beside our own rules."""


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
    least_similarity: int
    """Percent of a cosine; at 0 whatever is found counts."""
    deep_query: DeepQuery
    show_cloud_models: bool = False
    """What is asked of a cloud model leaves the machine, documents included."""
    temperature: float = 0.2
    system_prompt: str = ""
    quality_questions: int = 0
    """Made from one's own documents to measure the search; 0: none, and nothing is measured."""


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
    searched_for: str | None = None
    """Of an answer: in which words, where the question could not be searched for as it was."""


# --- events of a turn -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The passages that the model will see, and how they were found."""

    sources: tuple[Source, ...]
    layers: tuple[str, ...]
    took_ms: float
    searched_for: str | None = None
    """In which words, where the question could not be searched for as it was."""


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


# --- layers -----------------------------------------------------------------------------

LayerKind = Literal["light", "deep"]


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """The vectors of one embedder over one owner's documents."""

    kind: LayerKind
    embedder_id: str
    embedder: str
    """Its name."""
    owner: str
    passages: int
    """Of all documents, deleted ones left out."""
    embedded: int
    """Those of them that have vectors."""
    in_force: bool
    """Searches use it."""
    left_at: datetime | None = None
    """When it was used last, if another is in force; after a grace period it is dropped."""

    @property
    def coverage(self) -> float:
        return self.embedded / self.passages if self.passages else 1.0


@dataclass(frozen=True, slots=True)
class EmbedderChange:
    """Another light embedder on its way."""

    embedder: str
    answering: str
    """The one that answers until then."""
    done: int
    """Passages that have vectors of the new one."""
    total: int
    """0: it is still being loaded."""


class RunOutcome(StrEnum):
    """How a run of the deep work ended."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    """Something else came first; the rest is done later."""
    FAILED = "failed"
    BROKEN = "broken"
    """The app ended in the middle."""


@dataclass(frozen=True, slots=True)
class IndexRun:
    """One stretch of deep work."""

    run_id: int
    embedder: str
    started_at: datetime
    ended_at: datetime | None
    outcome: RunOutcome | None
    """None: it goes on."""
    passages: int
    reason: str
    """Why it ended: a value of `Why`, or a sentence."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A document that deep work leaves out."""

    doc_id: str
    name: str
    error: str


# --- how good the search is on one's own documents ----------------------------------------


@dataclass(frozen=True, slots=True)
class KnownItem:
    """A question made from a passage, which the search should find again."""

    question_id: int
    question: str
    chunk_id: str
    doc_id: str
    document_name: str
    place: Place
    made_by: str | None
    """Name of the chat model; None: made without one."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How good a way to search is: means over all questions, 0 to 1."""

    recall_5: float
    mrr: float
    ndcg_10: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """How well the ways to search found the passages that questions were made from."""

    owner: str
    measured_at: datetime
    situation: str
    """A key of what it depends on; equal keys, equal figures."""
    questions: int
    by_model: int
    """Those of them that a chat model made."""
    documents: int
    """They were made from."""
    passages: int
    """That were searched."""
    light: str
    deep: str | None
    """Names of the embedders."""
    deep_passages: int
    """Those in the deep layer."""
    figures: dict[str, Figures]
    """By the name of a method."""
    ranks: dict[int, dict[str, int | None]]
    """Question id to method to the rank of its passage, 1-based; None: not found at all."""


# --- the machine, and work while nobody needs it ------------------------------------------


@dataclass(frozen=True, slots=True)
class CardLoad:
    """How busy a graphics card is. None is unknown, which is never idle."""

    card_id: str
    """As CUDA names it: `GPU-…`; the number of the card where the driver does not say."""
    name: str
    percent: int | None = None
    """Everybody's work, 0 to 100."""
    others_percent: int | None = None
    """Without our own work; None also where the driver does not tell the two apart."""
    memory_used: int | None = None
    """Bytes, as the other two."""
    memory_free: int | None = None
    memory_total: int | None = None
    notice: str | None = None
    """One sentence for the person: why something is unknown."""


@dataclass(frozen=True, slots=True)
class MachineLoad:
    """How busy the machine is: its graphics card, or its processor where it has none."""

    source: Literal["gpu", "cpu"]
    percent: int | None = None
    """As in `CardLoad`; of the watched card, or of all processor cores."""
    others_percent: int | None = None
    memory_free: int | None = None
    """Bytes, of the watched card or of main memory."""
    memory_total: int | None = None
    on_battery: bool = False
    """False also where nobody knows, and where there is no battery."""
    watched: str | None = None
    """`card_id` of the card that deep work would use: the largest one that says how busy it is."""
    cards: tuple[CardLoad, ...] = ()
    notice: str | None = None
    """One sentence for the person: why something is unknown, or watched in place of a card."""


class WorkState(StrEnum):
    """What the work in idle time does now."""

    WATCHING = "watching"
    """Something is in the way."""
    SETTLING = "settling"
    """All is quiet, not yet for long enough."""
    DEEPENING = "deepening"
    RESTORING = "restoring"
    """The deep embedder is gone; the chat model comes back."""
    PAUSED = "paused"
    """A person stopped it: until a person starts it again, or the app is started again."""
    OFF = "off"


class Why(StrEnum):
    """Why the work in idle time is in its state."""

    ACTIVE = "active"
    """A person was here `ago_s` ago; at the earliest it starts in `left_s`."""
    TURN = "turn"
    """A question is being answered."""
    BUSY = "busy"
    """Others use `percent` of the card or the processor."""
    UNKNOWN = "unknown"
    """Nobody knows how busy it is; `text` says why."""
    QUIET = "quiet"
    """Nothing is in the way; at the earliest it starts in `left_s`."""
    IDLE = "idle"
    """It works, because nobody needs the machine."""
    ASKED = "asked"
    """It works, because a person started it."""
    LOOKING = "looking"
    """It rests for a moment, to see whether others use the card."""
    DONE = "done"
    """Nothing is left to do."""
    STOPPED = "stopped"
    """A person stopped it."""
    BATTERY = "battery"
    MEMORY = "memory"
    """It needs `needed` bytes, and `free` bytes are free."""
    FAILED = "failed"
    """It failed, `text` says how; it is tried again in `left_s`."""
    SLEPT = "slept"
    """The machine slept, or this program did: nobody knows what happened meanwhile."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A `Why` with its numbers; the doors make a sentence of it."""

    why: Why
    ago_s: float | None = None
    left_s: float | None = None
    percent: int | None = None
    source: Literal["gpu", "cpu"] | None = None
    needed: int | None = None
    free: int | None = None
    text: str | None = None


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
    memory: int | None = None
    """Bytes it takes while loaded, on the card and beside it; None if not loaded or not told."""
    vram: int | None = None
    """Bytes of `memory` that lie on the card."""
    expires_at: datetime | None = None
    """When its engine will unload it; None: when asked to."""
    loaded_window: int | None = None
    """Tokens of the window it is loaded with; None if not loaded or not told."""
    thinks_in_levels: bool = False
    """It is told how much to think, and cannot be told not to."""

    @property
    def can_chat(self) -> bool:
        return "completion" in self.capabilities

    @property
    def can_think(self) -> bool:
        return "thinking" in self.capabilities

    @property
    def least_thinking(self) -> Thinking | None:
        """What to send as `think` for as little of it as there can be; None if it does not know the word."""
        if not self.can_think:
            return None
        return "low" if self.thinks_in_levels else False


Thinking = Literal["low", "medium", "high"] | bool
"""How much a model shall think by itself: a level, or on and off, as it understands."""


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
    think: Thinking | None = None
    """Native thinking; None for models that cannot."""
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
    """How far a download of a model is, as its engine tells it: one layer after the other."""

    status: str
    completed: int | None = None
    """Bytes of this layer."""
    total: int | None = None
    layer: str | None = None


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


class PassageEmbedder(Protocol):
    """What fills a layer. Sync; called in threads."""

    @property
    def identity(self) -> EmbedderIdentity: ...

    def windows(self, text: str) -> list[str]:
        """The text in overlapping pieces that the model can read whole; at least one."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension), float32, rows of length 1."""


class Embedder(PassageEmbedder, Protocol):
    """Text to vectors, questions too. Safe to call from several threads at once."""

    def embed_query(self, text: str) -> Vectors:
        """Shape (dimension,), float32, length 1."""
