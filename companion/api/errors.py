"""Errors as answers: every one is `{"error": {"code", "message"}}`, and this is the only map.

Knows error types and status codes. It does not know which route failed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from companion import errors
from companion.api.schemas.shape import ErrorAnswer

log = logging.getLogger(__name__)

# The nearest ancestor in this list decides.
STATUS: dict[type[errors.CompanionError], int] = {
    errors.CompanionError: 500,
    errors.InvalidInput: 422,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Refused: 403,
    errors.NotSignedIn: 401,
    errors.TooMany: 429,
    errors.DocumentError: 422,
    errors.UnknownFormat: 415,
    errors.DocumentTooLarge: 413,
    errors.EngineError: 502,
    errors.EngineUnavailable: 503,
    errors.ModelMissing: 404,
    errors.EngineBusy: 503,
    errors.EngineOutOfMemory: 503,
    errors.EngineSilent: 504,
    errors.EmbedderError: 503,
    errors.IndexUnusable: 503,
    errors.StorageError: 503,
    errors.DiskFull: 507,
}

# Codes of what fails before it reaches a route of ours.
_CODES = {
    400: errors.InvalidInput.code,
    401: "unauthorized",
    403: errors.Refused.code,
    404: errors.NotFound.code,
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
}
RETRY_AFTER_S = 5
_PASSING = (errors.EngineBusy, errors.EmbedderWarming, errors.IndexUnusable)
"""What is over by itself after a while."""

BAD_JSON = "The request's body is not valid JSON."
NOT_JSON = "Send the body as JSON, with the header `Content-Type: application/json`."
UNEXPECTED = "Something unexpected went wrong; the log in the data folder says more."


def status_of(error: errors.CompanionError) -> int:
    """Status code of an error."""
    return next(STATUS[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS)


def error_body(code: str, message: str) -> dict[str, dict[str, str]]:
    """The one shape of errors."""
    return {"error": {"code": code, "message": message}}


def headers_of(error: errors.CompanionError) -> dict[str, str]:
    """When to try again, where waiting helps."""
    wait_s = RETRY_AFTER_S if isinstance(error, _PASSING) else 0.0
    if isinstance(error, errors.TooMany):
        wait_s = error.wait_s
    return {"Retry-After": str(math.ceil(wait_s))} if wait_s else {}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer beside its good answer, for its specification."""
    return {status: {"model": ErrorAnswer, "description": HTTPStatus(status).phrase} for status in statuses}


def answer_errors(api: FastAPI) -> None:
    """Give all errors of `api` that shape."""
    api.add_exception_handler(errors.CompanionError, _expected)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _refused_by_framework)
    api.add_exception_handler(Exception, _unexpected)


async def _expected(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.CompanionError)
    return JSONResponse(error_body(error.code, _with_field(error)), status_of(error), headers_of(error))


def _with_field(error: errors.CompanionError) -> str:
    """As `sentence_of`: a program that sent several values learns which one it was."""
    field = error.field if isinstance(error, errors.InvalidInput) else None
    return f"{field}: {error.message}" if field else error.message


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if is_other_than_json(request, error):
        return JSONResponse(error_body(_CODES[415], NOT_JSON), 415)
    return JSONResponse(error_body(errors.InvalidInput.code, sentence_of(error.errors())), 422)


def is_other_than_json(request: Request, error: RequestValidationError) -> bool:
    """Whether a body was not even looked at, because it calls itself something else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    first = error.errors()[0]
    return first["loc"] == ("body",) and first["type"] != "missing" and not kind.endswith("json")


def sentence_of(problems: Sequence[Any]) -> str:
    """The first problem, with the field's name; never the value, which may be anything."""
    first = problems[0]
    where = [str(part) for part in first["loc"][1:]]
    if first["type"] == "json_invalid":
        return BAD_JSON
    return f"{'.'.join(where) or first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}."


async def _refused_by_framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code, message = words_of(request, error)
    # All that is wrong with a body is 422 here, one that cannot be read as JSON too.
    status = 422 if error.status_code == 400 else error.status_code
    return JSONResponse(error_body(code, message), status, refusal_headers(request, error))


def words_of(request: Request, error: HTTPException) -> tuple[str, str]:
    """Code and sentence of what the framework refused."""
    message = {
        400: BAD_JSON,
        404: "There is no such address here; /api/docs lists all of them.",
        405: f"{request.method} is not possible at this address; /api/docs lists what is.",
    }.get(error.status_code, str(error.detail))
    return _CODES.get(error.status_code, "bad_request"), message


def refusal_headers(request: Request, error: HTTPException) -> dict[str, str]:
    """With all methods of the address in `Allow`: the framework knows only those of one route."""
    headers = dict(error.headers or {})
    path = getattr(request.scope.get("route"), "path_format", None)
    known = request.app.openapi()["paths"].get(path, {}) if error.status_code == 405 else {}
    methods = {*map(str.upper, known), *(("HEAD",) if "get" in known else ())}
    return headers | ({"Allow": ", ".join(sorted(methods))} if methods else {})


async def _unexpected(_request: Request, _error: Exception) -> JSONResponse:
    # The server logs the traceback; the person gets none of it.
    return JSONResponse(error_body("internal", UNEXPECTED), 500)
