"""What can go wrong, as one tree. Each text is one sentence for the person.

CompanionError
├── InvalidInput            a value that cannot be used, with the reason
├── NotFound                no such thing, or not yours: the two look the same
├── Conflict                the thing is in a state that does not allow this
├── Refused                 not allowed in this mode, or not to this person
├── NotSignedIn             nobody may do this without signing in
├── TooMany                 too often, or too much: later, or less
├── DocumentError           a file that cannot become part of the library
│   ├── UnknownFormat
│   ├── UnreadableDocument
│   ├── EncryptedDocument
│   ├── EmptyDocument
│   └── DocumentTooLarge
├── EngineError             a chat engine did not do its work
│   ├── EngineUnavailable
│   ├── ModelMissing
│   ├── EngineBusy
│   ├── EngineOutOfMemory
│   ├── EngineSilent
│   └── StreamBroken
├── EmbedderError           an embedder cannot be used
│   ├── WeightsMissing
│   ├── EmbedderWarming
│   ├── EmbedderHindered    by memory, or an engine that is away: whatever it would read
│   └── EmbedderCrashed     its process ended by itself; perhaps what it read was the reason
├── IndexUnusable           the vector index is torn; it will be rebuilt
└── StorageError            the data folder or its database cannot be used
    ├── FolderLocked
    ├── DatabaseTooNew
    ├── DatabaseDamaged     its file is torn; only a backup helps
    ├── BackupUnusable      a file that is no backup, a damaged one, or one of a newer version
    └── DiskFull

It does not know status codes, toasts or log lines: the doors map types to those.
"""

from __future__ import annotations

import errno


class CompanionError(Exception):
    """Base of all errors that are meant to be read by a person."""

    code = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(CompanionError):
    code = "invalid_input"

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NotFound(CompanionError):
    code = "not_found"


class Conflict(CompanionError):
    code = "conflict"


class Refused(CompanionError):
    code = "refused"


class NotSignedIn(CompanionError):
    code = "not_signed_in"


class TooMany(CompanionError):
    code = "too_many"

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        """`wait_s`: after so many seconds it may be tried again; 0: waiting does not help."""
        super().__init__(message)
        self.wait_s = wait_s


class DocumentError(CompanionError):
    code = "document_error"


class UnknownFormat(DocumentError):
    code = "unknown_format"


class UnreadableDocument(DocumentError):
    code = "unreadable_document"


class EncryptedDocument(DocumentError):
    code = "encrypted_document"


class EmptyDocument(DocumentError):
    code = "empty_document"


class DocumentTooLarge(DocumentError):
    code = "document_too_large"


class EngineError(CompanionError):
    code = "engine_error"


class EngineUnavailable(EngineError):
    code = "engine_unavailable"


class ModelMissing(EngineError):
    code = "model_missing"


class EngineBusy(EngineError):
    code = "engine_busy"


class EngineOutOfMemory(EngineError):
    code = "engine_out_of_memory"


class EngineSilent(EngineError):
    code = "engine_silent"


class StreamBroken(EngineError):
    code = "stream_broken"


class EmbedderError(CompanionError):
    code = "embedder_error"


class WeightsMissing(EmbedderError):
    code = "weights_missing"


class EmbedderWarming(EmbedderError):
    code = "embedder_warming"


class EmbedderHindered(EmbedderError):
    code = "embedder_hindered"


class EmbedderCrashed(EmbedderError):
    code = "embedder_crashed"


class IndexUnusable(CompanionError):
    code = "index_unusable"


class StorageError(CompanionError):
    code = "storage_error"


class FolderLocked(StorageError):
    code = "folder_locked"


class DatabaseTooNew(StorageError):
    code = "database_too_new"


class DatabaseDamaged(StorageError):
    code = "database_damaged"


class BackupUnusable(StorageError):
    code = "backup_unusable"


FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system calls a full disk, or a quota that is used up."""


class DiskFull(StorageError):
    code = "disk_full"
