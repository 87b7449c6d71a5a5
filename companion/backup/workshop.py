"""A folder to work in beside what is to come of it, so that one renaming puts it in place.

Knows names and tidiness. It does not know what is made there.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from companion.errors import StorageError
from companion.storage.folder import lock_folder

RANDOM = "[a-z0-9_]{8}"
"""What `tempfile` puts into the middle of a name."""


@contextmanager
def workshop(target: Path, suffix: str) -> Iterator[Path]:
    """On the same disk as `target`; gone at the end, unless it was renamed.

    What a killed one left for the same target goes first.
    """
    prefix = f".{target.name[:100]}."
    _sweep(target.parent, re.compile(re.escape(prefix) + RANDOM + re.escape(suffix)))
    folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=target.parent))
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Without a lock where the disk has none, such as many that backups are written to."""
    with ExitStack() as stack:
        with suppress(StorageError):
            stack.callback(lock_folder(folder).release)
        yield


def _sweep(place: Path, name: re.Pattern[str]) -> None:
    """Whoever still works in one holds its lock, which goes with the process."""
    for folder in [path for path in place.iterdir() if name.fullmatch(path.name)]:
        if folder.is_dir() and not folder.is_symlink():
            with suppress(StorageError):
                lock = lock_folder(folder)
                shutil.rmtree(folder, ignore_errors=True)
                lock.release()
