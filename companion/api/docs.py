"""The documentation page of the interface, made from its specifications: one page, no scripts.

Pure: specifications in, HTML out. It does not know routes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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


def docs_page(specifications: Mapping[str, Json]) -> str:
    """HTML of OpenAPI specifications, each by the address of its machine-readable form: every route
    with parameters, bodies, answers and examples.
    """
    first = next(iter(specifications.values()))["info"]
    title, version = escape(first["title"]), escape(first["version"])
    body = "".join(_door(*each) for each in specifications.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{title} <small>{version}</small></h1>{body}</body></html>"
    )


def _door(url: str, specification: Json) -> str:
    groups = _by_tag(specification).items()
    return (
        f"<p>{escape(specification['info'].get('description', ''))}</p>"
        f'<p>Machine-readable: <a href="{escape(url)}">{escape(url)}</a></p>'
        f"{''.join(_group(tag, operations, specification) for tag, operations in groups)}"
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
        f"<pre>{escape(json.dumps(_shape(content.get('schema') or {}, specification), indent=2))}</pre>"
        f"{_example(content)}"
        for media_type, content in holder.get("content", {}).items()
    )


def _example(content: Json) -> str:
    example = content.get("example")
    if example is None:
        return ""
    text = example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
    return f"<p>For example</p><pre>{escape(text)}</pre>"


def _shape(schema: Json, specification: Json, depth: int = 0) -> Any:
    """A value's shape in words: types for plain values, nested as they come."""
    if depth > 8:
        return "…"
    if "$ref" in schema:
        return _shape(
            specification["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], specification, depth
        )
    if choices := schema.get("anyOf"):
        shown = [_shape(choice, specification, depth + 1) for choice in choices]
        return " | ".join(shown) if all(isinstance(each, str) for each in shown) else shown[0]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "properties" in schema:
        return {name: _shape(part, specification, depth + 1) for name, part in schema["properties"].items()}
    if "items" in schema:
        return [_shape(schema["items"], specification, depth + 1)]
    return str(schema.get("format") or schema.get("type") or "any")
