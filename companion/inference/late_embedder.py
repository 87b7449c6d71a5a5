"""An embedder that is still on its way, while others already hold it.

Knows who waits for it and how long. It does not know how an embedder is loaded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from companion.domain import Embedder, EmbedderIdentity
from companion.errors import CompanionError, EmbedderError, EmbedderWarming

if TYPE_CHECKING:
    from companion.domain import Vectors

log = logging.getLogger(__name__)


class LateEmbedder:
    """Loaded by somebody's `warm()`."""

    def __init__(self, load: Callable[[], Embedder], *, patience_s: float = 5.0) -> None:
        """`patience_s`: how long a question waits before search goes on without vectors."""
        self._load = load
        self._patience_s = patience_s
        self._decided = threading.Event()
        self._embedder: Embedder | None = None
        self._failure: str | None = None

    @property
    def ready(self) -> bool:
        return self._embedder is not None

    @property
    def failure(self) -> str | None:
        """Why it could not be loaded, one sentence for the person."""
        return self._failure

    @property
    def identity(self) -> EmbedderIdentity:
        """Raises EmbedderWarming before it is loaded, EmbedderError if it could not be."""
        return self._get(0.0).identity

    def warm(self) -> None:
        """Load it; call once more to try again after a failure. Never raises."""
        failure = None
        try:
            self._embedder = self._load()
        except CompanionError as error:
            log.warning("The embedder could not be loaded: %s", error.message)
            failure = error.message
        except Exception:
            log.exception("The embedder could not be loaded")
            failure = "The embedder could not be loaded: see the log."
        self._decide(failure)

    def close(self) -> None:
        """Let go of everybody who waits; with an error, if it is not loaded by now."""
        if not self.ready:
            self._decide("The app is closing.")

    def windows(self, text: str) -> list[str]:
        return self._get(None).windows(text)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Waits until it is loaded. Raises EmbedderError if it cannot be."""
        return self._get(None).embed_passages(texts)

    def embed_query(self, text: str) -> Vectors:
        """Waits a moment. Raises EmbedderWarming when it is still loading then."""
        return self._get(self._patience_s).embed_query(text)

    def _decide(self, failure: str | None) -> None:
        self._failure = failure
        self._decided.set()

    def _get(self, patience_s: float | None) -> Embedder:
        self._decided.wait(patience_s)
        if self._embedder is not None:
            return self._embedder
        if self._failure is not None:
            raise EmbedderError(self._failure)
        raise EmbedderWarming("The embedder is still loading: until it is ready, search goes by words.")
