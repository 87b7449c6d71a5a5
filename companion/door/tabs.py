"""Whose tab is whose: the first who names a tab is the only one who may speak for it.

Gradio keeps the state of a tab and sends its answers under a name that the browser made up; who
knew it could read and change them. Knows names of tabs and owners. It does not know requests.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

MOST = 200
"""Tabs of one owner; the oldest are given up, and nobody's but their own."""


class Tabs:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[str, str] = {}
        self._tabs: dict[str, OrderedDict[str, None]] = {}

    def belongs(self, tab: str, owner: str) -> bool:
        """Whether the owner may speak for a tab; from now on, if nobody has yet."""
        with self._lock:
            if self._owners.setdefault(tab, owner) != owner:
                return False
            own = self._tabs.setdefault(owner, OrderedDict())
            own[tab] = None
            own.move_to_end(tab)
            if len(own) > MOST:
                del self._owners[own.popitem(last=False)[0]]
            return True

    def forget(self, owner: str) -> None:
        """The owner is there no more."""
        with self._lock:
            for tab in self._tabs.pop(owner, ()):
                del self._owners[tab]
