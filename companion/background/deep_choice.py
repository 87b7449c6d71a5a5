"""The deep embedder that a person chose, opened; it follows when they choose another.

Knows when opening is tried again. It does not know what the embedder is used for.
"""

from __future__ import annotations

from collections.abc import Callable

from companion.background.idle import RETRY_S
from companion.errors import EmbedderError
from companion.inference.deep import DeepEmbedder
from companion.inference.opening import opening

Opener = Callable[[str, bool], DeepEmbedder]
"""Name of an embedder, and whether its weights may be fetched; raises EmbedderError."""


class DeepChoice:
    """`follow` belongs to the worker's thread; the rest to anybody."""

    def __init__(self, open_embedder: Opener, wanted: Callable[[], str], clock: Callable[[], float]) -> None:
        self._open = open_embedder
        self._wanted = wanted
        self._clock = clock
        self.embedder: DeepEmbedder | None = None
        self.unable: str | None = None
        """Why it could not be opened, in a sentence."""
        self._opened_name: str | None = None
        self._retry_at = 0.0

    @property
    def name(self) -> str:
        return self._wanted()

    @property
    def followed(self) -> bool:
        """Nothing else was chosen since the last look."""
        return self._wanted() == self._opened_name

    def follow(self, *, asked: bool) -> bool:
        """Whether another one was chosen; then the one before lets go. `asked`: its weights may be
        fetched, and it is tried at once."""
        name = self._wanted()
        changed = name != self._opened_name
        if changed:
            self.kill()
            self.embedder, self._opened_name, self.unable = None, name, None
            self._retry_at = 0.0
        if self.embedder is None and (asked or self._clock() >= self._retry_at):
            try:
                with opening(name):
                    self.embedder = self._open(name, asked)
                self.unable = None
            except EmbedderError as error:
                self.unable = error.message
                self._retry_at = self._clock() + RETRY_S
        return changed

    def kill(self) -> None:
        """End its child, if it has one."""
        if self.embedder is not None:
            self.embedder.kill()
