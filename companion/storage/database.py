"""The SQLite file: how it is opened, brought up to date, written by one and read by many.

Knows engines, pragmas, transactions and migrations. It does not know what the tables mean.
`python -m companion.storage.database PATH` creates a database or brings it up to date.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from companion.errors import CompanionError, DatabaseTooNew, DiskFull, InvalidInput, StorageError

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
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_CLOSED_TO_US = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)


def sqlite_is_fixed(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> bool:
    """Whether this SQLite is free of the WAL-reset race (sqlite.org/wal.html#walresetbug).

    The race needs two connections that write or checkpoint; we have one, so we are safe
    either way.
    """
    branch = version[:2]
    if branch == (3, 50):
        return version >= (3, 50, 7)
    if branch == (3, 44):
        return version >= (3, 44, 6)
    return version >= (3, 51, 3)


def known_revisions() -> list[str]:
    """Revisions of this program, oldest first, from the names of the migration files.

    Asking Alembic would cost its import at every start.
    """
    return sorted(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


class Database:
    """One file, one writing connection, several reading ones. Safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        self._closed = False
        self._writer = _engine(path, _WRITER_PRAGMAS, "BEGIN IMMEDIATE", connections=1, more=0)
        self._readers = _engine(path, _READER_PRAGMAS, "BEGIN", connections=READERS, more=READERS)

    @classmethod
    def open(cls, path: Path) -> Database:
        """The database at `path`, created if missing, brought up to date.

        Raises DatabaseTooNew, DiskFull, or StorageError if it cannot be used.
        """
        _create_private(path)
        database = cls(path)
        try:
            database._migrate()
        except CompanionError:
            database._dispose()
            raise
        if not sqlite_is_fixed():
            log.info("SQLite %s has the WAL-reset race; one writer avoids it", sqlite3.sqlite_version)
        return database

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads: all of it sees one state of the database."""
        with self._fence(), self._readers.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes; waits for its turn, commits at the end. Do not nest."""
        with self._fence(), self._writer.begin() as connection:
            yield connection

    def checkpoint(self) -> None:
        """Move all of the write-ahead log into the database and empty it."""
        with self._fence():
            self._checkpoint()

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
            with _translated():
                self._checkpoint()
        except StorageError as error:
            # Nothing is lost: what is in the log is read at the next start.
            log.warning("No checkpoint at the end: %s", error)
        self._writer.dispose()

    def _checkpoint(self) -> None:
        with self._writer.connect() as connection:
            busy, _, _ = _raw(connection).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            log.info("The write-ahead log is still being read and was not emptied")

    def _dispose(self) -> None:
        self._closed = True
        self._readers.dispose()
        self._writer.dispose()

    @contextmanager
    def _fence(self) -> Iterator[None]:
        if self._closed:
            raise StorageError("The database is closed; start the program again.")
        with _translated():
            yield

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
        raise StorageError("The data folder cannot be written; check its permissions.") from error


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
def _translated() -> Iterator[None]:
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
        return DiskFull("The disk is full or its quota is used up; free some space and try again.")
    if code & 0xFF in _DAMAGED:
        return StorageError("The database file is damaged or not a database; restore a backup.")
    if code & 0xFF in _CLOSED_TO_US:
        return StorageError("The database cannot be opened or written; check its permissions.")
    log.error("Database error: %s", error)
    return StorageError("The database could not do this; try again, and look into the log if it stays so.")
