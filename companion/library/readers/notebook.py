"""Jupyter notebooks: Markdown cells as Markdown, code in fences, printed output below it.

Knows the JSON of the format, version 4 and later. It does not know pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from companion.domain import Section
from companion.errors import UnreadableDocument
from companion.library.readers import markdown
from companion.library.readers.decoding import decode


def read(path: Path, name: str, notes: list[str]) -> Iterator[Section]:
    try:
        cells = json.loads(decode(path.read_bytes(), name, notes))["cells"]
        text = "\n\n".join(filter(None, map(_cell, cells)))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableDocument(
            f"{name} is not a notebook that can be read; save it again in Jupyter."
        ) from error
    yield from markdown.sections(text)


def _cell(cell: dict[str, Any]) -> str:
    source = _text(cell.get("source", ""))
    if cell.get("cell_type") != "code":
        return source
    output = "".join(_output(output) for output in cell.get("outputs", ()))
    return _fenced(source) + (f"\n\nOutput:\n\n{_fenced(output)}" if output.strip() else "")


def _fenced(code: str) -> str:
    return f"```\n{code.strip()}\n```" if code.strip() else ""


def _output(output: dict[str, Any]) -> str:
    return _text(output.get("text") or output.get("data", {}).get("text/plain", ""))


def _text(value: object) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value)
