"""Visitors of a demo: known by a secret of their own, and forgotten when they stay away.

Knows when a visitor is gone. It does not know what they made: whoever purges it is told.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from companion.domain import Person
from companion.errors import InvalidInput, TooMany
from companion.people.secrets import key_of

if TYPE_CHECKING:
    from companion.storage.store import Store

SHORTEST_SECRET = 32
LONGEST_SECRET = 200
MOST = 2000
"""At once: then the demo is full until somebody is forgotten."""
NOTED_S = 60.0
"""So often it is written down that a visitor is there."""


class Visitors:
    def __init__(
        self, store: Store, stay: timedelta, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """`stay`: so long a visitor who is away is remembered."""
        self._visitors = store.visitors
        self._stay = stay
        self._now = now
        self._noted: dict[str, tuple[float, str]] = {}

    def admit(self, secret: str) -> Person:
        """The visitor with this secret, a new one if nobody came with it before.

        Raises InvalidInput for what is no secret, TooMany if the demo is full.
        """
        if not SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET:
            raise InvalidInput(f"A secret has {SHORTEST_SECRET} to {LONGEST_SECRET} characters.")
        key = key_of(secret)
        at, owner = self._noted.get(key, (0.0, ""))
        if not owner or time.monotonic() - at > NOTED_S:
            owner = self._seen(key)
            self._noted[key] = (time.monotonic(), owner)
        return Person(owner, admin=False)

    def gone(self) -> list[str]:
        """Owners that stayed away for too long."""
        return self._visitors.gone(self._now() - self._stay)

    def forget(self, owner: str) -> None:
        """Their secret is a stranger's from now on."""
        self._noted = {key: entry for key, entry in list(self._noted.items()) if entry[1] != owner}
        self._visitors.forget(owner)

    def _seen(self, key: str) -> str:
        owner = self._visitors.owner_of(key)
        if owner is None:
            if self._visitors.count() >= MOST:
                raise TooMany("This demo is full at the moment; come back later, or run it on your machine.")
            return self._visitors.admit(key, f"visitor-{uuid.uuid4().hex}", self._now())
        self._visitors.used(owner, self._now())
        return owner
