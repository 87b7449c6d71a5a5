"""The shapes of OpenAI's chat completions, as far as they mean something here, and what we add to them.

It does not know routes, or how an answer comes about.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, WithJsonSchema

from companion.api.schemas.messages import Source
from companion.api.schemas.shape import Number, Shape

Finish = Literal["stop", "length"]


ALLOWED: dict[str, list[Any]] = {
    "n": [None, 1],
    "stop": [None, []],
    "tools": [None, []],
    "functions": [None, []],
    "response_format": [None, {"type": "text"}],
    "logprobs": [None, False],
    "modalities": [None, ["text"]],
}
"""What these may be: clients send them to say what holds here anyway."""


def _only(name: str) -> WithJsonSchema:
    return WithJsonSchema({"enum": ALLOWED[name], "description": "Anything else is not supported"})


class Given(BaseModel):
    """Base of the requests: clients send much that means nothing here, and it is passed over."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class TextPart(Given):
    type: Literal["text"]
    text: str


class ChatMessage(Given):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(Given):
    include_usage: StrictBool | None = None


AnswerTokens = Annotated[int, Number, Field(ge=1, le=1_000_000)]


class ChatCompletionRequest(Given):
    """`messages` ends with the question. Nothing of it is kept."""

    model: Annotated[str, Field(min_length=1, max_length=400)]
    """`companion/<mode>:<model>`, or `companion/<mode>` for the model that is chosen in the settings."""
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2000)]
    """System messages are told beside our own rules for citing, not in their place."""
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Number, Field(ge=0, le=2)] | None = None
    max_tokens: AnswerTokens | None = None
    max_completion_tokens: AnswerTokens | None = None
    n: Annotated[Any, _only("n")] = None
    stop: Annotated[Any, _only("stop")] = None
    tools: Annotated[Any, _only("tools")] = None
    functions: Annotated[Any, _only("functions")] = None
    response_format: Annotated[Any, _only("response_format")] = None
    logprobs: Annotated[Any, _only("logprobs")] = None
    modalities: Annotated[Any, _only("modalities")] = None

    @property
    def answer_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    def refused(self) -> str | None:
        """A parameter that would change the answer if it were passed over, and that we cannot heed."""
        for name, allowed in ALLOWED.items():
            value = getattr(self, name)
            if not any(value == each and type(value) is type(each) for each in allowed):
                return name
        return None


class CompatibleError(Shape):
    """Every answer with a status of 400 and more, as OpenAI's clients read it."""

    class Text(Shape):
        message: str
        type: str
        param: str | None
        code: str | None

    error: Text


class ModelCard(Shape):
    id: str
    object: Literal["model"] = "model"
    created: int
    """When the app was started."""
    owned_by: str
    """Its engine."""


class ModelCards(Shape):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class TokenUsage(Shape):
    """0 where the engine did not count."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class SaidMessage(Shape):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    reasoning_content: str | None
    """The thinking; null if there was none."""
    sources: tuple[Source, ...]
    """The passages by the numbers that the answer cites; `GET /api/passages/{chunk_id}` opens one."""
    notices: tuple[str, ...]


class Choice(Shape):
    index: Literal[0] = 0
    message: SaidMessage
    logprobs: None = None
    finish_reason: Finish


class ChatCompletion(Shape):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage


class Delta(Shape):
    """Only what is new; `sources` and `notices` come with the finish reason."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    sources: tuple[Source, ...] | None = None
    notices: tuple[str, ...] | None = None


class ChunkChoice(Shape):
    index: Literal[0] = 0
    delta: Delta
    logprobs: None = None
    finish_reason: Finish | None = None


class ChatCompletionChunk(Shape):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: TokenUsage | None = None
