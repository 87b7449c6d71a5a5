"""The HTTP interface as an app of its own, to be mounted at `/api`.

Knows which routers there are. It does not know what they answer, nor the page beside it.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from fastapi.telemetry import TelemetryConfig

from companion import __version__
from companion.api import config, documents, embeddings, health, messages, models, schemas, search, sessions
from companion.api.docs import docs_page
from companion.api.errors import answer_errors
from companion.api.limits import BodyLimit
from companion.api.uploads import clear_incoming
from companion.app import Companion

ROUTERS = (
    sessions.router,
    messages.router,
    documents.router,
    search.router,
    models.router,
    embeddings.router,
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


def create_api(companion: Companion) -> FastAPI:
    """Every route over one companion, with its own error shape and specification."""
    api = FastAPI(
        title="LLM Companion",
        version=__version__,
        description=DESCRIPTION,
        # FastAPI's own pages load their scripts from another site.
        docs_url=None,
        redoc_url=None,
        telemetry=NO_TELEMETRY,
        responses={422: {"model": schemas.ErrorAnswer}, "default": {"model": schemas.ErrorAnswer}},
    )
    api.state.companion = companion
    clear_incoming(companion.settings)
    answer_errors(api)
    api.add_middleware(BodyLimit)
    for router in ROUTERS:
        api.include_router(router)
    api.add_api_route("/docs", _docs, include_in_schema=False, response_class=HTMLResponse)
    return api


async def _docs(request: Request) -> HTMLResponse:
    base = request.scope.get("root_path", "")
    specification = {"servers": [{"url": base}], **request.app.openapi()}
    return HTMLResponse(docs_page(specification, f"{base}/openapi.json"))
