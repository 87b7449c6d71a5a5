"""The values that a setting may have, from whoever they come.

Pure, but for a look whether a folder holds a model. It does not know whose setting it is, or who may
change it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from companion.domain import DeepQuery, ThinkingMode
from companion.errors import InvalidInput

LONGEST_NAME = 300
# As the hub allows: longer ones would not even do as names of files.
_NAME_OF_MODEL = re.compile(r"[\w-][\w.-]{0,95}(/[\w-][\w.-]{0,95})?", re.ASCII)
_OLLAMA_PREFIX = "ollama:"


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that a setting may be."""

    lowest: int
    highest: int
    words: str
    whole: bool = True

    @property
    def rule(self) -> str:
        kind = "whole number" if self.whole else "number"
        return f"{self.words} is a {kind} from {self.lowest} to {self.highest}."


RANGES = {
    "top_k": Range(1, 50, "The number of passages"),
    "idle_threshold_s": Range(10, 86_400, "The quiet time in seconds"),
    "gpu_idle_percent": Range(1, 100, "The GPU use in percent"),
    "cot_iterations": Range(1, 3, "The number of thinking passes"),
    "temperature": Range(0, 2, "The temperature", whole=False),
    "quality_questions": Range(0, 300, "The number of questions"),
    "least_similarity": Range(0, 100, "The least similarity in percent"),
}
LONGEST = {"system_prompt": 4000}
"""Characters."""


def checked_value(name: str, value: object, *, folders: bool) -> Any:
    """The value as it is kept. `folders`: embedders may be folders of this machine.

    Raises InvalidInput with the name of the field.
    """
    match name:
        case "thinking_mode":
            return _checked_mode(value)
        case "deep_query":
            return _checked_deep_query(value)
        case "model_name":
            return _checked_name(name, value, "Choose a model.")
        case "embed_light":
            return _checked_light(value, folders)
        case "embed_deep":
            return _checked_deep(value, folders)
        case "scope":
            return _checked_scope(value)
        case "show_cloud_models":
            return _checked_switch(name, value)
        case "system_prompt":
            return _checked_prompt(name, value)
        case _:
            return _checked_number(name, value)


def _checked_light(value: object, folders: bool) -> str:
    name = _checked_name("embed_light", value, "Name a light embedder.")
    if name.startswith(_OLLAMA_PREFIX):
        raise InvalidInput(
            "The light embedder cannot run in Ollama; name a sentence-transformers model.",
            field="embed_light",
        )
    return _checked_embedder("embed_light", name, folders)


def _checked_deep(value: object, folders: bool) -> str:
    name = _checked_name("embed_deep", value, "Name a deep embedder.")
    if name.startswith(_OLLAMA_PREFIX) and name != _OLLAMA_PREFIX:
        return name
    return _checked_embedder("embed_deep", name, folders)


def _checked_embedder(field: str, name: str, folders: bool) -> str:
    if _NAME_OF_MODEL.fullmatch(name):
        return name
    folder = Path(name).expanduser()
    if not folders:
        raise InvalidInput("Only names of models can be used here, no folders.", field=field)
    if not _is_model(folder):
        raise InvalidInput(
            f"{name} is neither the name of a model nor a sentence-transformers folder.", field=field
        )
    return name


def _is_model(folder: Path) -> bool:
    try:
        return (folder / "modules.json").is_file()
    except OSError:
        # A name that is too long for a file, say.
        return False


def _checked_mode(value: object) -> ThinkingMode:
    try:
        return ThinkingMode(str(value))
    except ValueError as error:
        raise InvalidInput("The thinking mode is cot, rag or hybrid.", field="thinking_mode") from error


def _checked_deep_query(value: object) -> DeepQuery:
    try:
        return DeepQuery(str(value))
    except ValueError as error:
        raise InvalidInput("The deep layer is asked by feedback or direct.", field="deep_query") from error


def _checked_name(field: str, value: object, wanted: str) -> str:
    name = value.strip() if isinstance(value, str) else ""
    if not name:
        raise InvalidInput(wanted, field=field)
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidInput("This name cannot be used; it is too long or has odd characters.", field=field)
    return name


def _checked_scope(value: object) -> tuple[str, ...] | None:
    """Each id once, in the order they were chosen; None means all."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise InvalidInput("The scope is a list of document ids, or null for all.", field="scope")
    if not value:
        raise InvalidInput("Choose at least one document, or all of them.", field="scope")
    return tuple(dict.fromkeys(value))


def _checked_switch(field: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidInput("This setting is either on or off.", field=field)


def _checked_prompt(field: str, value: object) -> str:
    """Empty is allowed: then only our own rules are told."""
    if not isinstance(value, str):
        raise InvalidInput("The system prompt is a text, or empty for none.", field=field)
    prompt = value.replace("\r\n", "\n").replace("\0", "").strip()
    if len(prompt) > LONGEST[field]:
        raise InvalidInput(
            f"The system prompt has at most {LONGEST[field]:,} characters, and this one has "
            f"{len(prompt):,}; shorten it, or add long texts as documents.",
            field=field,
        )
    return prompt


def _checked_number(field: str, value: object) -> int | float:
    """Numbers as pages and JSON send them: 5 and 5.0, but not "5" and not true."""
    allowed = RANGES[field]
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not allowed.lowest <= number <= allowed.highest or (allowed.whole and number != int(number)):
        raise InvalidInput(allowed.rule, field=field)
    return int(number) if allowed.whole else float(number)
