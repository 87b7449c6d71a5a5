"""What the engines offer, for whoever looks at the app: asked in the background, told at once.

Knows how long somebody waits for it. It does not know what a situation means, or how it is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress

from companion.errors import Conflict
from companion.inference.catalog import Catalog, Situation


class Outlook:
    """Thread-safe enough: who asks twice at the same moment learns the same."""

    def __init__(self, catalog: Catalog, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        """`loop` carries out the asking; raises `Conflict` while the app is closing."""
        self._catalog = catalog
        self._loop = loop
        self._asking: Future[None] | None = None
        self.situation: Situation | None = None
        """As told last; None until the engines were asked."""

    def look(self, patience_s: float = 0.0) -> None:
        """Learn which models there are; when that takes longer, it goes on for the next one who asks."""
        if self._asking is None or self._asking.done():
            try:
                loop = self._loop()
            except Conflict:
                # The app is closing.
                return
            self._asking = asyncio.run_coroutine_threadsafe(self._learn(), loop)
        with suppress(TimeoutError, CancelledError):
            self._asking.result(patience_s)

    async def _learn(self) -> None:
        self.situation = await self._catalog.situation()
