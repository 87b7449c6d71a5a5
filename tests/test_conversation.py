"""A conversation over the HTTP interface: follow-ups are searched for in words that stand alone."""

import threading

import pytest

from companion.chat import retrieval
from companion.domain import LOCAL_OWNER, ModelInfo, Retrieved
from companion.errors import EngineSilent
from companion.ui.render.conversation import Turn, conversation, running
from tests.doors import opened
from tests.fakes import TINY, Gate, ScriptedEngine, done
from tests.waiting import until

GUIDE = (
    "# Backups\n\nBackups are written every night at three to the folder named archive.\n\n"
    "# Retention\n\nThe archive keeps each backup for ten days.\n"
)
FIRST = "When are backups written?"


class Talk:
    """A session over REST."""

    def __init__(self, companion, client, mode="rag"):
        self.companion, self.client = companion, client
        client.post("/api/documents", files=[("files", ("guide.md", GUIDE))])
        self.session_id = client.post("/api/sessions", json={"thinking_mode": mode}).json()["session_id"]
        self.path = f"/api/sessions/{self.session_id}/messages"

    def ask(self, words, **more):
        return self.client.post(self.path, json={"content": words, **more})

    def answer(self, words, **more):
        found = self.ask(words, **more)
        assert found.status_code == 200, found.text
        return found.json()

    def stored(self):
        return self.client.get(self.path).json()["messages"]


@pytest.fixture
def engine():
    return ScriptedEngine()


@pytest.fixture
def talk(tmp_path, engine):
    with opened(tmp_path, engine) as (companion, client):
        yield Talk(companion, client)


def test_what_was_searched_for_is_told_and_outlives_a_reload(talk, engine):
    engine.scripts = [
        ["At three [1].", done()],
        ["Where are backups written to?", done()],
        ["There.", done()],
    ]
    assert talk.answer(FIRST)["searched_for"] is None
    assert talk.answer("And where?")["searched_for"] == "Where are backups written to?"
    assert [each["searched_for"] for each in talk.stored()] == [
        None,
        None,
        None,
        "Where are backups written to?",
    ]


def test_the_stream_tells_what_is_searched_for_before_the_answer(talk, engine):
    engine.scripts = [
        ["At three [1].", done()],
        ["Where are backups written to?", done()],
        ["There.", done()],
    ]
    talk.answer(FIRST)
    events = talk.client.post(
        talk.path, json={"content": "And where?"}, headers={"accept": "text/event-stream"}
    ).text
    retrieved, _, rest = events.partition("event: token")
    assert '"searched_for":"Where are backups written to?"' in retrieved.partition("event: retrieved")[2]
    assert rest


def test_the_page_shows_it_while_the_answer_is_written_and_afterwards(talk, engine):
    engine.scripts = [["At three [1].", done()], ["Where do <backups> go?", done()], ["There.", done()]]
    talk.answer(FIRST)
    talk.answer("And where?")
    stored = talk.companion.store.sessions.messages(LOCAL_OWNER, talk.session_id)
    block = conversation(stored, stored[-1].created_at, None)[-2]["content"]
    assert "Searched for: Where do &lt;backups&gt; go?" in block
    live = Turn(retrieved=Retrieved(stored[-1].sources, ("lexical",), 1.0, "Where do backups go?"))
    assert "Searched for: Where do backups go?" in running(live, 1.0)[0]["content"]
    assert "Searched for" not in conversation(stored[:2], stored[1].created_at, None)[1]["content"]


def test_an_export_tells_it(talk, engine):
    engine.scripts = [["At three [1].", done()], ["Where are backups?", done()], ["There.", done()]]
    talk.answer(FIRST)
    talk.answer("And where?")
    export = talk.client.get(f"/api/sessions/{talk.session_id}/export?format=markdown").text
    assert "- Searched for: Where are backups?" in export


@pytest.mark.parametrize("said", [[EngineSilent("Silent.")], ["", done()], ["x" * 900, done()]])
def test_a_rewriting_that_fails_gives_way_to_the_words_of_the_conversation(talk, engine, said):
    engine.scripts = [["At three [1].", done()], said, ["There.", done()]]
    talk.answer(FIRST)
    answer = talk.answer("And where?")
    assert (answer["content"], answer["searched_for"]) == ("There.", "And where? backups written")


def test_a_rewriting_that_takes_too_long_is_given_up(talk, engine, monkeypatch):
    monkeypatch.setattr(retrieval, "LOADING_S", 0.05)
    gate = Gate()
    engine.scripts = [["At three [1].", done()], [gate], ["There.", done()]]
    talk.answer(FIRST)
    answer = talk.answer("And where?")
    assert (answer["content"], answer["searched_for"]) == ("There.", "And where? backups written")
    assert gate.reached.is_set()
    assert engine.cancelled.is_set()


def test_stop_works_while_a_follow_up_is_rewritten(talk, engine):
    gate = Gate()
    engine.scripts = [["At three [1].", done()], [gate], ["There.", done()]]
    talk.answer(FIRST)
    asking = threading.Thread(target=talk.ask, args=("And where?",))
    asking.start()
    assert gate.reached.wait(30)
    assert talk.client.delete(f"/api/sessions/{talk.session_id}/run").json() == {"stopped": True}
    asking.join(30)
    assert engine.cancelled.is_set()
    assert until(lambda: talk.stored()[-1]["state"] == "stopped")
    assert len(engine.requests) == 2


def test_the_next_follow_up_knows_what_the_last_one_was_about(talk, engine):
    engine.scripts = [["At three [1].", done()], [EngineSilent("Silent.")], ["There.", done()]]
    talk.answer(FIRST)
    talk.answer("And where?")
    engine.scripts = [[EngineSilent("Silent.")], ["Yes.", done()]]
    assert talk.answer("For how long?")["searched_for"] == "For how long? backups written"


def test_the_rewriting_uses_the_window_of_the_answer_and_does_not_think(tmp_path):
    thinker = ModelInfo("qwen3:8b", "ollama", 5_000_000_000, 40_960, ("completion", "thinking"))
    engine = ScriptedEngine(models=[thinker])
    with opened(tmp_path, engine, least_similarity=0) as (companion, client):
        talk = Talk(companion, client)
        engine.scripts = [["At three [1].", done()], ["Where are they?", done()], ["There.", done()]]
        talk.answer(FIRST)
        talk.answer("And where?")
    _first, condense, answer = engine.requests
    assert condense.num_ctx == answer.num_ctx
    assert (condense.think, condense.temperature, condense.max_tokens) == (False, 0.0, 64)


def test_the_built_in_model_is_not_asked_to_rewrite(tmp_path):
    engine = ScriptedEngine(["At three.", done()], ["There.", done()], models=[TINY], name="builtin")
    with opened(tmp_path, engine) as (companion, client):
        talk = Talk(companion, client)
        talk.answer(FIRST)
        assert talk.answer("And where?")["searched_for"] == "And where? backups written"
    assert len(engine.requests) == 2


def test_without_documents_a_follow_up_is_not_rewritten(talk, engine):
    engine.scripts = [["At three.", done()], ["There.", done()]]
    talk.answer(FIRST, thinking_mode="cot")
    assert talk.answer("And where?", thinking_mode="cot")["searched_for"] is None
    assert not any("Rewrite" in each.messages[0].content for each in engine.requests)


def test_an_edited_question_leaves_nothing_of_the_old_search(talk, engine):
    engine.scripts = [["At three [1].", done()], ["Where are they?", done()], ["There.", done()]]
    talk.answer(FIRST)
    talk.answer("And where?")
    engine.scripts = [["For ten days [1].", done()]]
    question = talk.stored()[2]["message_id"]
    run = talk.companion.runs.resend(
        LOCAL_OWNER, talk.session_id, question, "How long does the archive keep a backup?"
    )
    run.wait(30)
    assert talk.stored()[-1]["searched_for"] is None
