"""The originals: the files as they were given, in one folder.

A name is made of what the document's row says, so that a moved data folder keeps working. It does
not know rows, or who reads a file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from companion.domain import Document
from companion.errors import FULL, DiskFull, DocumentTooLarge, StorageError
from companion.inference.files import flush
from companion.storage.aside import place_aside


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file that no document names yet."""

    path: Path
    content_hash: str
    """sha256, hex."""
    size: int


class Originals:
    """One file for each version of a document that may still be wanted."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        # Only what lay there before anybody could upload may be swept.
        self._leftovers = sorted(folder.glob("*"))

    @contextmanager
    def incoming(self, name: str, source: Path | bytes) -> Iterator[Incoming]:
        """A safe copy of the source, which is gone after the block unless it was kept there."""
        path = self._folder / f"incoming-{uuid.uuid4().hex}{suffix(name)}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._require_small(source, name)
            yield _copied(source, path)
        except OSError as error:
            if error.errno in FULL:
                raise DiskFull(
                    f"{name} could not be kept, the disk is full; make room and add it again."
                ) from error
            raise StorageError(
                f"{name} could not be kept ({error.strerror or error}); mend this and add it again."
            ) from error
        finally:
            with suppress(OSError):
                path.unlink()

    def keep(self, incoming: Incoming, doc_id: str, name: str) -> Path:
        """Under the document's name, also when the power goes: the row that follows says that it is there."""
        path = self._folder / original_name(doc_id, incoming.content_hash, name)
        incoming.path.replace(path)
        flush(self._folder)
        return path

    def path(self, document: Document) -> Path:
        return self._folder / original_name(document.doc_id, document.content_hash, document.name)

    def remove(self, document: Document) -> None:
        """All versions of it."""
        for path in self._versions(document):
            path.unlink(missing_ok=True)

    def remove_others(self, document: Document) -> None:
        """All versions but the one that the row names."""
        current = self.path(document)
        for path in self._versions(document):
            if path != current:
                path.unlink(missing_ok=True)

    def sweep(self, named: set[str]) -> None:
        """Remove files that no document names: a kill between file and row leaves one."""
        for path in self._leftovers:
            if path.name not in named:
                path.unlink(missing_ok=True)

    def _versions(self, document: Document) -> list[Path]:
        return sorted(self._folder.glob(f"{document.doc_id}-*"))

    def _require_small(self, source: Path | bytes, name: str) -> None:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if size > self._max_bytes:
            raise DocumentTooLarge(
                f"{name} has {size / 1e6:.0f} MB; the limit is {self._max_bytes / 1e6:.0f} MB. "
                "Split it and add the parts."
            )


def set_aside(folder: Path) -> Path | None:
    """Another name for originals whose database is gone; None where there are none. Raises `StorageError`.

    A new database names none of them, and what no document names is swept.
    """
    if not any(folder.glob("*")):
        return None
    aside = place_aside(folder)
    try:
        folder.rename(aside)
    except OSError as error:
        raise StorageError(
            f"There is no database, and the files in {folder} could not be set aside: "
            f"{error.strerror or error}."
        ) from error
    return aside


def original_name(doc_id: str, content_hash: str, name: str) -> str:
    """File name of a document's original; another content has another one."""
    return f"{doc_id}-{content_hash[:16]}{suffix(name)}"


def suffix(name: str) -> str:
    """The end of a file's name, for whoever looks into the folder."""
    return os.path.splitext(name)[1].lower()[:16]


def _copied(source: Path | bytes, target: Path) -> Incoming:
    """Synced to the disk."""
    if isinstance(source, bytes):
        target.write_bytes(source)
    else:
        shutil.copyfile(source, target)
    with target.open("rb") as written:
        os.fsync(written.fileno())
        content_hash = hashlib.file_digest(written, "sha256").hexdigest()
    return Incoming(target, content_hash, target.stat().st_size)
