"""Everything of the HTTP door in one place: our own interface at `/api`, the compatible one at `/v1`.

It does not know the page, or what any of them answers.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.routing import Mount

from companion.api.app import create_api
from companion.api.compatible import create_compatible
from companion.api.docs import docs_page
from companion.app import Companion


class Door(Mount):
    """Answers everything below its path, addresses with a line break in them too."""

    def __init__(self, path: str, app: FastAPI) -> None:
        super().__init__(path, app)
        self.path_regex = re.compile(self.path_regex.pattern, re.DOTALL)


def doors(companion: Companion) -> list[Mount]:
    """What a server puts before its page."""
    apps = {"/api": create_api(companion), "/v1": create_compatible(companion)}

    async def docs() -> HTMLResponse:
        """Nothing of it comes from another site."""
        return HTMLResponse(docs_page({f"{path}/openapi.json": _at(path, apps[path]) for path in apps}))

    apps["/api"].add_api_route("/docs", docs, include_in_schema=False, response_class=HTMLResponse)
    return [Door(path, app) for path, app in apps.items()]


def _at(path: str, app: FastAPI) -> dict[str, Any]:
    return {"servers": [{"url": path}], **app.openapi()}
