"""Routes of the app's health and states.

It does not know what makes an app healthy.
"""

from __future__ import annotations

from fastapi import APIRouter

from companion import __version__
from companion.api.access import AdminOf, CompanionOf, OwnerOf
from companion.api.errors import refusals
from companion.api.schemas import health as shapes
from companion.doctor.examine import examine_running
from companion.doctor.findings import healthy

router = APIRouter(tags=["health"])


@router.get("/health", responses=refusals(404))
def health(companion: CompanionOf, owner: OwnerOf, session_id: str | None = None) -> shapes.Health:
    """Ready, warming up, or working with something missing (`reasons` says what); and every state
    that holds, with what to do about it. `session_id`: the conversation whose model is meant."""
    conditions = companion.conditions(owner, session_id)
    now = companion.health()
    return shapes.Health(
        state=now.state,
        reasons=now.reasons,
        conditions=tuple(shapes.Condition.model_validate(each) for each in conditions),
        started_id=companion.started_id,
        open_pages=companion.open_pages,
        version=__version__,
    )


@router.get("/health/doctor")
def doctor(companion: CompanionOf, _admin: AdminOf) -> shapes.Examination:
    """Everything that the app needs, looked at now, which takes some seconds: models and their weights,
    card, disk, SQLite, folder, index, and who could reach what; and what to do."""
    found = examine_running(companion.settings, companion.library.index_state)
    return shapes.Examination(
        healthy=healthy(found), findings=tuple(shapes.Finding.model_validate(each) for each in found)
    )


@router.post("/health/try-again", status_code=204)
def try_again(companion: CompanionOf, _admin: AdminOf) -> None:
    """Load what could not be loaded once more; `GET /health` says how it goes."""
    companion.try_again()
