"""Opening an embedder: whatever goes wrong is an error with a sentence.

It does not know how an embedder is opened, or what is done without it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from companion.errors import CompanionError, EmbedderError

log = logging.getLogger(__name__)


@contextmanager
def opening(name: str) -> Iterator[None]:
    """Turns what nobody expects of a folder that somebody else made into an EmbedderError."""
    try:
        yield
    except CompanionError:
        raise
    except Exception as error:
        log.exception("the embedder %s could not be loaded", name)
        raise EmbedderError(f"The embedder {name} could not be loaded: see the log.") from error
