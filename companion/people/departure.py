"""Somebody is gone for good: what they made is deleted as they would have deleted it themselves.

Knows which stores hold what belongs to an owner. It does not know when somebody is gone.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from companion.domain import LOCAL_OWNER, SAMPLE_OWNER

if TYPE_CHECKING:
    from companion.storage.store import Store

_LONG_AGO = timedelta(days=1)
"""Nobody is left who could undo it."""


def delete_all_of(store: Store, owner: str) -> None:
    """Conversations and documents are hidden now and purged by the app's next upkeep.

    What was made without logins stays: it is the folder's.
    """
    if owner in (LOCAL_OWNER, SAMPLE_OWNER):
        return
    at = datetime.now(UTC) - _LONG_AGO
    while some := store.sessions.list(owner):
        for session in some:
            store.sessions.mark_deleted(owner, session.session_id, at)
    for document in store.documents.list(owner):
        store.documents.mark_deleted(owner, document.doc_id, at)
    store.settings.forget_owner(owner)
