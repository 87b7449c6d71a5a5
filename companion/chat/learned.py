"""How long the tokens of each model are, as engines have counted them; outlives a start.

Knows models by name and size. It does not know prompts, or what the numbers are for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from companion.chat.tokens import LONGEST, SHORTEST
from companion.errors import CompanionError

if TYPE_CHECKING:
    from companion.domain import ModelInfo
    from companion.storage.settings import SettingStore

logger = logging.getLogger(__name__)

SETTING = "token_lengths"
MOST = 100
"""Models; those that were counted last are kept."""
NOTED = 0.02
"""A change of less than this share is not worth a write."""


class Learned:
    """Characters per token of each model, in memory at once and on the disk when told to keep it."""

    def __init__(self, settings: SettingStore) -> None:
        self._settings = settings
        self._known = _usable(settings.load().get(SETTING))
        self._kept = dict(self._known)

    def of(self, model: ModelInfo) -> float | None:
        """None: no engine has counted a prompt of it. Another file under the same name is another model."""
        size, length = self._known.get(model.name, (None, None))
        return length if size == model.size else None

    def note(self, model: ModelInfo, chars_per_token: float) -> None:
        before = self._known.pop(model.name, None)
        self._known[model.name] = (model.size, round(chars_per_token, 6))
        if before is None:
            for name in list(self._known)[:-MOST]:
                del self._known[name]

    def keep(self) -> None:
        """Write down what is news. Without room on the disk it stays in memory."""
        now = dict(self._known)
        if not any(_differs(entry, self._kept.get(name)) for name, entry in now.items()):
            return
        try:
            self._settings.save({SETTING: {name: list(entry) for name, entry in now.items()}})
        except CompanionError as error:
            logger.info("token lengths were not kept: %s", error.code)
            return
        self._kept = now


def _differs(entry: tuple[int | None, float], kept: tuple[int | None, float] | None) -> bool:
    return kept is None or kept[0] != entry[0] or abs(entry[1] / kept[1] - 1) > NOTED


def _usable(stored: object) -> dict[str, tuple[int | None, float]]:
    """Whatever stands in the file, as far as it can be true."""
    found = stored.items() if isinstance(stored, Mapping) else ()
    return {
        str(name): (entry[0], float(entry[1]))
        for name, entry in found
        if isinstance(entry, list)
        and len(entry) == 2
        and isinstance(entry[1], int | float)
        and SHORTEST <= entry[1] <= LONGEST
    }
