"""Where a new thing can be found: the header `Location`.

It does not know what was made.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import Request, Response

LOCATED: dict[str, Any] = {
    "headers": {
        "Location": {"schema": {"type": "string"}, "description": "Where it is; only if it is one thing"}
    }
}


def locate(request: Request, response: Response, path: str) -> None:
    """Say that what was made is at `path` below our own address."""
    response.headers["Location"] = request.scope.get("root_path", "") + quote(path)
