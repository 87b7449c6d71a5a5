"""Ollama's JSON: what it says as our values, and what we ask as its.

Pure. It does not know how either travels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from companion.domain import (
    ChatRequest,
    EngineDone,
    EnginePiece,
    ModelInfo,
    PullProgress,
    Thought,
    Token,
    Usage,
)
from companion.errors import StreamBroken

UNREADABLE = "The answer was cut off because Ollama sent something unreadable; try again."

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EmbeddingFacts:
    """An embedding model as Ollama describes it."""

    digest: str
    dimension: int | None
    context_length: int | None
    """Tokens."""
    size: int | None
    """Bytes on disk."""


def chat_body(request: ChatRequest) -> Json:
    body: Json = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "stream": True,
        "options": {
            "num_ctx": request.num_ctx,
            "temperature": request.temperature,
            "num_predict": request.max_tokens,
        },
    }
    # A model that cannot think answers 400 to any value.
    return body if request.think is None else {**body, "think": request.think}


def pieces(line: Json) -> Iterator[EnginePiece]:
    message = line.get("message", {})
    if not isinstance(message, dict):
        raise StreamBroken(UNREADABLE)
    if thinking := message.get("thinking"):
        yield Thought(str(thinking))
    if content := message.get("content"):
        yield Token(str(content))
    if line.get("done") is True:
        yield EngineDone("length" if line.get("done_reason") == "length" else "stop", _usage(line))


def _usage(line: Json) -> Usage:
    return Usage(
        prompt_tokens=_whole(line.get("prompt_eval_count")),
        # Of newer ones; the count above is of the whole prompt all the same.
        cached_tokens=_whole(line.get("prompt_eval_cached_count")),
        answer_tokens=_whole(line.get("eval_count")),
        load_ms=_milliseconds(line.get("load_duration")),
        prompt_ms=_milliseconds(line.get("prompt_eval_duration")),
        answer_ms=_milliseconds(line.get("eval_duration")),
    )


def pull_progress(line: Json) -> PullProgress:
    layer = line.get("digest")
    return PullProgress(
        status=str(line.get("status", "")),
        completed=_whole(line.get("completed")),
        total=_whole(line.get("total")),
        layer=str(layer) if layer else None,
    )


def model_info(tag: Json, shown: Json, running: dict[str, Json]) -> ModelInfo:
    name = name_of(tag)
    details = _object(tag, "details")
    in_memory = running.get(full_name(name))
    told = in_memory or {}
    return ModelInfo(
        name=name,
        engine="ollama",
        size=_whole(tag.get("size")),
        context_length=_context_length(_object(shown, "model_info")),
        capabilities=_capabilities(tag, shown),
        loaded=in_memory is not None,
        remote=is_remote(tag),
        parameter_size=details.get("parameter_size") or None,
        quantization=details.get("quantization_level") or None,
        memory=_whole(told.get("size")),
        vram=_whole(told.get("size_vram")),
        expires_at=_moment(told.get("expires_at")),
        loaded_window=_whole(told.get("context_length")),
        thinks_in_levels=_thinks_in_levels(tag, shown),
    )


def embedding_facts(tag: Json, shown: Json) -> EmbeddingFacts:
    info = _object(shown, "model_info")
    return EmbeddingFacts(
        digest=digest_of(tag),
        dimension=_whole(info.get(f"{info.get('general.architecture')}.embedding_length")),
        context_length=_context_length(info),
        size=_whole(tag.get("size")),
    )


def _context_length(model_info: Json) -> int | None:
    return _whole(model_info.get(f"{model_info.get('general.architecture')}.context_length"))


def _capabilities(tag: Json, shown: Json) -> tuple[str, ...]:
    """As told; a server too old or too slow to tell is judged by the model's family."""
    told = shown.get("capabilities") or tag.get("capabilities")
    if isinstance(told, list):
        return tuple(str(capability) for capability in told)
    return ("embedding",) if "bert" in str(_object(tag, "details").get("family")) else ("completion",)


def _thinks_in_levels(tag: Json, shown: Json) -> bool:
    """No capability tells it: the template asks for the level, or the family is known for it."""
    family = str(_object(tag, "details").get("family"))
    return ".ThinkLevel" in str(shown.get("template")) or family.replace("-", "") == "gptoss"


def is_remote(tag: Json) -> bool:
    return bool(tag.get("remote_host") or tag.get("remote_model")) or is_cloud_name(name_of(tag))


def name_of(model: Json) -> str:
    return str(model.get("name") or model.get("model") or "")


def is_cloud_name(name: str) -> bool:
    """`gpt-oss:120b-cloud`, `minimax-m2:cloud`: how Ollama names what it passes on to the maker."""
    return name.lower().endswith("cloud")


def full_name(name: str) -> str:
    """`llama3.2` and `llama3.2:latest` are one model; a colon may also stand before a port."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def digest_of(tag: Json) -> str:
    return str(tag.get("digest") or name_of(tag))


def objects(answer: Json, key: str) -> list[Json]:
    values = answer.get(key)
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _object(answer: Json, key: str) -> Json:
    value = answer.get(key)
    return value if isinstance(value, dict) else {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _moment(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _milliseconds(nanoseconds: object) -> float | None:
    return nanoseconds / 1e6 if isinstance(nanoseconds, int) else None
