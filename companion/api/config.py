"""Routes of what is set: one conversation's `session_config`, and the settings of the app.

It does not know which values are allowed beyond their ranges.
"""

from __future__ import annotations

from fastapi import APIRouter

from companion.api import schemas
from companion.api.access import CompanionOf, OwnerOf
from companion.api.errors import refusals

router = APIRouter(tags=["config"])


@router.get("/config/{session_id}", responses=refusals(404))
def config(companion: CompanionOf, owner: OwnerOf, session_id: str) -> schemas.SessionConfig:
    """What a conversation is set to."""
    return schemas.SessionConfig.model_validate(companion.sessions.config(owner, session_id))


@router.put("/config/{session_id}", responses=refusals(404))
async def change_config(
    companion: CompanionOf, owner: OwnerOf, session_id: str, change: schemas.ConfigChange
) -> schemas.SessionConfig:
    """Change a conversation: all of the given fields or, if one is not valid, none."""
    saved = await companion.sessions.update_config(owner, session_id, change.given())
    return schemas.SessionConfig.model_validate(saved)


@router.get("/settings")
def settings(companion: CompanionOf, owner: OwnerOf) -> schemas.Settings:
    """What new conversations start with, and what holds for the whole app."""
    return schemas.Settings.model_validate(companion.sessions.preferences(owner))


@router.put("/settings")
async def change_settings(
    companion: CompanionOf, owner: OwnerOf, change: schemas.SettingsChange
) -> schemas.Settings:
    """Change the settings: all of the given fields or, if one is not valid, none."""
    saved = await companion.sessions.update_preferences(change.given(), owner)
    return schemas.Settings.model_validate(saved)
