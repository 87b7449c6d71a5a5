"""The database file is written anew after deletions: at once where it is small, else when nobody writes."""

import threading

import pytest

from companion.domain import Role, SessionConfig, ThinkingMode
from companion.storage import compaction
from companion.storage.compaction import CALM_S, OVERDUE_S, REST, WAITED_S, Compaction
from companion.storage.owed import Owed
from companion.storage.store import Store
from tests.fakes import Clock

CANARY = b"qvxkmzt"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "companion.db"


@pytest.fixture
def store(path):
    opened = Store.open(path)
    opened.sessions.create("ann", "s", SessionConfig("s", "m", ThinkingMode.RAG, 5, "a", "b", 600))
    yield opened
    opened.close()


def talk(store):
    """Messages of many lengths, so that rows move about in their pages; the last one has the word."""
    for length in range(1, 400, 7):
        store.sessions.add_message("ann", "s", Role.USER, "bees make honey " * length)
    store.sessions.add_message("ann", "s", Role.USER, f"{CANARY.decode()} sings")


def owed(store):
    return store._owed(Owed.REMAINS)


@pytest.fixture
def rules(path, clock):
    path.write_bytes(b"x" * 1000)
    return Compaction(path, clock)


def test_a_small_file_is_written_anew_at_once_and_then_rests_for_its_length(rules, clock):
    with rules.in_turn():
        clock.time += 0.1
    assert rules.possible()
    with rules.running():
        clock.time += 2
    assert not rules.possible()
    clock.time += 2 * REST
    assert rules.possible()


def test_a_large_file_is_written_anew_when_nobody_wrote_for_a_while(rules, clock, monkeypatch):
    monkeypatch.setattr(compaction, "LARGE_BYTES", 100)
    assert not rules.in_memory
    with rules.in_turn():
        assert not rules.is_waited_for()
    assert not rules.possible()
    clock.time += CALM_S
    assert rules.possible()


def test_an_open_page_which_writes_each_minute_puts_a_large_one_off_but_not_for_ever(
    rules, clock, monkeypatch
):
    monkeypatch.setattr(compaction, "LARGE_BYTES", 100)
    minutes = 0
    with rules.in_turn():
        pass
    while not rules.possible():
        clock.time += 30
        with rules.in_turn():
            minutes += 0.5
    assert minutes * 60 == OVERDUE_S
    with rules.running():
        clock.time += 1
    clock.time += REST
    with rules.in_turn():
        pass
    assert not rules.possible()


def test_an_app_that_closes_does_not_wait_for_it(store):
    talk(store)
    store.sessions.delete("ann", "s")
    answers = iter([True, False])
    store.forget_deleted(lambda: next(answers, False))
    assert owed(store)


def test_without_room_for_a_second_file_nothing_is_written_anew(rules, monkeypatch):
    monkeypatch.setattr(compaction, "ROOM", 10**15)
    assert not rules.possible()


def test_whoever_wants_to_write_is_not_kept_waiting(rules, clock):
    with rules.running(), rules.in_turn():
        clock.time += WAITED_S
        assert not rules.is_waited_for()
        clock.time += 0.1
        assert rules.is_waited_for()
    assert not rules.is_waited_for()


def test_nothing_of_a_deleted_conversation_stays_in_the_file(store, path):
    talk(store)
    store.checkpoint()
    assert CANARY in path.read_bytes()
    store.sessions.delete("ann", "s")
    assert owed(store)
    size = path.stat().st_size
    store.forget_deleted()
    assert owed(store) is None
    assert CANARY not in path.read_bytes()
    assert path.stat().st_size < size


@pytest.mark.parametrize("large", [False, True])
def test_what_cannot_be_written_anew_now_is_later(store, path, monkeypatch, large):
    """Somebody writes meanwhile; what they wrote is there, and what is owed is not forgotten."""
    talk(store)
    if large:
        monkeypatch.setattr(compaction, "LARGE_BYTES", 0)
        monkeypatch.setattr(compaction, "CALM_S", 0)
    monkeypatch.setattr(compaction, "WAITED_S", -1)
    monkeypatch.setattr(compaction, "REST", 0)
    store.sessions.delete("ann", "s")
    with store._database._compaction.in_turn():
        store.forget_deleted()
        assert owed(store)
    writer = threading.Thread(
        target=lambda: store.sessions.create(
            "ann", "t", SessionConfig("t", "m", ThinkingMode.RAG, 5, "a", "b", 600)
        )
    )
    writer.start()
    writer.join()
    store.forget_deleted()
    assert owed(store) is None
    assert [each.session_id for each in store.sessions.list("ann")] == ["t"]
    assert CANARY not in path.read_bytes()


def test_a_kill_before_the_file_is_written_anew_forgets_nothing(store, path):
    talk(store)
    store.sessions.delete("ann", "s")
    again = Store.open(path)
    again.forget_deleted()
    assert owed(again) is None
    again.close()
