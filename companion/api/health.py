"""Route of the app's health.

It does not know what makes an app healthy.
"""

from __future__ import annotations

from fastapi import APIRouter

from companion import __version__
from companion.api import schemas
from companion.api.access import CompanionOf

router = APIRouter(tags=["health"])


@router.get("/health")
def health(companion: CompanionOf) -> schemas.Health:
    """Ready, warming up, or working with something missing (`reasons` says what)."""
    now = companion.health()
    return schemas.Health(state=now.state, reasons=now.reasons, version=__version__)
