"""The documentation page of the interface, made from its specification: one page, no scripts.

Pure: a specification in, HTML out. It does not know routes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

Json = dict[str, Any]

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; text-transform: capitalize; }
details { border: 1px solid #8886; border-radius: 8px; margin: .5rem 0; padding: .5rem .8rem; }
summary { cursor: pointer; }
.method { display: inline-block; min-width: 4.5rem; font-weight: 700; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; background: #8881; padding: .8rem; border-radius: 8px; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top; }
"""


def docs_page(specification: Json, specification_url: str) -> str:
    """HTML of an OpenAPI specification: every route with parameters, bodies and answers."""
    info = specification["info"]
    body = "".join(
        _group(tag, operations, specification) for tag, operations in _by_tag(specification).items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
        f"<p>{escape(info.get('description', ''))}</p>"
        f'<p>Machine-readable: <a href="{escape(specification_url)}">openapi.json</a></p>{body}</body></html>'
    )


def _by_tag(specification: Json) -> dict[str, list[tuple[str, str, Json]]]:
    groups: dict[str, list[tuple[str, str, Json]]] = {}
    base = "".join(server["url"] for server in specification.get("servers", [])[:1])
    for path, methods in specification["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation.get("tags", ["other"])[0], []).append(
                (method.upper(), base + path, operation)
            )
    return groups


def _group(tag: str, operations: list[tuple[str, str, Json]], specification: Json) -> str:
    shown = "".join(
        _operation(method, path, operation, specification) for method, path, operation in operations
    )
    return f"<h2>{escape(tag)}</h2>{shown}"


def _operation(method: str, path: str, operation: Json, specification: Json) -> str:
    return (
        f'<details><summary><span class="method">{method}</span><code>{escape(path)}</code></summary>'
        f"<p>{escape(operation.get('description', ''))}</p>"
        f"{_parameters(operation)}{_bodies('Body', operation.get('requestBody', {}), specification)}"
        f"{''.join(_answers(operation, specification))}</details>"
    )


def _parameters(operation: Json) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{escape(each['in'])}</td>"
        f"<td>{'required' if each.get('required') else 'optional'}</td>"
        f"<td>{escape(each.get('description', ''))}</td></tr>"
        for each in operation.get("parameters", [])
    )
    return f"<table>{rows}</table>" if rows else ""


def _answers(operation: Json, specification: Json) -> Iterator[str]:
    for status, answer in operation["responses"].items():
        title = f"{status}: {answer.get('description', '')}"
        yield _bodies(title, answer, specification) or f"<p>{escape(title)}</p>"


def _bodies(title: str, holder: Json, specification: Json) -> str:
    return "".join(
        f"<p>{escape(title)} <code>{escape(media_type)}</code></p>"
        f"<pre>{escape(json.dumps(_example(content.get('schema', {}), specification), indent=2))}</pre>"
        for media_type, content in holder.get("content", {}).items()
    )


def _example(schema: Json, specification: Json, depth: int = 0) -> Any:
    """A value's shape in words: types for plain values, nested as they come."""
    if depth > 8:
        return "…"
    if "$ref" in schema:
        return _example(
            specification["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], specification, depth
        )
    if choices := schema.get("anyOf"):
        shown = [_example(choice, specification, depth + 1) for choice in choices]
        return " | ".join(shown) if all(isinstance(each, str) for each in shown) else shown[0]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "properties" in schema:
        return {name: _example(part, specification, depth + 1) for name, part in schema["properties"].items()}
    if "items" in schema:
        return [_example(schema["items"], specification, depth + 1)]
    return str(schema.get("format") or schema.get("type") or "any")
