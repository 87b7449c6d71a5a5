"""Errors as answers: every one is `{"error": {"code", "message"}}`, and this is the only map.

Knows error types and status codes. It does not know which route failed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from companion import errors

log = logging.getLogger(__name__)

# The nearest ancestor in this list decides.
STATUS: dict[type[errors.CompanionError], int] = {
    errors.CompanionError: 500,
    errors.InvalidInput: 422,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Refused: 403,
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

UNEXPECTED = "Something unexpected went wrong; the log in the data folder says more."


def status_of(error: errors.CompanionError) -> int:
    """Status code of an error."""
    return next(STATUS[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS)


def error_body(code: str, message: str) -> dict[str, dict[str, str]]:
    """The one shape of errors."""
    return {"error": {"code": code, "message": message}}


def answer_errors(api: FastAPI) -> None:
    """Give all errors of `api` that shape."""
    api.add_exception_handler(errors.CompanionError, _expected)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _refused_by_framework)
    api.add_exception_handler(Exception, _unexpected)


async def _expected(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.CompanionError)
    return JSONResponse(error_body(error.code, error.message), status_of(error))


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse(error_body(errors.InvalidInput.code, _sentence(error.errors())), 422)


def _sentence(problems: Sequence[Any]) -> str:
    """The first problem, with the field's name; never the value, which may be anything."""
    first = problems[0]
    where = [str(part) for part in first["loc"][1:]]
    if first["type"] == "json_invalid":
        return "The request's body is not valid JSON."
    return f"{'.'.join(where) or first['loc'][0]}: {first['msg']}."


async def _refused_by_framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {404: errors.NotFound.code, 405: "method_not_allowed", 413: "too_large"}.get(
        error.status_code, "bad_request"
    )
    message = {
        404: "There is no such address here; /api/docs lists all of them.",
        405: f"{request.method} is not possible at this address; /api/docs lists what is.",
    }.get(error.status_code, str(error.detail))
    return JSONResponse(error_body(code, message), error.status_code, error.headers)


async def _unexpected(_request: Request, _error: Exception) -> JSONResponse:
    # The server logs the traceback; the person gets none of it.
    return JSONResponse(error_body("internal", UNEXPECTED), 500)
