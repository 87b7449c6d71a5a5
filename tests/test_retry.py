"""The last question answered again, an earlier one asked in other words: nothing is lost by it."""

import json
import threading

import pytest

from companion.chat.chat import EARLIER_STAYS
from companion.domain import LOCAL_OWNER, Finished, MessageState, Notice, Role, ThinkingMode, Thought
from companion.errors import Conflict, EngineUnavailable, InvalidInput, NotFound
from tests.doors import opened
from tests.fakes import Gate, ScriptedEngine, done

COT, RAG = ThinkingMode.COT, ThinkingMode.RAG
GUIDE = "# Guide\n\nBackups are written every night at three to the archive folder.\n"


class Conversation:
    """One conversation, through both doors."""

    def __init__(self, companion, client, engine):
        self.companion, self.client, self.engine = companion, client, engine
        self.session_id = client.post("/api/sessions").json()["session_id"]
        self.path = f"/api/sessions/{self.session_id}"

    def ask(self, text, *script, mode=RAG):
        self.engine.scripts += [[*script, done()]]
        run = self.companion.runs.start(LOCAL_OWNER, self.session_id, text, mode)
        assert run.wait(60)
        return run

    def retry(self, *script, mode=None):
        self.engine.scripts += [list(script)]
        return self.companion.runs.retry(LOCAL_OWNER, self.session_id, mode)

    def resend(self, message, text, *script, mode=RAG):
        self.engine.scripts += [list(script)]
        return self.companion.runs.resend(LOCAL_OWNER, self.session_id, message.message_id, text, mode)

    def messages(self):
        return self.companion.store.sessions.messages(LOCAL_OWNER, self.session_id)

    def said(self):
        return [message.content for message in self.messages()]

    def title(self):
        return self.companion.sessions.get(LOCAL_OWNER, self.session_id).title

    def post_retry(self, message_id, **more):
        return self.client.post(f"{self.path}/messages/{message_id}/retry", **more)

    def put(self, message_id, text, **more):
        return self.client.put(f"{self.path}/messages/{message_id}", json={"content": text, **more})


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    engine = ScriptedEngine()
    with opened(tmp_path_factory.mktemp("house"), engine, cot_iterations=1) as (companion, client):
        companion.library.add(LOCAL_OWNER, "guide.md", GUIDE.encode())
        yield companion, client, engine


@pytest.fixture
def talk(house):
    house[2].scripts.clear()
    return Conversation(*house)


# --- again --------------------------------------------------------------------------------


def test_a_new_answer_takes_the_place_of_the_old_one(talk):
    asked = talk.ask("When are backups written?", "At four [1].")
    run = talk.retry("At three [1].", done())
    assert run.wait(60)
    question, answer = talk.messages()
    assert question == asked.question == run.question
    assert answer.content == "At three [1]."
    assert answer == run.answer == run.events[-1].message
    assert answer.message_id > asked.answer.message_id


def test_the_old_answer_is_there_until_the_new_one_is_kept(talk):
    old = talk.ask("When are backups written?", "At four [1].").answer
    gate = Gate()
    run = talk.retry("At three", gate, " [1].", done())
    assert gate.reached.wait(60)
    assert talk.messages()[-1] == old == run.replaces
    gate.open.set()
    assert run.wait(60)
    assert talk.said() == ["When are backups written?", "At three [1]."]


def test_the_model_is_not_told_the_answer_that_is_being_replaced(talk):
    talk.ask("When are backups written?", "First answer [1].")
    talk.ask("To which folder are backups written?", "Unwanted answer [1].")
    assert talk.retry("Better answer [1].", done()).wait(60)
    told = [message.content for message in talk.engine.requests[-1].messages]
    assert "Unwanted answer" not in " ".join(told)
    assert "First answer" in " ".join(told)
    assert told[-1] == "To which folder are backups written?"


@pytest.mark.parametrize("said", [[], [Thought("Hm.")], ["Half a sentence"]])
def test_an_answer_that_fails_leaves_the_old_one_and_says_so(talk, said):
    old = talk.ask("When are backups written?", "At four [1].").answer
    run = talk.retry(*said, EngineUnavailable("Ollama is gone."))
    assert run.wait(60)
    assert talk.messages()[-1] == old
    *_, reason, stays, finished = run.events
    assert (reason, stays) == (Notice("Ollama is gone."), Notice(EARLIER_STAYS))
    assert finished == Finished(run.answer)
    assert run.answer.message_id == old.message_id
    assert run.answer.content == old.content
    assert run.answer.notices[-2:] == ("Ollama is gone.", EARLIER_STAYS)


def test_an_answer_without_a_word_leaves_the_old_one(talk):
    old = talk.ask("When are backups written?", "At four [1].").answer
    run = talk.retry(Thought("Hm."), done())
    assert run.wait(60)
    assert talk.messages()[-1] == old
    assert run.events[-2] == Notice(EARLIER_STAYS)


def test_a_stop_before_the_first_word_leaves_the_old_answer(talk):
    old = talk.ask("When are backups written?", "At four [1].").answer
    gate = Gate()
    run = talk.retry(Thought("Hm."), gate, done())
    assert gate.reached.wait(60)
    run.stop()
    assert run.wait(60)
    assert talk.messages()[-1] == old
    assert run.events[-1].message.notices[-1] == EARLIER_STAYS


def test_a_stop_after_the_first_word_keeps_the_new_answer(talk):
    talk.ask("When are backups written?", "At four [1].")
    gate = Gate()
    run = talk.retry("At three", gate, done())
    assert gate.reached.wait(60)
    run.stop()
    assert run.wait(60)
    _, answer = talk.messages()
    assert (answer.content, answer.state) == ("At three", MessageState.STOPPED)


def test_a_stop_at_once_leaves_the_old_answer(talk):
    old = talk.ask("When are backups written?", "At four [1].").answer
    for _ in range(10):
        run = talk.retry(Gate(), done())
        run.stop()
        assert run.wait(60)
        assert talk.messages()[-1] == old


def test_a_failed_answer_without_a_word_gives_way_even_to_another_failure(talk):
    talk.ask("Why?", EngineUnavailable("Ollama is gone."), mode=COT)
    talk.engine.scripts.clear()
    run = talk.retry(EngineUnavailable("The model is broken."))
    assert run.wait(60)
    _, answer = talk.messages()
    assert answer.notices == ("The model is broken.",)
    assert EARLIER_STAYS not in answer.notices


def test_a_question_that_was_never_answered_can_be_answered(talk):
    talk.companion.store.sessions.add_message(
        LOCAL_OWNER, talk.session_id, Role.USER, "Still there?", mode=COT
    )
    gate = Gate()
    run = talk.retry(gate, "Notes.", done())
    talk.engine.scripts += [["Yes.", done()]]
    gate.open.set()
    assert run.wait(60)
    assert talk.said() == ["Still there?", "Yes."]
    assert run.replaces is None


def test_a_question_is_answered_again_in_its_own_mode_or_another(talk):
    talk.ask("When are backups written?", "At four [1].", mode=RAG)
    run = talk.retry("At three [1].", done())
    assert run.wait(60)
    assert run.answer.mode is RAG
    gate = Gate()
    run = talk.retry(gate, "Notes.", done(), mode=COT)
    talk.engine.scripts += [["At five.", done()]]
    gate.open.set()
    assert run.wait(60)
    assert (run.answer.mode, run.answer.content) == (COT, "At five.")


def test_nothing_can_be_answered_again_before_the_first_question_or_meanwhile(talk):
    with pytest.raises(Conflict, match="no question"):
        talk.retry()
    gate = Gate()
    talk.engine.scripts[:] = [["One", gate, done()]]
    run = talk.companion.runs.start(LOCAL_OWNER, talk.session_id, "Backups?", RAG)
    assert gate.reached.wait(60)
    with pytest.raises(Conflict, match="still being written"):
        talk.retry()
    with pytest.raises(Conflict, match="still being written"):
        talk.resend(run.question, "Archives?")
    assert talk.said() == ["Backups?"]
    gate.open.set()
    assert run.wait(60)


def test_nobody_answers_again_what_is_somebody_elses(talk):
    run = talk.ask("When are backups written?", "At four [1].")
    with pytest.raises(NotFound):
        talk.companion.runs.retry("somebody", talk.session_id)
    with pytest.raises(NotFound):
        talk.companion.runs.resend("somebody", talk.session_id, run.question.message_id, "Mine now")
    assert talk.said() == ["When are backups written?", "At four [1]."]


# --- in other words -----------------------------------------------------------------------


def test_a_question_in_other_words_takes_the_place_of_all_that_followed(talk):
    first = talk.ask("When are backups made?", "At four [1].").question
    talk.ask("To which folder are backups written?", "To a folder [1].")
    run = talk.resend(first, "Where are backups written to?", "To the archive folder [1].", done())
    assert run.wait(60)
    question, answer = talk.messages()
    assert (question.message_id, question.content) == (first.message_id, "Where are backups written to?")
    assert question.created_at > first.created_at
    assert answer.content == "To the archive folder [1]."
    told = " ".join(message.content for message in talk.engine.requests[-1].messages)
    assert "At four" not in told
    assert "made?" not in told


def test_what_was_said_before_the_question_stays(talk):
    talk.ask("When are backups written?", "At three [1].")
    second = talk.ask("To which folder are backups written?", "Wrong [1].").question
    assert talk.resend(second, "Where are nightly backups written to?", "To the archive [1].", done()).wait(
        10
    )
    assert talk.said()[:2] == ["When are backups written?", "At three [1]."]
    assert talk.said()[2:] == ["Where are nightly backups written to?", "To the archive [1]."]


def test_the_title_follows_the_first_question_unless_the_person_chose_it(talk):
    first = talk.ask("When are backups made?", "At three [1].").question
    second = talk.ask("When are backups made?", "At three [1].").question
    assert talk.resend(second, "Is that each night?", "Yes [1].", done()).wait(60)
    assert talk.title() == "When are backups made?"
    assert talk.resend(first, "Where are backups?", "There [1].", done()).wait(60)
    assert talk.title() == "Where are backups?"
    talk.companion.sessions.rename(LOCAL_OWNER, talk.session_id, "My backups")
    assert talk.resend(first, "When are backups?", "At three [1].", done()).wait(60)
    assert talk.title() == "My backups"


@pytest.mark.parametrize("text", ["", "  \n", "x" * 100_001])
def test_words_that_cannot_be_asked_change_nothing(talk, text):
    first = talk.ask("When are backups written?", "At three [1].").question
    before = talk.messages()
    with pytest.raises(InvalidInput):
        talk.resend(first, text)
    assert talk.messages() == before


# --- over HTTP ----------------------------------------------------------------------------


def assert_error(answer, status, code):
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


def test_both_are_asked_for_over_http_whole_or_as_events(talk):
    question = talk.ask("When are backups written?", "At four [1].").question
    talk.engine.scripts += [["At three [1].", done()], ["At two [1].", done()], ["At one [1].", done()]]
    again = talk.post_retry(question.message_id)
    assert (again.status_code, again.json()["content"], again.json()["mode"]) == (200, "At three [1].", "rag")
    events = talk.post_retry(question.message_id, headers={"Accept": "text/event-stream"})
    assert events.headers["content-type"].startswith("text/event-stream")
    last = events.text.strip().split("\n\n")[-1]
    assert "event: finished" in last
    assert json.loads(last.partition("data: ")[2])["message"]["content"] == "At two [1]."
    otherwise = talk.put(question.message_id, "At which hour are backups written?", thinking_mode="rag")
    assert (otherwise.status_code, otherwise.json()["content"]) == (200, "At one [1].")
    assert talk.said() == ["At which hour are backups written?", "At one [1]."]


def test_the_mode_of_a_retry_comes_from_the_body_or_a_header(talk):
    question = talk.ask("When are backups written?", "At four [1].").question
    for more in ({"json": {"thinking_mode": "cot"}}, {"headers": {"thinking_mode": "cot"}}):
        assert talk.post_retry(question.message_id, **more).json()["mode"] == "cot"
    assert_error(talk.post_retry(question.message_id, json={"mode": "cot"}), 422, "invalid_input")


def test_an_old_answer_that_stays_comes_back_with_the_reason(talk):
    asked = talk.ask("When are backups written?", "At four [1].")
    talk.engine.scripts += [[EngineUnavailable("Ollama is gone.")]]
    answer = talk.post_retry(asked.question.message_id).json()
    assert (answer["message_id"], answer["content"]) == (asked.answer.message_id, "At four [1].")
    assert answer["notices"] == ["Ollama is gone.", EARLIER_STAYS]


def test_what_cannot_be_asked_again_is_refused_with_the_status_that_fits(talk):
    first = talk.ask("When are backups written?", "At four [1].")
    second = talk.ask("To which folder are backups written?", "There [1].")
    other = Conversation(talk.companion, talk.client, talk.engine)
    before = talk.messages()
    for call in (talk.post_retry, lambda message_id: talk.put(message_id, "Other words?")):
        assert_error(call(9999), 404, "not_found")
        assert_error(call(second.answer.message_id), 422, "invalid_input")
    assert_error(talk.post_retry(first.question.message_id), 409, "conflict")
    assert_error(other.post_retry(second.question.message_id), 404, "not_found")
    assert_error(other.put(second.question.message_id, "Mine?"), 404, "not_found")
    assert_error(talk.client.post("/api/sessions/nobodys/messages/1/retry"), 404, "not_found")
    assert_error(talk.put(first.question.message_id, ""), 422, "invalid_input")
    assert talk.messages() == before


def test_meanwhile_both_are_409(talk):
    gate = Gate()
    talk.engine.scripts += [["Half ", gate, "and half.", done()]]
    run = talk.companion.runs.start(LOCAL_OWNER, talk.session_id, "When are backups written?", RAG)
    assert gate.reached.wait(60)
    assert_error(talk.post_retry(run.question.message_id), 409, "conflict")
    assert_error(talk.put(run.question.message_id, "Archives?"), 409, "conflict")
    gate.open.set()
    assert run.wait(60)
    assert talk.said() == ["When are backups written?", "Half and half."]


# --- stopping -----------------------------------------------------------------------------


class SlowToLetGo(ScriptedEngine):
    """Confirms a stop only when the test says so."""

    def __init__(self, *scripts):
        super().__init__(*scripts)
        self.let_go = Gate()

    async def stream(self, request):
        try:
            async for piece in super().stream(request):
                yield piece
        finally:
            await self.let_go.pass_through()


def test_a_run_says_that_it_is_stopping_until_the_engine_has_let_go(tmp_path):
    gate, engine = Gate(), SlowToLetGo()
    engine.scripts += [["Half", gate, done()]]
    with opened(tmp_path, engine) as (companion, client):
        companion.library.add(LOCAL_OWNER, "guide.md", GUIDE.encode())
        session_id = client.post("/api/sessions").json()["session_id"]
        run = companion.runs.start(LOCAL_OWNER, session_id, "When are backups written?", RAG)
        assert gate.reached.wait(60)
        detail = client.get(f"/api/sessions/{session_id}").json()
        assert (detail["running"], detail["stopping"], run.stopping) == (True, False, False)
        assert client.delete(f"/api/sessions/{session_id}/run").json() == {"stopped": True}
        assert run.stopping
        assert engine.let_go.reached.wait(60)
        detail = client.get(f"/api/sessions/{session_id}").json()
        assert (detail["running"], detail["stopping"], run.done) == (True, True, False)
        engine.let_go.open.set()
        assert run.wait(60)
        detail = client.get(f"/api/sessions/{session_id}").json()
        assert (detail["running"], detail["stopping"], run.stopping) == (False, False, False)
        assert run.answer.state is MessageState.STOPPED


def test_the_runs_thread_waits_for_no_reading(talk, monkeypatch):
    """A slow disk must not hold up the answers of others."""
    database = talk.companion.store.sessions._database
    readers, reading = [], database.reading

    def watched():
        readers.append(threading.current_thread().name)
        return reading()

    monkeypatch.setattr(database, "reading", watched)
    talk.ask("When are backups written?", "At three [1].")
    assert readers
    assert "runs" not in readers
