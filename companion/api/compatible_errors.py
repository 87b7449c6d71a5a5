"""Errors as OpenAI's clients read them: `{"error": {"message", "type", "param", "code"}}`.

Knows how our errors are called there. It does not know which route failed.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from companion import errors
from companion.api.errors import (
    NOT_JSON,
    UNEXPECTED,
    headers_of,
    is_other_than_json,
    refusal_headers,
    sentence_of,
    status_of,
    words_of,
)
from companion.api.schemas.completions import CompatibleError

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
_IN_MESSAGES = ("content", "system_prompt")
"""Our words for what is a message there."""
# What was tried here three times already is not tried again by the client.
FINAL = {"x-should-retry": "false"}


class UnsupportedParameter(errors.InvalidInput):
    code = "unsupported_parameter"


class UnknownModel(errors.NotFound):
    code = "model_not_found"


def compatible_body(status: int, code: str | None, message: str, param: str | None = None) -> dict[str, Any]:
    """The one shape of errors."""
    usual = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": _TYPES.get(status, usual), "param": param, "code": code}}


def body_of(error: errors.CompanionError) -> tuple[int, dict[str, Any]]:
    """Status and body. What OpenAI calls a bad request is 400 there, not 422."""
    status = 400 if isinstance(error, errors.InvalidInput) else status_of(error)
    param = error.field if isinstance(error, errors.InvalidInput) else None
    if param in _IN_MESSAGES:
        param = "messages"
    if isinstance(error, UnknownModel):
        param = "model"
    return status, compatible_body(status, error.code, error.message, param)


def refusals() -> dict[int | str, dict[str, Any]]:
    """For the specification: what any of these routes may answer beside its good answer."""
    words = {
        400: "Bad request",
        401: "Nobody signed in",
        403: "Another site",
        404: "No such model",
        413: "Too large",
        415: "Not JSON",
        429: "Too much",
        500: "Unexpected",
        502: "The model failed",
        503: "Not now",
    }
    return {status: {"model": CompatibleError, "description": text} for status, text in words.items()}


def answer_compatibly(api: FastAPI) -> None:
    """Give all errors of `api` that shape."""
    api.add_exception_handler(errors.CompanionError, _expected)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _refused_by_framework)
    api.add_exception_handler(Exception, _unexpected)


async def _expected(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.CompanionError)
    status, body = body_of(error)
    return JSONResponse(body, status, {**headers_of(error), **(FINAL if status >= 500 else {})})


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if is_other_than_json(request, error):
        return JSONResponse(compatible_body(415, "unsupported_media_type", NOT_JSON), 415)
    problems = error.errors()
    param = ".".join(str(part) for part in problems[0]["loc"][1:]) or None
    return JSONResponse(compatible_body(400, errors.InvalidInput.code, sentence_of(problems), param), 400)


async def _refused_by_framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code, message = words_of(request, error)
    return JSONResponse(
        compatible_body(error.status_code, code, message), error.status_code, refusal_headers(request, error)
    )


async def _unexpected(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse(compatible_body(500, "internal", UNEXPECTED), 500, FINAL)
