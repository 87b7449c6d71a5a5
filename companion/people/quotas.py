"""What others may use up: users bytes, visitors of a demo documents, bytes and questions an hour.

Knows numbers and owners. It does not know what is in a document or a question.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from companion.domain import LOCAL_OWNER, SAMPLE_OWNER
from companion.errors import TooMany

if TYPE_CHECKING:
    from companion.config import Settings
    from companion.storage.store import Store

HOUR_S = 3600.0


class Quotas:
    """Each method raises TooMany with what the limit is; whoever sits at this machine has none."""

    def __init__(
        self, store: Store, settings: Settings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._documents = store.documents
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: dict[str, deque[float]] = {}

    def require_upload(self, owner: str, size: int, *, documents: int = 0) -> None:
        """Before so many bytes are taken in, for so many more documents; 0 where nobody knows."""
        if self._settings.mode == "shared" and owner != LOCAL_OWNER:
            self._require_room(owner, size)
        if self._is_free(owner):
            return
        totals, limits = self._documents.totals((owner,)), self._settings
        if totals.documents + documents > limits.demo_documents:
            raise TooMany(
                f"This demo takes {limits.demo_documents} documents; delete one, and add this one again."
            )
        if totals.size + size > limits.demo_mb * 1_000_000:
            raise TooMany(f"This demo takes {limits.demo_mb} MB of files; delete some, or add a smaller one.")

    def _require_room(self, owner: str, size: int) -> None:
        most = self._settings.user_mb
        if self._documents.totals((owner,)).size + size > most * 1_000_000:
            raise TooMany(f"Your files may take {most:,} MB; delete some, or add a smaller one.")

    def require_question(self, owner: str) -> None:
        """Counts one more question of this hour."""
        if self._is_free(owner):
            return
        now, most = self._clock(), self._settings.demo_questions
        with self._lock:
            asked = self._asked.setdefault(owner, deque())
            while asked and now - asked[0] >= HOUR_S:
                asked.popleft()
            if len(asked) >= most:
                wait = HOUR_S - (now - asked[0])
                minutes = max(round(wait / 60), 1)
                raise TooMany(
                    f"This demo answers {most} questions an hour; ask again in {minutes} minutes.", wait
                )
            asked.append(now)

    def forget(self, owner: str) -> None:
        with self._lock:
            self._asked.pop(owner, None)

    def _is_free(self, owner: str) -> bool:
        return not self._settings.demo or owner in (LOCAL_OWNER, SAMPLE_OWNER)
