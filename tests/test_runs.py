"""Turns in flight: followed by several, stopped by anyone, outliving a reload."""

import asyncio
import threading
from contextlib import aclosing

import pytest

from companion.chat import runs as runs_module
from companion.chat.chat import Chat
from companion.chat.runs import Runs
from companion.chat.sessions import Sessions
from companion.config import Settings
from companion.domain import LOCAL_OWNER, Finished, MessageState, ThinkingMode, Thought, Token
from companion.errors import Conflict, InvalidInput, NotFound
from companion.inference.catalog import Catalog
from companion.storage.store import Store
from tests.fakes import FakeLibrary, Gate, ScriptedEngine, done, hit
from tests.waiting import until

COT, RAG = ThinkingMode.COT, ThinkingMode.RAG
HITS = (hit(1, "Backups are written every night at three to the archive folder."),)


class House:
    def __init__(self, store, engine, **options):
        self.store, self.engine = store, engine
        catalog, settings = Catalog([engine]), Settings(cot_iterations=1)
        self.sessions = Sessions(store, catalog, settings)
        self.chat = Chat(store, catalog, FakeLibrary(*HITS), self.sessions.preferences, settings)
        self.activity = []
        self.runs = Runs(self.chat, store, on_activity=lambda: self.activity.append(1), **options)
        self.sessions.before_delete(self.runs.end)
        self.session_id = asyncio.run(self.sessions.create(LOCAL_OWNER)).session_id

    def start(self, text="When are backups written?", mode=RAG):
        return self.runs.start(LOCAL_OWNER, self.session_id, text, mode)

    def messages(self):
        return self.store.sessions.messages(LOCAL_OWNER, self.session_id)


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "companion.db")
    yield opened
    opened.close()


@pytest.fixture
def house(store):
    """Builds a house around an engine, and closes its runs afterwards."""
    built = []

    def build(*scripts, **options):
        built.append(House(store, ScriptedEngine(*scripts), **options))
        return built[-1]

    yield build
    for each in built:
        each.runs.close()


def test_while_a_question_waits_for_the_database_other_answers_are_followed_and_stopped(house, monkeypatch):
    gate, asking = Gate(), threading.Event()
    house = house([Token("At "), gate, "three.", done()], ["Yes.", done()])
    other = asyncio.run(house.sessions.create(LOCAL_OWNER)).session_id
    run = house.start()
    until(lambda: run.events)
    stored, ask, in_time = threading.Event(), house.chat.questions.ask, []

    def slow(*arguments):
        asking.set()
        in_time.append(stored.wait(30))
        return ask(*arguments)

    monkeypatch.setattr(house.chat.questions, "ask", slow)
    waiting = threading.Thread(target=lambda: house.runs.start(LOCAL_OWNER, other, "And where?", RAG))
    waiting.start()
    assert asking.wait(60)
    assert house.runs.get(house.session_id) is run
    assert house.runs.active() == 2
    with pytest.raises(Conflict):
        house.runs.start(LOCAL_OWNER, other, "And when?", RAG)
    assert house.runs.stop(LOCAL_OWNER, house.session_id) is run
    assert run.wait(60)
    assert run.answer.state is MessageState.STOPPED
    stored.set()
    waiting.join()
    assert in_time == [True], "nobody waited for the question"
    assert house.runs.get(other).wait(60)


def read(run, after=0):
    """All events, read on a loop of its own."""

    async def follow():
        return [pair async for pair in run.follow(after)]

    return asyncio.run(follow())


def reading(run, results):
    thread = threading.Thread(target=lambda: results.append(read(run)))
    thread.start()
    return thread


def test_two_readers_on_two_loops_see_the_same_events(house):
    gate = Gate()
    home = house(["At ", gate, "three [1].", done()])
    run = home.start()
    results = []
    threads = [reading(run, results) for _ in range(3)]
    assert gate.reached.wait(60)
    gate.open.set()
    for thread in threads:
        thread.join(60)
    assert results[0] == results[1] == results[2]
    numbers, events = zip(*results[0], strict=True)
    assert numbers == tuple(range(1, len(events) + 1))
    assert isinstance(events[-1], Finished)
    assert events[-1].message == run.answer == home.messages()[-1]


def test_events_arrive_while_the_answer_is_being_written(house):
    gate = Gate()
    run = house(["At three", gate, ".", done()]).start()

    async def until_first_token():
        async with aclosing(run.follow()) as events:
            async for _, event in events:
                if isinstance(event, Token):
                    return event

    assert asyncio.run(asyncio.wait_for(until_first_token(), 60)) == Token("At three")
    assert not run.done
    gate.open.set()
    assert run.wait(60)


def test_a_reload_in_the_middle_replays_all_and_goes_on(house):
    gate = Gate()
    home = house(["One. ", "Two. ", gate, "Three.", done()])
    run = home.start()
    assert gate.reached.wait(60)
    results = []
    thread = reading(home.runs.get(home.session_id), results)
    gate.open.set()
    thread.join(60)
    said = "".join(event.text for _, event in results[0] if isinstance(event, Token))
    assert said == "One. Two. Three."
    assert run.wait(60)
    assert read(run) == results[0]


def test_a_reader_can_go_on_where_it_was(house):
    run = house(["One.", done()]).start()
    assert run.wait(60)
    everything = read(run)
    assert read(run, after=1) == everything[1:]
    assert read(run, after=len(everything)) == []
    assert read(run, after=99) == []


def test_a_reader_that_leaves_stops_nothing(house):
    gate = Gate()
    home = house(["One.", gate, " Two.", done()])
    run = home.start()

    async def leave():
        async with aclosing(run.follow()) as events:
            async for _ in events:
                return

    asyncio.run(leave())
    gate.open.set()
    assert run.wait(60)
    assert home.messages()[-1].content == "One. Two."


def test_a_reader_whose_loop_is_gone_does_not_disturb_the_others(house):
    gate = Gate()
    run = house(["One.", gate, " Two.", done()]).start()
    loop = asyncio.new_event_loop()
    orphan = run.follow()
    loop.run_until_complete(anext(orphan))
    loop.close()
    gate.open.set()
    assert run.wait(60)
    assert isinstance(read(run)[-1][1], Finished)


def test_stop_reaches_a_silent_model(house):
    gate = Gate()
    home = house([gate, "Never.", done()])
    run = home.start()
    assert gate.reached.wait(60)
    assert home.runs.stop(LOCAL_OWNER, home.session_id) is run
    assert home.engine.cancelled.wait(60)
    assert run.wait(60)
    assert home.messages()[-1].state is MessageState.STOPPED


def test_what_was_said_before_the_stop_is_stored_and_shown(house):
    gate = Gate()
    home = house(["Half of it", gate, done()])
    run = home.start()
    assert gate.reached.wait(60)
    run.stop()
    run.stop()
    assert run.wait(60)
    last = read(run)[-1][1]
    assert isinstance(last, Finished)
    assert (last.message.state, last.message.content) == (MessageState.STOPPED, "Half of it")
    assert last.message == home.messages()[-1]


def test_a_stop_at_once_still_leaves_an_answer(house):
    for _ in range(20):
        home = house([Gate(), done()])
        run = home.start()
        run.stop()
        assert run.wait(60)
        assert home.messages()[-1].state is MessageState.STOPPED


def test_stopping_twice_or_nothing_is_harmless(house):
    home = house(["One.", done()])
    assert home.runs.stop(LOCAL_OWNER, home.session_id) is None
    run = home.start()
    assert run.wait(60)
    run.stop()
    assert home.runs.stop(LOCAL_OWNER, home.session_id) is None
    assert home.messages()[-1].state is MessageState.COMPLETE


def test_nobody_stops_the_run_of_somebody_else(house):
    gate = Gate()
    home = house(["One.", gate, done()])
    run = home.start()
    assert gate.reached.wait(60)
    assert home.runs.stop("somebody", home.session_id) is None
    assert not run.done


def test_one_answer_at_a_time_in_a_conversation(house):
    gate = Gate()
    home = house(["One.", gate, done()], ["Two.", done()])
    first = home.start()
    with pytest.raises(Conflict, match="An answer is still being written in this conversation"):
        home.start()
    assert len(home.messages()) == 1
    gate.open.set()
    assert first.wait(60)
    second = home.start()
    assert second.wait(60)
    assert home.messages()[-1].content == "Two."


def test_somebody_else_learns_nothing_of_a_run(house):
    home = house(["One.", Gate(), done()])
    home.start()
    with pytest.raises(NotFound):
        home.runs.start("somebody", home.session_id, "Anybody here?")


def test_two_conversations_are_answered_at_once(house):
    gate = Gate()
    home = house(["One.", gate, done()], ["Two.", done()])
    first = home.start()
    assert gate.reached.wait(60)
    other = asyncio.run(home.sessions.create(LOCAL_OWNER)).session_id
    second = home.runs.start(LOCAL_OWNER, other, "And when?", RAG)
    assert second.wait(60)
    assert not first.done


def test_what_cannot_be_asked_is_refused_at_once(house):
    home = house()
    with pytest.raises(InvalidInput):
        home.start("  ")
    with pytest.raises(NotFound):
        home.runs.start(LOCAL_OWNER, "nowhere", "Hello?")
    assert home.runs.get(home.session_id) is None


def test_a_question_counts_as_a_sign_of_the_user(house):
    home = house(["One.", done()])
    assert home.start().wait(60)
    assert home.activity == [1]


def test_a_failed_turn_ends_with_its_stored_answer(house):
    home = house([Thought("Hm."), RuntimeError("broken")])
    run = home.start()
    assert run.wait(60)
    assert read(run)[-1][1].message.state is MessageState.FAILED
    assert run.error is None


def test_finished_runs_are_forgotten_after_a_while(house):
    home = house(["One.", done()], kept_s=0.05)
    run = home.start()
    assert run.wait(60)
    until(lambda: home.runs.get(home.session_id) is None)


def test_no_more_than_a_hundred_finished_runs_are_kept(house, monkeypatch):
    monkeypatch.setattr(runs_module, "KEPT_RUNS", 2)
    home = house()
    ids = [asyncio.run(home.sessions.create(LOCAL_OWNER)).session_id for _ in range(5)]
    for session_id in ids:
        assert home.runs.start(LOCAL_OWNER, session_id, "When?", RAG).wait(60)
    assert [home.runs.get(session_id) is not None for session_id in ids] == [False, False, False, True, True]


def test_deleting_a_conversation_stops_its_answer(house):
    gate = Gate()
    home = house(["One.", gate, done()])
    run = home.start()
    assert gate.reached.wait(60)
    home.sessions.delete(LOCAL_OWNER, home.session_id)
    assert run.done
    assert home.engine.cancelled.is_set()
    with pytest.raises(NotFound):
        home.messages()


def test_a_conversation_deleted_behind_its_back_ends_the_run_with_a_reason(house):
    gate = Gate()
    home = house(["One.", gate, done()])
    run = home.start()
    assert gate.reached.wait(60)
    home.store.sessions.delete(LOCAL_OWNER, home.session_id)
    gate.open.set()
    assert run.wait(60)
    assert isinstance(run.error, NotFound)
    assert run.answer is None


def test_closing_stops_all_answers_and_keeps_what_was_said(house):
    gate = Gate()
    home = house(["Half", gate, done()])
    run = home.start()
    assert gate.reached.wait(60)
    home.runs.close()
    assert run.done
    assert home.messages()[-1].state is MessageState.STOPPED
    home.runs.close()
    with pytest.raises(Conflict):
        home.start()
    assert not any(thread.name == "runs" and thread.is_alive() for thread in threading.enumerate())


def test_closing_before_the_first_question_is_harmless(house):
    house().runs.close()
