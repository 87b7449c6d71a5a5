"""The data folder: one program has it at a time.

Knows the lock in it. It does not know what else is in it.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import filelock

from companion.errors import FolderLocked, StorageError

LOCK = ".lock"


def lock_folder(folder: Path) -> filelock.BaseFileLock:
    """The lock of the folder, which is made if it is missing; to be released at the end.

    It goes with the process, however that ends. Raises FolderLocked, or StorageError.
    """
    try:
        # Other people of this machine have no business in it.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            # A lock of before could be taken all the same, and nothing else be done.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        # Whoever closes the app may be another thread than the one that built it.
        lock = filelock.FileLock(folder / LOCK, mode=0o600, thread_local=False)
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise FolderLocked(
            f"Another copy of LLM Companion uses {folder}; close it or choose another --data-dir."
        ) from error
    except OSError as error:
        raise StorageError(f"The data folder {folder} cannot be used: {error.strerror or error}.") from error
    return lock
