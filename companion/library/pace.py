"""How fast this machine embeds: tokens a second, as measured by the work itself.

Knows embedders by their names. It does not know what is embedded, or what the numbers are for.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from companion.storage.settings import SettingStore

SETTING = "embedding_pace"
LEAST_TOKENS = 2000
"""Less than this is mostly the price of a beginning."""


class Pace:
    """The last measure of each embedder; outlives a start. Safe to use from several threads."""

    def __init__(self, settings: SettingStore) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._open: dict[str, tuple[int, float]] = {}

    def note(self, embedder: str, tokens: int, seconds: float) -> None:
        """So many tokens were embedded in so many seconds. Little by little becomes one measure."""
        with self._lock:
            before, spent = self._open.pop(embedder, (0, 0.0))
            tokens, seconds = tokens + before, seconds + spent
            if tokens < LEAST_TOKENS or seconds <= 0:
                self._open[embedder] = (tokens, seconds)
                return
            measured = {**self.measured(), embedder: round(tokens / seconds, 1)}
            self._settings.save({SETTING: measured})

    def measured(self) -> Mapping[str, float]:
        """Name of an embedder to tokens a second."""
        found: Mapping[str, float] = self._settings.load().get(SETTING, {})
        return found
