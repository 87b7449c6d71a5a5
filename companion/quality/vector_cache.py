"""Vectors that were computed once, on disk: a second evaluation embeds nothing.

Knows hashes of texts and equal records in a file of each embedder. It does not know whose texts
they are, or what is measured. The folder can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from companion.domain import EmbedderIdentity, PassageEmbedder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from companion.domain import Vectors

log = logging.getLogger(__name__)

LARGEST = 1_000_000_000
"""Bytes; a file that has grown beyond begins anew."""


class VectorCache:
    """Vectors of one embedder by their texts, as exact as the library stores them."""

    def __init__(self, folder: Path, identity: EmbedderIdentity) -> None:
        self._path = folder / f"{identity.embedder_id}.vectors"
        self._lock = FileLock(folder / f".{identity.embedder_id}.lock")
        self._record = np.dtype([("key", "u1", 32), ("vector", "<f2", identity.dimension)])
        self._known: dict[bytes, NDArray[np.float16]] = {}
        self._guarded(self._read)

    def get(self, text: str) -> NDArray[np.float16] | None:
        """Shape (dimension,); None if it is not known."""
        return self._known.get(_key(text))

    def add(self, texts: Sequence[str], vectors: Vectors) -> None:
        """Keep one row for each text. A disk that refuses costs time at the next run, nothing else."""
        records = np.empty(len(texts), self._record)
        for record, text, vector in zip(records, texts, vectors, strict=True):
            record["key"], record["vector"] = np.frombuffer(_key(text), np.uint8), vector
        self._hold(records)
        self._guarded(lambda: self._append(records.tobytes()))

    def _hold(self, records: NDArray[Any]) -> None:
        self._known.update(
            (key.tobytes(), vector) for key, vector in zip(records["key"], records["vector"], strict=True)
        )

    def _read(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            if self._path.exists() and self._path.stat().st_size > LARGEST:
                self._path.unlink()
            if self._path.exists():
                # A record that a kill left half written is not read.
                self._hold(np.fromfile(self._path, self._record))

    def _append(self, records: bytes) -> None:
        with self._lock, self._path.open("ab") as file:
            file.truncate(file.tell() - file.tell() % self._record.itemsize)
            file.seek(0, 2)
            file.write(records)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            log.warning("vectors are not kept for the next run: %s", error.strerror or error)


class CachedEmbedder:
    """An embedder that is asked only for what is not known. For layers, not for questions."""

    def __init__(
        self, embedder: PassageEmbedder, cache: VectorCache, start: Callable[[], None] = lambda: None
    ) -> None:
        """`start` is called before the embedder is asked."""
        self._embedder = embedder
        self._cache = cache
        self._start = start
        self.embedded = 0
        """How many texts were not known."""

    @property
    def identity(self) -> EmbedderIdentity:
        return self._embedder.identity

    def windows(self, text: str) -> list[str]:
        return self._embedder.windows(text)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension), float32."""
        new = [text for text in dict.fromkeys(texts) if self._cache.get(text) is None]
        if new:
            self._start()
            self._cache.add(new, self._embedder.embed_passages(new))
            self.embedded += len(new)
        rows = [vector for text in texts if (vector := self._cache.get(text)) is not None]
        return np.stack(rows).astype(np.float32)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
