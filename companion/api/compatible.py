"""What OpenAI's clients speak to, as an app of its own, to be mounted at `/v1`.

Knows its routers and its error shape. It does not know what they answer.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI

from companion import __version__
from companion.api import completions
from companion.api.app import NO_TELEMETRY
from companion.api.compatible_errors import answer_compatibly, refusals
from companion.api.heads import Heads
from companion.api.limits import BodyLimit
from companion.api.specification import with_examples
from companion.app import Companion

DESCRIPTION = (
    "For clients of OpenAI's chat completions. A model is named `companion/<mode>:<model>`; the passages "
    "behind an answer come in the extra field `sources`. Nothing of these conversations is kept."
)


class Compatible(FastAPI):
    """FastAPI, with examples, and without the 422 that OpenAI does not know."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            specification = with_examples(super().openapi())
            for methods in specification["paths"].values():
                for operation in methods.values():
                    operation["responses"].pop("422", None)
            self.openapi_schema = specification
        return self.openapi_schema


def create_compatible(companion: Companion) -> FastAPI:
    """Every route over one companion, with OpenAI's error shape and a specification of its own."""
    api = Compatible(
        title="LLM Companion, compatible with OpenAI",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        telemetry=NO_TELEMETRY,
        responses=refusals(),
    )
    api.state.companion = companion
    api.state.began = int(time.time())
    answer_compatibly(api)
    api.add_middleware(BodyLimit)
    api.add_middleware(Heads)
    api.include_router(completions.router)
    return api
