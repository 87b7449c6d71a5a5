"""SQLite under load: nobody meets a lock, and the write-ahead log stays small whoever reads."""

import logging
import os
import sqlite3
import threading
import time

import pytest

from companion.domain import Role, SessionConfig, ThinkingMode
from companion.errors import StorageError
from companion.storage import sqlite as sqlite_itself
from companion.storage import write_ahead
from companion.storage.sqlite import LEAST, is_fixed, refusal
from companion.storage.store import Store
from companion.storage.write_ahead import MAX_BYTES, OLDEST_S, PATIENCE_S, RETRY_S, WriteAheadLog
from tests.fakes import Clock
from tests.stress import hammer, log_size

LONG = "many words " * 10_000
PROMISED = 64_000_000
"""The log is never larger, as long as nobody reads for longer than a moment."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "companion.db"


@pytest.fixture
def store(path):
    store = Store.open(path)
    for n in range(8):
        store.sessions.create("ann", f"s{n}", SessionConfig(f"s{n}", "m", ThinkingMode.RAG, 5, "a", "b", 600))
    yield store
    store.close()


def write(store, megabytes):
    for _ in range(round(megabytes * 1e6 / len(LONG))):
        store.sessions.add_message("ann", "s0", Role.USER, LONG)


def test_eight_writers_and_eight_readers_never_meet_a_lock(store, path):
    done = hammer(store, path, 3, text="many words " * 300)
    assert done.failures == []
    assert all(done.written)
    assert all(done.read)
    assert [len(store.sessions.messages("ann", f"s{n}")) for n in range(8)] == done.written
    assert done.largest_log < PROMISED


def test_readers_one_after_the_other_do_not_let_the_log_grow(store, path):
    """There is never a moment without one, so SQLite by itself would never begin the log anew."""
    end, largest = threading.Event(), 0

    def read(offset):
        time.sleep(offset)
        while not end.is_set():
            with store.sessions._database.reading() as connection:
                connection.exec_driver_sql("SELECT count(*) FROM messages").scalar()
                time.sleep(0.05)

    readers = [threading.Thread(target=read, args=(n * 0.017,)) for n in range(3)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(20):
            write(store, 4)
            largest = max(largest, log_size(path))
    finally:
        end.set()
        for reader in readers:
            reader.join()
    assert largest < PROMISED


def test_the_log_of_a_burst_beside_a_long_reader_is_small_again_after_it(store, path):
    with store.sessions._database.reading() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM messages").scalar()
        write(store, 30)  # Nobody who writes waits for the end of the reader.
        assert log_size(path) > MAX_BYTES
    time.sleep(RETRY_S)
    store.sessions.add_message("ann", "s0", Role.USER, "one more")
    assert log_size(path) < 100_000


def test_the_log_is_emptied_in_quiet(store, path):
    write(store, 1)
    assert log_size(path) > 0
    store.tidy()
    store.tidy()
    assert log_size(path) == 0


def test_a_log_that_cannot_be_emptied_does_not_fail_what_was_written(store, path, monkeypatch, caplog):
    def refuse(*_):
        raise StorageError("The disk is gone.")

    monkeypatch.setattr(store.sessions._database, "_checkpoint", refuse)
    monkeypatch.setattr(write_ahead, "MAX_BYTES", 1)
    write(store, 1)
    assert len(store.sessions.messages("ann", "s0")) == 9
    assert "could not be emptied: The disk is gone." in caplog.text


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(tmp_path, clock):
    """The log of a database; its file is `companion.db-wal`."""
    return WriteAheadLog(tmp_path / "companion.db", clock)


def test_a_large_log_is_to_be_emptied_and_after_a_failure_only_later(log, clock, tmp_path):
    file = tmp_path / "companion.db-wal"
    assert not log.too_large()
    file.write_bytes(b"x")
    assert not log.too_large()
    with file.open("r+b") as handle:
        handle.truncate(MAX_BYTES + 1)
    assert log.too_large()
    log.tried(emptied=False)
    assert not log.too_large()
    clock.time += RETRY_S
    assert log.too_large()


def test_a_log_that_grows_on_is_tried_again_at_once_and_with_more_patience(log, tmp_path):
    """Whoever writes much in a moment would else fill the disk within the pause."""
    file = tmp_path / "companion.db-wal"
    patience = []
    for part in range(1, 7):
        file.touch()
        os.truncate(file, part * (MAX_BYTES + 1))
        assert log.too_large()
        patience.append(log.patience_s())
        log.tried(emptied=False)
        assert not log.too_large()
    assert patience == [PATIENCE_S * times for times in (1, 2, 3, 4, 4, 4)]


def test_a_log_that_changes_is_left_alone_until_it_is_old(log, clock, tmp_path):
    file = tmp_path / "companion.db-wal"
    assert not log.may_hold_deleted()
    for size in range(1, 4):
        file.write_bytes(b"x" * size)
        assert not log.may_hold_deleted()
    assert log.may_hold_deleted(), "nothing was written since"
    file.write_bytes(b"x" * 9)
    assert not log.may_hold_deleted()
    clock.time += OLDEST_S
    file.write_bytes(b"x" * 10)
    assert log.may_hold_deleted()
    log.tried(emptied=True)
    file.write_bytes(b"x" * 11)
    assert not log.may_hold_deleted()


# --- versions of SQLite -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 0), True),
    ],
)
def test_the_wal_reset_bug_is_known_by_version(version, fixed):
    assert is_fixed(version) is fixed


@pytest.mark.parametrize("version", [(3, 34, 1), (3, 8, 2), (2, 99, 0)])
def test_a_version_that_cannot_do_the_work_is_refused(version):
    shown = ".".join(map(str, version))
    assert refusal(version, full_text=True) == (
        f"SQLite {shown} is too old: use a Python with SQLite 3.35.0 or newer."
    )


def test_a_sqlite_built_without_what_is_needed_is_refused():
    assert "no full-text search (FTS5)" in refusal(LEAST, full_text=False)
    assert "built for one thread only" in refusal(LEAST, full_text=True, threads=0)
    assert refusal(LEAST, full_text=True) is None


def test_this_sqlite_is_good_enough():
    assert refusal() is None


def test_a_start_with_a_refused_sqlite_says_why_and_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_itself, "refusal", lambda: "SQLite 3.8.2 is too old.")
    with pytest.raises(StorageError, match=r"^SQLite 3\.8\.2 is too old\.$"):
        Store.open(tmp_path / "companion.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fixed", [True, False])
def test_the_log_says_if_this_sqlite_has_the_bug(path, monkeypatch, caplog, fixed):
    caplog.set_level(logging.INFO, "companion")
    monkeypatch.setattr(sqlite_itself, "is_fixed", lambda: fixed)
    Store.open(path).close()
    said = f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug" in caplog.text
    assert said is not fixed
