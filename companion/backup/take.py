"""Taking a backup: one state of the database, and exactly the originals that it names.

Works from outside, whether the app runs or not, and writes nothing into the data folder but two
names of SQLite's. It does not know the format of the file, nor how a backup is restored.

While a backup is taken, documents come, change and go. A row is there later than its file and
goes earlier, so a file that a row names is missing only if the row has changed since. So the
files are kept under second names first, which costs nothing on one disk; then, as often as one
is missing, rows are looked at again; and the state whose files are all there is the one copied.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from companion.backup.archive import DATABASE, ORIGINALS, Manifest, reading, writing
from companion.backup.workshop import workshop
from companion.config import Settings
from companion.errors import FULL, BackupUnusable, DiskFull, InvalidInput, NotFound, StorageError
from companion.inference.files import flush
from companion.library.originals import original_name
from companion.storage.snapshot import Snapshot, StoredFile, has_content, snapshot

LOOKS = 20
"""So often a missing file is looked for; then it is taken for lost."""
PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds."""

    documents: int
    conversations: int
    size: int
    """Bytes of the file."""
    lost: tuple[str, ...]
    """Names of documents whose originals are missing or damaged; their passages are kept."""


def take(settings: Settings, target: Path) -> Backup:
    """Write a backup of the data folder to `target`, which is there whole or not at all.

    Raises NotFound where there is nothing to back up, and InvalidInput, DiskFull or StorageError.
    """
    target = target.expanduser().absolute()
    _require_place(settings, target)
    with _explained(target), workshop(target, ".partial") as folder:
        found = _gather(settings, folder)
        partial = folder / "backup.zip"
        with writing(partial, Manifest(found.revision, datetime.now(UTC).isoformat())) as writer:
            writer.add(DATABASE, folder / DATABASE)
            kept = {file: writer.add(*place).sha256 for file, place in found.files.items()}
        partial.replace(target)
        flush(target.parent)
    damaged = {file for file, sha256 in kept.items() if sha256 != file.content_hash}
    lost = sorted({file.name for file in found.missing | damaged})
    return Backup(*found.counts, target.stat().st_size, tuple(lost))


@dataclass(frozen=True, slots=True)
class _Gathered:
    """Everything that goes into a backup, safe from the app."""

    revision: str
    counts: tuple[int, int]
    files: dict[StoredFile, tuple[str, Path]]
    """Name in the backup, and where the file is."""
    missing: set[StoredFile]


def _gather(settings: Settings, folder: Path) -> _Gathered:
    originals, kept = settings.originals_dir, folder / "originals"
    kept.mkdir()
    with snapshot(settings.database_path) as state:
        first = state.files()
    # Outside of any reading: on another disk these are copied, and the log would grow meanwhile.
    _keep(first, originals, kept)
    for _ in range(LOOKS):
        with snapshot(settings.database_path) as state:
            if not _keep(state.files(), originals, kept):
                return _copied(state, folder, set())
        time.sleep(PAUSE_S)
    with snapshot(settings.database_path) as state:
        return _copied(state, folder, _keep(state.files(), originals, kept))


def _copied(state: Snapshot, folder: Path, missing: set[StoredFile]) -> _Gathered:
    state.copy_to(folder / DATABASE)
    names = {file: _file_name(file) for file in state.files() - missing}
    placed = {file: (ORIGINALS + name, folder / "originals" / name) for file, name in names.items()}
    return _Gathered(state.revision, state.count(), placed, missing)


def _keep(files: Iterable[StoredFile], originals: Path, kept: Path) -> set[StoredFile]:
    """Hold these files against removal; returns those that are not there."""
    return {
        file
        for file in files
        if not (kept / _file_name(file)).exists()
        and not _hold(originals / _file_name(file), kept / _file_name(file))
    }


def _hold(source: Path, target: Path) -> bool:
    """Give a file a second name, or copy it where that cannot be; False if it is gone."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        return False
    except OSError:
        # Another disk, or one without second names.
        try:
            shutil.copyfile(source, target)
        except FileNotFoundError:
            return False
    return True


def _file_name(file: StoredFile) -> str:
    return original_name(file.doc_id, file.content_hash, file.name)


# --- the place of the file --------------------------------------------------------------


def _require_place(settings: Settings, target: Path) -> None:
    if not has_content(settings.database_path):
        raise NotFound(
            f"There is nothing to back up in {settings.data_dir}; name the folder with --data-dir."
        )
    if not target.parent.is_dir() or target.is_dir():
        raise InvalidInput(f"{target} cannot be the backup: name a file in a folder that is there.")
    if target.resolve().is_relative_to(settings.data_dir.resolve()):
        raise InvalidInput("A backup inside the data folder would be lost with it; name another folder.")
    if target.exists() and not _is_backup(target):
        raise InvalidInput(f"{target} is there already and is no backup; name another file.")


def _is_backup(path: Path) -> bool:
    try:
        with reading(path):
            return True
    except (BackupUnusable, OSError):
        return False


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except DiskFull as error:
        raise _full(target) from error
    except OSError as error:
        if error.errno in FULL:
            raise _full(target) from error
        raise StorageError(f"{target} could not be written: {error.strerror or error}.") from error


def _full(target: Path) -> DiskFull:
    return DiskFull(f"There is no room for the backup in {target.parent}; nothing was left there.")
