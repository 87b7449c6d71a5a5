"""The specification made whole: what every route may refuse, and an example of each body.

Pure: OpenAPI in, OpenAPI out. It does not know routes.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from companion.api.examples import EXPORT, PARAMETERS, SHAPES, STREAM

Json = dict[str, Any]

ALWAYS = (401, 403, 429, 500, 503)
"""Nobody signed in; another site; too much; a fault of ours; the database or the embedder is not there."""
WITH_A_BODY = (413, 415)
WRITING = (507,)
"""The disk is full."""
ERROR = "ErrorAnswer"
COMPATIBLE_ERROR = "CompatibleError"
_TEXTS = {"text/event-stream": STREAM, "text/markdown": EXPORT}
_WORDS = {
    400: ("unsupported_parameter", "`n` is not supported with this value; leave it out."),
    401: ("not_signed_in", "Sign in first, or send a token."),
    403: ("refused", "Another site may not use this server."),
    404: ("not_found", "There is no such conversation."),
    409: ("conflict", "An answer is still being written in this conversation."),
    413: ("too_large", "This is more than the 2 MB a request may have."),
    415: ("unsupported_media_type", "Send files as multipart/form-data, in fields named `files`."),
    422: ("invalid_input", "top_k: Input should be less than or equal to 50."),
    429: ("too_many", "This is too often; try again in a moment."),
    500: ("internal", "Something unexpected went wrong; the log in the data folder says more."),
    502: ("engine_error", "The model's answer broke off; ask again, or choose another model."),
    503: ("engine_busy", "Ollama is busy; ask again in a moment."),
    504: ("engine_silent", "The model said nothing for 120 s and was stopped."),
    507: ("disk_full", "The disk is full; free some space and add the document again."),
}  # fmt: skip


def completed(specification: Json) -> Json:
    """With refusals and examples; the given one is changed."""
    for method, operation in _operations(specification):
        for status in _refusals(method, operation):
            operation["responses"].setdefault(str(status), _refusal(status))
        _give_examples(operation)
    return specification


def with_examples(specification: Json) -> Json:
    """With examples alone; the given one is changed."""
    for _, operation in _operations(specification):
        _give_examples(operation)
    return specification


def _operations(specification: Json) -> Iterator[tuple[str, Json]]:
    for methods in specification["paths"].values():
        yield from methods.items()


def _refusals(method: str, operation: Json) -> tuple[int, ...]:
    body = WITH_A_BODY if "requestBody" in operation else ()
    return (*ALWAYS, *body, *(() if method == "get" else WRITING))


def _refusal(status: int) -> Json:
    reference = {"$ref": f"#/components/schemas/{ERROR}"}
    return {
        "description": HTTPStatus(status).phrase,
        "content": {"application/json": {"schema": reference}},
    }


def _give_examples(operation: Json) -> None:
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _without_null(parameter["schema"])
        if parameter["name"] in PARAMETERS:
            parameter["example"] = PARAMETERS[parameter["name"]]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        _give_example(kind, content)
    for status, answer in operation["responses"].items():
        for kind, content in answer.get("content", {}).items():
            if _names(content) in ([ERROR], [COMPATIBLE_ERROR]):
                content["example"] = _error(status, compatible=_names(content) == [COMPATIBLE_ERROR])
            else:
                _give_example(kind, content)


def _without_null(schema: Json) -> Json:
    """A parameter is left out; it has no way to be null."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    if len(choices) != 1:
        return schema
    return {**{name: value for name, value in schema.items() if name != "anyOf"}, **choices[0]}


def _error(status: str, *, compatible: bool) -> Json:
    code, message = _WORDS[int(status) if status.isdecimal() else 500]
    if not compatible:
        return {"error": {"code": code, "message": message}}
    kind = "server_error" if status >= "500" else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _give_example(kind: str, content: Json) -> None:
    known = [SHAPES[name] for name in _names(content) if name in SHAPES]
    if known:
        content["example"] = known[0]
    elif kind in _TEXTS:
        content["example"] = _TEXTS[kind]


def _names(content: Json) -> list[str]:
    """The shapes that a body may have."""
    schema = content.get("schema") or {}
    choices = schema.get("anyOf", [schema])
    return [choice["$ref"].rsplit("/", 1)[1] for choice in choices if "$ref" in choice]
