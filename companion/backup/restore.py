"""Restoring a backup: checked in a folder of its own, then put in place in one step.

Nothing is touched before everything was unpacked and found right. An index never comes with a
backup: the app builds it from the vectors in the database. It does not know how a backup is taken.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from companion.backup.archive import DATABASE, ORIGINALS, Reader, reading
from companion.backup.exchange import exchange
from companion.backup.workshop import workshop
from companion.config import Settings
from companion.errors import FULL, BackupUnusable, DatabaseTooNew, DiskFull, InvalidInput, StorageError
from companion.inference.files import flush, flush_all
from companion.storage.aside import place_aside
from companion.storage.folder import LOCK, lock_folder
from companion.storage.snapshot import is_known, snapshot
from companion.storage.space import megabytes

TOO_NEW = "This backup was written by a newer version; update LLM Companion."


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back."""

    documents: int
    conversations: int
    created_at: str
    set_aside: Path | None
    """Where the folder's content is that was there before."""


def restore(source: Path, settings: Settings, *, replace: bool = False) -> Restored:
    """Make the backup `source` the data folder.

    With `replace` a folder that is not empty is set aside, never removed. Raises FolderLocked while
    the app runs on it, InvalidInput, BackupUnusable, DiskFull or StorageError; then nothing changed.
    """
    folder = settings.data_dir
    if not source.is_file():
        raise InvalidInput(f"There is no backup at {source}.")
    with _explained(folder), _free(folder, replace), reading(source) as backup:
        _require_known(backup.manifest.revision)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _require_room(folder.parent, backup.manifest.size, settings.min_free_mb * 1_000_000)
        with workshop(folder, ".restoring") as fresh:
            counts = _unpack(backup, fresh)
            aside = _put_in_place(fresh, folder, replace)
    return Restored(*counts, backup.manifest.created_at, aside)


def _unpack(backup: Reader, fresh: Path) -> tuple[int, int]:
    """Everything into the folder `fresh`, synced; returns documents and conversations."""
    (fresh / ORIGINALS).mkdir(mode=0o700)
    for name in backup.manifest.files:
        backup.unpack(name, fresh / name)
        (fresh / name).chmod(0o600)
    counts = _checked_database(fresh / DATABASE, backup.manifest.revision)
    flush_all(fresh)
    return counts


def _checked_database(path: Path, revision: str) -> tuple[int, int]:
    try:
        with snapshot(path) as state:
            if state.revision != revision or state.trouble():
                raise BackupUnusable("The database in the backup is damaged; take another backup.")
            return state.count()
    except DatabaseTooNew as error:
        raise BackupUnusable(TOO_NEW) from error
    except BackupUnusable:
        raise
    except StorageError as error:
        raise BackupUnusable("The database in the backup is damaged; take another backup.") from error


def _put_in_place(fresh: Path, folder: Path, replace: bool) -> Path | None:
    """Give the fresh folder its name; returns where the old content is, if there was any."""
    aside = None
    if replace and _content(folder):
        aside = place_aside(folder)
        _swap(fresh, folder, aside)
        (aside / LOCK).unlink(missing_ok=True)
    else:
        (folder / LOCK).unlink(missing_ok=True)
        # Takes the place of an empty folder, and refuses one that has filled up meanwhile.
        fresh.rename(folder)
    flush(folder.parent)
    return aside


def _swap(fresh: Path, folder: Path, aside: Path) -> None:
    """The old content goes to `aside`, the fresh one to `folder`, which is there at any moment."""
    # Before the exchange: afterwards it is the old content, and that may not lie in a workshop.
    fresh.rename(aside)
    if exchange(aside, folder):
        return
    aside.rename(fresh)
    folder.rename(aside)
    try:
        fresh.rename(folder)
    except OSError:
        aside.rename(folder)
        raise


def _content(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name != LOCK] if folder.is_dir() else []


@contextmanager
def _free(folder: Path, replace: bool) -> Iterator[None]:
    """A folder that nobody uses, and that is empty or may be replaced."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InvalidInput(f"{folder} is not a folder; choose another --data-dir.")
    if not folder.exists():
        yield
        return
    lock = lock_folder(folder)
    try:
        if _content(folder) and not replace:
            raise InvalidInput(
                f"{folder} is not empty; choose another --data-dir, or set its content aside with --replace."
            )
        yield
    finally:
        lock.release()


def _require_known(revision: str) -> None:
    if not is_known(revision):
        raise BackupUnusable(TOO_NEW)


def _require_room(place: Path, size: int, spare: int) -> None:
    free = shutil.disk_usage(place).free
    if free - size < spare:
        raise DiskFull(
            f"The backup unpacks to {megabytes(size)}, and {place} has only {megabytes(free)} left."
        )


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(
                f"There is no room for the backup in {folder.parent}; nothing was changed."
            ) from error
        if error.errno in (errno.EBUSY, errno.EXDEV):
            sentence = f"{folder} is a disk of its own and cannot be replaced; choose a folder inside it."
            raise StorageError(sentence) from error
        raise StorageError(f"{folder} could not be restored: {error.strerror or error}.") from error
