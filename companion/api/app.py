"""The HTTP interface as an app of its own, to be mounted at `/api`.

Knows which routers there are. It does not know what they answer, nor the page beside it.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from companion import __version__
from companion.api import (
    config,
    documents,
    embeddings,
    health,
    messages,
    models,
    quality,
    search,
    sessions,
)
from companion.api.errors import answer_errors
from companion.api.heads import Heads
from companion.api.limits import BodyLimit
from companion.api.schemas.shape import ErrorAnswer
from companion.api.specification import completed
from companion.api.uploads import clear_incoming
from companion.app import Companion

ROUTERS = (
    sessions.router,
    messages.router,
    documents.router,
    search.router,
    models.router,
    embeddings.router,
    quality.router,
    config.router,
    health.router,
)
DESCRIPTION = (
    'Conversations, documents and models of this machine. Errors are {"error": {"code", "message"}}.'
)
NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


class Api(FastAPI):
    """FastAPI, with a specification that is whole."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = completed(super().openapi())
        return self.openapi_schema


def create_api(companion: Companion) -> FastAPI:
    """Every route over one companion, with its own error shape and specification."""
    api = Api(
        title="LLM Companion",
        version=__version__,
        description=DESCRIPTION,
        # FastAPI's own pages load their scripts from another site.
        docs_url=None,
        redoc_url=None,
        telemetry=NO_TELEMETRY,
        responses={422: {"model": ErrorAnswer}, "default": {"model": ErrorAnswer}},
    )
    api.state.companion = companion
    clear_incoming(companion.settings)
    answer_errors(api)
    api.add_middleware(BodyLimit)
    api.add_middleware(Heads)
    for router in ROUTERS:
        api.include_router(router)
    return api
