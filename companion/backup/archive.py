"""A backup as a file: a zip of the database and the originals, and a manifest that vouches for them.

Knows the format, and reads it as a stranger's: nothing in it is believed before it was checked.
It does not know a running app, nor where a backup is unpacked to.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from companion import __version__
from companion.errors import BackupUnusable

FORMAT = 1
MANIFEST = "manifest.json"
DATABASE = "companion.db"
ORIGINALS = "originals/"
PIECE = 1 << 20
MAX_MANIFEST = 64 << 20
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What zipfile raises for a damaged or a strange file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a backup."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in a backup, and which program wrote it."""

    revision: str
    """Of the database."""
    created_at: str
    app: str = __version__
    format: int = FORMAT
    files: dict[str, Entry] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files, unpacked."""
        return sum(entry.size for entry in self.files.values())


class Writer:
    """Puts files into a backup; the manifest comes last, when their hashes are known."""

    def __init__(self, archive: zipfile.ZipFile, manifest: Manifest) -> None:
        self._archive = archive
        self._manifest = manifest

    def add(self, name: str, source: Path) -> Entry:
        """Keep a file as `name`."""
        digest, size = hashlib.sha256(), 0
        with source.open("rb") as file, self._open(name) as target:
            while piece := file.read(PIECE):
                digest.update(piece)
                size += len(piece)
                target.write(piece)
        entry = self._manifest.files[name] = Entry(size, digest.hexdigest())
        return entry

    def finish(self) -> None:
        with self._open(MANIFEST) as target:
            target.write(json.dumps(asdict(self._manifest), indent=1).encode())

    def _open(self, name: str) -> IO[bytes]:
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = (stat.S_IFREG | 0o600) << 16
        return self._archive.open(info, "w", force_zip64=True)


@contextmanager
def writing(path: Path, manifest: Manifest) -> Iterator[Writer]:
    """A new backup at `path`, whole and on the disk at the end. Raises OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        # The fastest level: texts shrink to a third all the same.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            writer = Writer(archive, manifest)
            yield writer
            writer.finish()
        file.flush()
        os.fsync(handle)


class Reader:
    """A backup that was opened, and whose list of files is in order."""

    def __init__(self, archive: zipfile.ZipFile, manifest: Manifest) -> None:
        self._archive = archive
        self.manifest = manifest

    def unpack(self, name: str, target: Path) -> None:
        """Write one file to `target`, never more of it than the manifest says.

        Raises BackupUnusable if it is not the file that was backed up, and OSError.
        """
        entry = self.manifest.files[name]
        digest, left = hashlib.sha256(), entry.size
        with _named_when_damaged(name), self._archive.open(name) as source, target.open("xb") as file:
            while piece := source.read(PIECE):
                left -= len(piece)
                if left < 0:
                    break
                digest.update(piece)
                file.write(piece)
        if left or digest.hexdigest() != entry.sha256:
            raise _damaged(name)


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """A backup of ours at `path`. Raises BackupUnusable, and OSError if it cannot be read."""
    with path.open("rb") as file:
        try:
            archive = zipfile.ZipFile(file)
        except BROKEN as error:
            raise BackupUnusable(f"{path.name} is no backup of LLM Companion, or not all of it.") from error
        with archive:
            yield Reader(archive, _checked(path, archive))


def _checked(path: Path, archive: zipfile.ZipFile) -> Manifest:
    infos = archive.infolist()
    names = {info.filename for info in infos}
    if MANIFEST not in names:
        raise BackupUnusable(f"{path.name} is no backup of LLM Companion.")
    manifest = _manifest(archive)
    for info in infos:
        _require_plain(info)
    if len(names) != len(infos) or names != {MANIFEST, *manifest.files} or DATABASE not in names:
        raise BackupUnusable(f"{path.name} does not hold the files that it lists; take another backup.")
    return manifest


def _manifest(archive: zipfile.ZipFile) -> Manifest:
    with _named_when_damaged(MANIFEST), archive.open(MANIFEST) as file:
        text = file.read(MAX_MANIFEST + 1)
    try:
        values: dict[str, Any] = json.loads(text)
        written = values["format"]
        if isinstance(written, int) and written > FORMAT:
            raise BackupUnusable("This backup was written by a newer version; update LLM Companion.")
        if written != FORMAT:
            raise ValueError("a format that never was")
        # It is printed, and a stranger's could hold anything.
        created_at = datetime.fromisoformat(values["created_at"]).isoformat()
        files = {name: _entry(**entry) for name, entry in values["files"].items()}
        return Manifest(str(values["revision"]), created_at, str(values["app"]), FORMAT, files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(MANIFEST) from error


def _entry(size: int, sha256: str) -> Entry:
    if not isinstance(size, int) or not isinstance(sha256, str) or size < 0:
        raise ValueError("an entry of the manifest is none")
    return Entry(size, sha256)


def _require_plain(info: zipfile.ZipInfo) -> None:
    """A file of ours in its place: no folder, link or way out, nothing of an index, nothing encrypted."""
    name = info.filename
    ours = name in (MANIFEST, DATABASE) or (name.startswith(ORIGINALS) and _is_name(name[len(ORIGINALS) :]))
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not ours or kind not in (0, stat.S_IFREG) or info.flag_bits & 1 or info.compress_type not in METHODS:
        raise BackupUnusable(f"The backup holds something that does not belong there: {name[:80]!r}.")


def _is_name(name: str) -> bool:
    """One step down, and a name that any disk can keep."""
    return bool(name) and name[0] != "." and not set(name) & set("/\\\0") and len(name.encode()) < 256


@contextmanager
def _named_when_damaged(name: str) -> Iterator[None]:
    try:
        yield
    except BROKEN as error:
        raise _damaged(name) from error


def _damaged(name: str) -> BackupUnusable:
    return BackupUnusable(f"The backup is damaged: {name} is not what was backed up; take another backup.")
