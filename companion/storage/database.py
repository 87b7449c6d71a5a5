"""The SQLite file: how it is opened, brought up to date, written by one and read by many.

Knows engines, pragmas, transactions and migrations. It does not know what the tables mean.
`python -m companion.storage.database PATH` creates a database or brings it up to date.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from companion.errors import (
    FULL,
    CompanionError,
    DatabaseDamaged,
    DatabaseTooNew,
    DiskFull,
    InvalidInput,
    StorageError,
)
from companion.storage import sqlite
from companion.storage.compaction import Compaction
from companion.storage.reserve import Reserve
from companion.storage.write_ahead import WriteAheadLog

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
BUSY_TIMEOUT_S = 5.0
READERS = 8
WAIT_FOR_CONNECTION_S = 60.0

_SHARED_PRAGMAS = (f"busy_timeout={int(BUSY_TIMEOUT_S * 1000)}", "foreign_keys=ON", "temp_store=MEMORY")
_WRITER_PRAGMAS = (
    *_SHARED_PRAGMAS,
    "journal_mode=WAL",
    "synchronous=FULL",
    "secure_delete=ON",
    f"journal_size_limit={64 * 1024 * 1024}",
)
_READER_PRAGMAS = (*_SHARED_PRAGMAS, "query_only=ON")

# A quota or a file size limit is reported as a failed write (778) or a failed growth of the
# shared memory file (4874), not as a full disk.
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
_DAMAGE = "The database file is damaged or not a database; restore a backup."
_DISK_FULL = "The disk is full or its quota is used up; free some space and try again."
_NOT_NOW = (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY, *_FULL)
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_CLOSED = "The database cannot be opened or written; check its permissions."
_CLOSED_TO_US = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)


P = ParamSpec("P")
T = TypeVar("T")


def known_revisions() -> list[str]:
    """Revisions of this program, oldest first, from the names of the migration files.

    Asking Alembic would cost its import at every start.
    """
    return sorted(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


class Database:
    """One file, one writing connection, several reading ones. Safe to use from any thread."""

    def __init__(self, path: Path, reserve_bytes: int = 0) -> None:
        self._closed = False
        self._full = False
        self._damaged = False
        self._ahead = WriteAheadLog(path)
        self._compaction = Compaction(path)
        self._reserve = _reserve_of(path, reserve_bytes)
        self._insisting = threading.local()
        self._writer = _engine(path, _WRITER_PRAGMAS, "BEGIN IMMEDIATE", connections=1, more=0)
        self._readers = _engine(path, _READER_PRAGMAS, "BEGIN", connections=READERS, more=READERS)

    @classmethod
    def open(cls, path: Path, reserve_bytes: int = 0) -> Database:
        """The database at `path`, created if missing, brought up to date.

        So many bytes are kept for what `insists`. Raises DatabaseTooNew, DiskFull, or StorageError if
        it cannot be used.
        """
        sqlite.require()
        try:
            return cls._opened(path, reserve_bytes)
        except DiskFull:
            if not _reserve_of(path, reserve_bytes).release():
                raise
            return cls._opened(path, reserve_bytes)

    @classmethod
    def _opened(cls, path: Path, reserve_bytes: int) -> Database:
        _create_private(path)
        database = cls(path, reserve_bytes)
        try:
            database._migrate()
        except CompanionError:
            database._dispose()
            raise
        database._reserve.fill()
        if not sqlite.is_fixed():
            log.info("SQLite %s has the WAL-reset bug; one writer avoids it", sqlite3.sqlite_version)
        return database

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads: all of it sees one state of the database."""
        with self._fence(), self._readers.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes; waits for its turn, commits at the end. Do not nest.

        Once the disk was full, only what `insists` is written until there is room again. Into a file
        that was found damaged nothing is written: it would break what is still whole.
        """
        if self._damaged:
            raise DatabaseDamaged(_DAMAGE)
        if self._full and not self._may_use_reserve and not self.look_for_room():
            raise DiskFull(_DISK_FULL)
        try:
            with self._fence(), self._compaction.in_turn(), self._writer.begin() as connection:
                yield connection
        except DiskFull:
            self._full = True
            raise
        if self._ahead.too_large():
            self._shorten()

    @property
    def damaged(self) -> bool:
        """Something in the file could not be read."""
        return self._damaged

    @property
    def full(self) -> bool:
        """A write found no room, and there is none yet."""
        return self._full

    @property
    def refusal(self) -> str | None:
        """Why nothing is written, one sentence for the person; None: it is."""
        return _DAMAGE if self._damaged else _DISK_FULL if self._full else None

    def look_for_room(self) -> bool:
        """Whether there is room again: for a write that changes nothing, and for the reserve."""
        if self._full:
            with suppress(DiskFull), self._using_reserve(), self.writing() as connection:
                connection.exec_driver_sql("PRAGMA user_version = 0")
                self._full = not self._reserve.fill()
        return not self._full

    def insist(self, work: Callable[[], T]) -> T:
        """Do something that writes once, if need be in the room that is kept for it."""
        with self._using_reserve():
            try:
                return work()
            except DiskFull:
                if not self._reserve.release():
                    raise
                log.warning("the disk is full; conversations are kept in the room reserved for them")
                return work()

    @property
    def _may_use_reserve(self) -> bool:
        return getattr(self._insisting, "now", False)

    @contextmanager
    def _using_reserve(self) -> Iterator[None]:
        before, self._insisting.now = self._may_use_reserve, True
        try:
            yield
        finally:
            self._insisting.now = before

    def checkpoint(self) -> None:
        """Move all of the write-ahead log into the database and empty it.

        Whoever reads for long is not waited for; `tidy` tries it again.
        """
        with self._fence():
            self._checkpoint(self._ahead.patience_s())

    def compact(self, proceed: Callable[[], bool]) -> bool:
        """Write the file anew. False if it is to be tried again: this is not the time, somebody wanted to
        write, or it was not to `proceed`."""
        if self.refusal or not self._compaction.possible():
            return False
        with self._fence(), self._compaction.running(), self._writer.connect() as connection:
            return self._compact(_raw(connection), proceed)

    def tidy(self) -> None:
        """Empty the log when nobody writes, or it was not emptied for long. To be called now and then."""
        if self._ahead.may_hold_deleted():
            self._shorten()

    def revision(self) -> str | None:
        """The migration the database is at; None for an empty one."""
        with self.writing() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    def close(self) -> None:
        """Close readers, checkpoint, close the writer; harmless when closed already."""
        if self._closed:
            return
        self._closed = True
        self._readers.dispose()
        try:
            with translated():
                self._checkpoint(BUSY_TIMEOUT_S)
        except StorageError as error:
            # Nothing is lost: what is in the log is read at the next start.
            log.warning("No checkpoint at the end: %s", error)
        self._writer.dispose()

    def _shorten(self) -> None:
        try:
            self.checkpoint()
        except StorageError as error:
            # What was written before is safe all the same, so nobody is to take it for failed.
            self._ahead.tried(emptied=False)
            log.warning("The write-ahead log could not be emptied: %s", error)

    def _checkpoint(self, patience_s: float) -> None:
        with self._writer.connect() as connection:
            raw = _raw(connection)
            raw.execute(f"PRAGMA busy_timeout={int(patience_s * 1000)}")
            try:
                busy, _, _ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                raw.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
        self._ahead.tried(emptied=not busy)
        if busy:
            log.info("The write-ahead log is still being read and was not emptied")

    def _compact(self, raw: sqlite3.Connection, proceed: Callable[[], bool]) -> bool:
        raw.execute(f"PRAGMA temp_store={'MEMORY' if self._compaction.in_memory else 'FILE'}")
        raw.set_progress_handler(lambda: not proceed() or self._compaction.is_waited_for(), 100)
        try:
            raw.execute("VACUUM")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in _NOT_NOW:
                raise
            return False
        finally:
            raw.set_progress_handler(None, 0)
            raw.execute("PRAGMA temp_store=MEMORY")
        return True

    def _dispose(self) -> None:
        self._closed = True
        self._readers.dispose()
        self._writer.dispose()

    @contextmanager
    def _fence(self) -> Iterator[None]:
        if self._closed:
            raise StorageError("The database is closed; start the program again.")
        try:
            with translated():
                yield
        except DatabaseDamaged:
            self._damaged = True
            raise

    def _migrate(self) -> None:
        known, current = known_revisions(), self.revision()
        if current == known[-1]:
            return
        if current is not None and current not in known:
            raise DatabaseTooNew(
                "The data folder was written by a newer version of LLM Companion; update the program."
            )
        with self._fence(), self._writer.connect() as connection:
            _upgrade(connection)
        log.info("Database brought from revision %s to %s", current, known[-1])


class _Writes(Protocol):
    _database: Database


S = TypeVar("S", bound=_Writes)


def insists(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """For a method of a store that is one transaction, and must not fail for want of room."""

    @wraps(method)
    def insisting(self: S, /, *arguments: P.args, **more: P.kwargs) -> T:
        return self._database.insist(lambda: method(self, *arguments, **more))

    return insisting


def _reserve_of(path: Path, size: int) -> Reserve:
    return Reserve(path.with_name(f"{path.name}-reserve"), size)


def _engine(path: Path, pragmas: Sequence[str], begin: str, *, connections: int, more: int) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=more,
        pool_timeout=WAIT_FOR_CONNECTION_S,
        # Transactions are begun by our own statement; sqlite3 would begin them too late.
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
        # Parameters are people's texts and must not reach the log.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _raw(connection: Connection) -> sqlite3.Connection:
    """The connection below SQLAlchemy: pragmas here do not begin a transaction."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def _create_private(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(_DISK_FULL) from error
        raise StorageError("The data folder cannot be written; check its permissions.") from error
    if not os.access(path, os.R_OK | os.W_OK):
        # SQLite would open it all the same, and take it for a full disk later.
        raise StorageError(_CLOSED)


def _upgrade(connection: Connection) -> None:
    """All missing migrations in one transaction: it ends up to date and sound, or unchanged."""
    # Only outside a transaction: rebuilding a table with foreign keys on deletes its children.
    _raw(connection).execute("PRAGMA foreign_keys=OFF")
    try:
        with connection.begin():
            _run_alembic(connection)
            if connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                raise StorageError("The database could not be brought up to date; it was left as it was.")
    finally:
        _raw(connection).execute("PRAGMA foreign_keys=ON")


def _run_alembic(connection: Connection) -> None:
    # Heavy, and needed only when there is something to migrate.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StorageError("The database could not be brought up to date; it was left as it was.") from error


@contextmanager
def translated() -> Iterator[None]:
    """Turns what SQLite and SQLAlchemy raise into errors for the person."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _explained(error) from error
    except OverflowError as error:
        raise InvalidInput("A number is larger than can be stored.") from error


def _explained(error: Exception) -> StorageError:
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", 0)
    if code in _FULL:
        return DiskFull(_DISK_FULL)
    if code & 0xFF in _DAMAGED:
        return DatabaseDamaged(_DAMAGE)
    if code & 0xFF in _CLOSED_TO_US:
        return StorageError(_CLOSED)
    log.error("Database error: %s", error)
    return StorageError("The database could not do this; try again, and look into the log if it stays so.")
