"""The options of the command line: one for each setting, with its words and limits.

Knows how a setting is written as an option. It does not know what any of them does.
"""

from __future__ import annotations

import argparse
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from companion.config import Settings, of_a_space
from companion.errors import InvalidInput


def settings_from(arguments: dict[str, Any]) -> Settings:
    """Settings from given options over the environment over defaults. Raises `InvalidInput`."""
    given = {name: value for name, value in arguments.items() if name in Settings.model_fields}
    try:
        settings = Settings(**{**of_a_space(), **given})
    except ValidationError as error:
        raise InvalidInput(_sentence(error)) from None
    # Children run in another folder, so no path may depend on where we stand.
    paths = {name: value.expanduser().absolute() for name, value in settings if isinstance(value, Path)}
    return settings.model_copy(update=paths)


def _sentence(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    name = str(problem["loc"][0])
    limits = _limits(Settings.model_fields[name])
    reason = problem["msg"][0].lower() + problem["msg"][1:]
    wanted = f"it is a number from {limits[0]} to {limits[1]}" if limits else reason
    return f"{_option(name)} (COMPANION_{name.upper()}) cannot be {problem['input']!r}: {wanted}."


def _limits(field: FieldInfo) -> tuple[float, float] | None:
    found = {
        name: getattr(limit, name)
        for limit in field.metadata
        for name in ("ge", "le")
        if hasattr(limit, name)
    }
    return (found["ge"], found["le"]) if len(found) == 2 else None


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    for name, field in Settings.model_fields.items():
        kind: dict[str, Any] = {"metavar": _metavar(field)}
        if field.annotation is bool:
            kind = {"action": argparse.BooleanOptionalAction}
        parser.add_argument(
            _option(name), dest=name, default=argparse.SUPPRESS, help=_help(field).replace("%", "%%"), **kind
        )
    return parser


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(field: FieldInfo) -> str:
    kinds = typing.get_args(field.annotation) if _is_union(field.annotation) else (field.annotation,)
    words = {int: "N", float: "N", Path: "PATH"}
    return next((words[kind] for kind in kinds if kind in words), "TEXT")


def _is_union(annotation: object) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _help(field: FieldInfo) -> str:
    limits = _limits(field)
    between = f", {limits[0]} to {limits[1]}" if limits else ""
    what, mark, more = (field.description or "").partition(";")
    default = field.get_default(call_default_factory=True)
    shown = default.value if isinstance(default, Enum) else default
    return f"{what}{between}{mark}{more}" + ("" if shown in (None, "") else f" (default: {shown})")
