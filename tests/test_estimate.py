"""What a question would cost before it is asked: the numbers of the packing, and no engine asked."""

from dataclasses import replace

import pytest

from companion.chat.modes import plan_turn
from companion.chat.packing import estimate, pack
from companion.chat.prompt import Exchange
from companion.chat.tokens import Calibration
from companion.chat.window import PASSAGE_TOKENS, profile_for, share_out, window_size
from companion.config import Settings
from companion.domain import LOCAL_OWNER, MessageState, Role, ThinkingMode
from companion.errors import NotFound
from tests.doors import opened
from tests.fakes import MODEL, THINKER, TINY, ScriptedEngine, done, hit, means

COT, RAG, HYBRID = ThinkingMode.COT, ThinkingMode.RAG, ThinkingMode.HYBRID
CALIBRATION = Calibration()
# A passage whose entry in the prompt, name and number included, is as long as one is counted.
FULL = "Bees fly to the meadow. " * 86


def parts(mode, model, question="When do bees fly?", top_k=5, history=(), num_ctx=8192):
    profile = profile_for(model, Settings(), 1)
    plan = plan_turn(mode, model, profile.passes)
    window = share_out(window_size(num_ctx, 0, num_ctx), profile, plan)
    return plan, profile, window, question, history, top_k


@pytest.mark.parametrize("model", [MODEL, THINKER, TINY], ids=lambda model: model.name)
@pytest.mark.parametrize("mode", list(ThinkingMode))
@pytest.mark.parametrize("turns", [0, 3, 60])
@pytest.mark.parametrize("question", ["When do bees fly?", "When do bees fly? " * 3000])
def test_an_estimate_is_what_packing_makes_of_full_passages(model, mode, turns, question):
    history = [Exchange(f"Question {number}?", "An answer. " * 20) for number in range(turns)]
    plan, profile, window, question, history, top_k = parts(mode, model, question, history=history)
    turn = means(model, plan, profile, window, CALIBRATION)
    found = estimate(turn, question, top_k, history)
    text = FULL[:1000] if profile.small else FULL
    hits = [hit(number, text, name="a") for number in range(min(top_k, profile.passages))]
    packed = pack(turn, question, hits if plan.searches else (), {}, history)
    assert found.question >= CALIBRATION.tokens(packed.question)
    told = sum(CALIBRATION.tokens(each.question) + CALIBRATION.tokens(each.answer) for each in packed.history)
    assert found.tokens <= window.prompt
    assert (found.history == 0) is (not packed.history)
    if not plan.searches:
        assert found.passages == 0
        assert told <= found.history <= told + 16 * len(packed.history)
    shown = sum(CALIBRATION.tokens(each.text) for each in packed.shown)
    # Rounding: a whole passage more or less fits into the same room.
    assert abs(found.passages - shown) <= PASSAGE_TOKENS
    assert found.tokens == found.question + found.history + found.passages + found.instructions


def test_a_longer_question_costs_more_and_leaves_less():
    *before, _, history, top_k = parts(HYBRID, MODEL, num_ctx=4096)
    turn = means(MODEL, *before, CALIBRATION)
    short = estimate(turn, "Why?", top_k, history)
    long = estimate(turn, "Why? " * 1000, top_k, history)
    assert long.question > short.question
    assert long.passages < short.passages
    assert long.window == short.window == 4096


# --- in a conversation --------------------------------------------------------------------


class CountingEngine(ScriptedEngine):
    """Counts how often it is asked for its models."""

    asked = 0

    async def models(self):
        self.asked += 1
        return await super().models()


@pytest.fixture
def house(tmp_path):
    engine = CountingEngine(models=(replace(MODEL, loaded=True), THINKER))
    with opened(tmp_path, engine, cot_iterations=1) as (companion, client):
        yield engine, companion, client, client.post("/api/sessions").json()["session_id"]


def fill(companion, session_id, exchanges):
    for number in range(exchanges):
        companion.store.sessions.add_message(LOCAL_OWNER, session_id, Role.USER, f"Question {number}?")
        companion.store.sessions.add_answer(
            LOCAL_OWNER, session_id, "Die Bienen fliegen über die Wiese. " * 60, state=MessageState.COMPLETE
        )


def test_the_window_is_the_one_that_the_question_will_get(house):
    engine, companion, _, session_id = house
    for text in ("Why?", "Why? " * 8000):
        guessed = companion.chat.estimate(LOCAL_OWNER, session_id, text, COT)
        engine.scripts += [["Notes.", done()], ["So.", done()]]
        assert companion.runs.start(LOCAL_OWNER, session_id, text, COT).wait(60)
        assert engine.requests[-1].num_ctx == guessed.window
        counted = CALIBRATION.of_messages(engine.requests[-1].messages)
        assert abs(counted - guessed.tokens) < 100


def test_estimates_change_nothing(house):
    """A window that is only thought about must not make the next question load a larger one."""
    engine, companion, _, session_id = house
    companion.chat.estimate(LOCAL_OWNER, session_id, "Why? " * 8000, HYBRID)
    engine.scripts += [["Notes.", done()], ["So.", done()]]
    assert companion.runs.start(LOCAL_OWNER, session_id, "Why?", COT).wait(60)
    assert engine.requests[-1].num_ctx == companion.chat.estimate(LOCAL_OWNER, session_id, "Why?", COT).window
    assert (
        engine.requests[-1].num_ctx < companion.chat.estimate(LOCAL_OWNER, None, "Why? " * 8000, COT).window
    )


def test_an_estimate_asks_no_engine(house):
    engine, companion, _, session_id = house
    fill(companion, session_id, 50)
    asked = engine.asked
    cost = companion.chat.estimate(LOCAL_OWNER, session_id, "When do bees fly? " * 20)
    assert engine.asked == asked
    assert engine.requests == []
    assert cost.history > 0


def test_without_any_model_there_is_still_an_estimate(tmp_path):
    with opened(tmp_path, ScriptedEngine(models=())) as (companion, _):
        cost = companion.chat.estimate(LOCAL_OWNER, None, "Why?", RAG)
        assert 0 < cost.question < cost.tokens < cost.window
        assert cost.history == 0


def test_an_estimate_over_http_for_a_conversation_and_for_a_new_one(house):
    _, companion, client, session_id = house
    fill(companion, session_id, 2)
    question = {"content": "When do bees fly?", "thinking_mode": "rag"}
    new = client.post("/api/estimate", json=question).json()
    assert new["tokens"] == new["question"] + new["history"] + new["passages"] + new["instructions"]
    assert (new["history"], new["passages"]) == (0, 5 * PASSAGE_TOKENS)
    ongoing = client.post("/api/estimate", json={**question, "session_id": session_id}).json()
    assert ongoing["history"] > 0
    assert client.post("/api/estimate", json={"content": ""}).status_code == 200
    assert client.post("/api/estimate", json={**question, "session_id": "nobodys"}).status_code == 404
    assert client.post("/api/estimate", json={"content": "x" * 100_001}).status_code == 422
    with pytest.raises(NotFound):
        companion.chat.estimate("somebody", session_id, "Why?")
