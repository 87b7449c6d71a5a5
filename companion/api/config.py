"""Routes of what is set: one conversation's `session_config`, and the settings of the app.

It does not know which values are allowed beyond their ranges.
"""

from __future__ import annotations

from fastapi import APIRouter

from companion.api.access import CompanionOf, OwnerOf
from companion.api.errors import refusals
from companion.api.schemas import settings as shapes

router = APIRouter(tags=["config"])


@router.get("/config/{session_id}", responses=refusals(404))
def config(companion: CompanionOf, owner: OwnerOf, session_id: str) -> shapes.SessionConfig:
    """What a conversation is set to."""
    return shapes.SessionConfig.model_validate(companion.sessions.config(owner, session_id))


@router.put("/config/{session_id}", responses=refusals(404))
async def change_config(
    companion: CompanionOf, owner: OwnerOf, session_id: str, change: shapes.ConfigChange
) -> shapes.SessionConfig:
    """Change a conversation: all of the given fields or, if one is not valid, none."""
    saved = await companion.sessions.update_config(owner, session_id, change.given())
    return shapes.SessionConfig.model_validate(saved)


@router.get("/settings")
def settings(companion: CompanionOf, owner: OwnerOf) -> shapes.Settings:
    """What new conversations start with, and what holds for the whole app."""
    return shapes.Settings.model_validate(companion.sessions.preferences(owner))


@router.put("/settings")
async def change_settings(
    companion: CompanionOf, owner: OwnerOf, change: shapes.SettingsChange
) -> shapes.Settings:
    """Change the settings: all of the given fields or, if one is not valid, none."""
    saved = await companion.sessions.update_preferences(change.given(), owner)
    return shapes.Settings.model_validate(saved)
