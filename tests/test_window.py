"""The window of a model: how its tokens are estimated, what did not fit, and what a person is told of it."""

import re
from dataclasses import replace

import pytest

from companion.chat.learned import MOST, SETTING, Learned
from companion.chat.means import READ_LESS, WINDOW_FULL
from companion.chat.packing import THOUGHTS_LEFT_OUT
from companion.chat.prompt import NOTHING_FOUND_NOTICE
from companion.chat.tokens import Calibration
from companion.domain import LOCAL_OWNER, MessageState, PromptMessage, Role
from companion.inference.ollama import Ollama
from tests.fakes import MODEL, FakeLibrary, ScriptedEngine, done, hit
from tests.ollama_server import OllamaServer, ServedModel
from tests.test_chat import COT, HYBRID, RAG, House, store  # noqa: F401 a fixture

CHAT = "llama3.2:latest"
OURS = Calibration().chars_per_token
PASSAGES = tuple(
    hit(10 * n, f"Backup number {'one two three four five six seven'.split()[n]} is written at night. " * 40)
    for n in range(7)
)


@pytest.fixture
def server():
    with OllamaServer([ServedModel(CHAT, context_length=4096)]) as running:
        yield running


def house_with(store, server, **settings):  # noqa: F811
    return House(store, Ollama(server.url), FakeLibrary(*PASSAGES), top_k=7, **settings)


def prompts(server):
    """Tokens of each prompt, as the server's tokenizer counts, and the window it was sent with."""
    windows = [body["options"]["num_ctx"] for body in server.asked("/api/chat")]
    return [(prompt, window) for (prompt, _), window in zip(server.read, windows, strict=True)]


def estimated(house):
    """Of a question that is a prompt by itself."""
    return house.chat.estimate(LOCAL_OWNER, None, "Tell a story about this. " + "word " * 600, COT).tokens


async def counted(house, server):
    house.session_id = ""
    await house.answer("Tell a story about this. " + "word " * 600, COT)
    return server.read[-2][0]


# --- the estimate -----------------------------------------------------------------------------


@pytest.mark.parametrize("times", [2, 0.5, 1], ids=["twice ours", "half of ours", "ours"])
async def test_the_estimate_comes_near_to_what_the_engine_counts(store, server, times):  # noqa: F811
    server.chars_per_token = OURS / times
    house = house_with(store, server, cot_iterations=1)
    for _ in range(6):
        before = estimated(house)
        real = await counted(house, server)
    # Templates, which the server does not have, count as well: the estimate may be a little above.
    assert 0.97 * real <= before <= 1.15 * real


async def test_tokens_half_as_long_as_thought_fit_from_the_first_question_on(store, server):  # noqa: F811
    server.chars_per_token = OURS / 2
    house = house_with(store, server)
    notices = [(await house.answer(f"Which backup is number {n}?", RAG)).notices for n in range(6)]
    assert all(prompt <= window for prompt, window in prompts(server))
    assert not any(READ_LESS in each or WINDOW_FULL in each for each in notices)


async def test_tokens_a_quarter_as_long_as_thought_are_cut_once_and_told(store, server):  # noqa: F811
    server.chars_per_token = OURS / 3.4
    house = house_with(store, server)
    notices = [(await house.answer(f"Which backup is number {n}?", RAG)).notices for n in range(4)]
    cut = [prompt > window for prompt, window in prompts(server)]
    assert cut == [True, False, False, False]
    assert [READ_LESS in each or WINDOW_FULL in each for each in notices] == cut


async def test_tokens_twice_as_long_as_thought_make_room_for_more_and_are_no_alarm(store, server):  # noqa: F811
    server.chars_per_token = OURS * 2
    house = house_with(store, server)
    shown = []
    for n in range(7):
        house.session_id = ""
        message = await house.answer(f"Which backup is number {n}?", RAG)
        shown.append(len(message.sources))
        assert READ_LESS not in message.notices
    assert shown == sorted(shown)
    assert shown[-1] > shown[0]
    assert all(prompt <= window for prompt, window in prompts(server))


async def test_what_was_learned_of_a_models_tokens_outlives_a_restart(store, server):  # noqa: F811
    server.chars_per_token = OURS / 2
    before = house_with(store, server, cot_iterations=1)
    await counted(before, server)
    learned, fresh = estimated(before), house_with(store, server, cot_iterations=1)
    assert learned > 1.5 * Calibration().tokens("Tell a story about this. " + "word " * 600)
    await fresh.catalog.models()
    assert estimated(fresh) == learned
    # Another file under the same name may have another tokenizer.
    server.models = [ServedModel(CHAT, context_length=4096, size=7_000_000_000)]
    await fresh.catalog.models(refresh=True)
    assert estimated(fresh) < learned / 1.5


async def test_what_was_guessed_of_a_cut_prompt_does_not_outlive_a_restart(store, server):  # noqa: F811
    server.chars_per_token = OURS / 3.4
    before = house_with(store, server)
    untaught = estimated(before)
    notices = (await before.answer("Which backup is number 1?", RAG)).notices
    assert {READ_LESS, WINDOW_FULL} & set(notices)
    assert estimated(before) > untaught
    fresh = house_with(store, server)
    await fresh.catalog.models()
    assert estimated(fresh) == untaught


@pytest.mark.parametrize(
    "stored",
    [[], "x", {CHAT: None}, {CHAT: [1, "long"]}, {CHAT: [1_000_000_000, 0]}, {CHAT: [1_000_000_000]}],
)
async def test_token_lengths_that_cannot_be_are_not_believed(store, server, stored):  # noqa: F811
    untaught = estimated(house_with(store, server))
    store.settings.save({SETTING: stored})
    fresh = house_with(store, server)
    await fresh.catalog.models()
    assert estimated(fresh) == untaught


async def test_the_models_that_were_counted_last_are_remembered(store):  # noqa: F811
    learned = Learned(store.settings)
    for number in range(MOST + 5):
        learned.note(replace(MODEL, name=f"model-{number}"), 3.0)
    learned.keep()
    again = Learned(store.settings)
    assert again.of(replace(MODEL, name="model-4")) is None
    assert again.of(replace(MODEL, name=f"model-{MOST + 4}")) == 3.0
    assert len(store.settings.load()[SETTING]) == MOST


def test_shorter_tokens_are_believed_at_once_and_longer_ones_half_way():
    messages = (PromptMessage("user", "word " * 400),)
    twice = Calibration().learned(messages, 1000)
    assert twice.of_messages(messages) >= 1000
    half = Calibration().learned(messages, 300)
    assert 300 < half.of_messages(messages) < Calibration().of_messages(messages)
    # A dense text after plain ones: the very next estimate holds it.
    assert half.learned(messages, 1200).of_messages(messages) >= 1200


def test_a_count_that_no_tokenizer_makes_is_not_believed():
    messages = (PromptMessage("user", "word " * 400),)
    assert not Calibration().may_count(messages, 100)
    assert Calibration().may_count(messages, 260)


# --- a prompt that was cut ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counted", "told"),
    [
        (8184, WINDOW_FULL),
        (8192, WINDOW_FULL),
        (8183, None),
        (4098, READ_LESS),
        (20, READ_LESS),
    ],
)
async def test_a_cut_prompt_is_told(store, counted, told):  # noqa: F811
    library = FakeLibrary(*[hit(n, "Backups are written at night. " * 130) for n in range(5)])
    engine = ScriptedEngine(["Yes.", done(prompt_tokens=counted)])
    message = await House(store, engine, library).answer("When?" + " word" * 2200, mode=RAG)
    assert engine.requests[0].num_ctx == 8192
    assert [each for each in (READ_LESS, WINDOW_FULL) if each in message.notices] == ([told] if told else [])


async def test_once_measured_a_count_far_below_the_estimate_is_told(store):  # noqa: F811
    engine = ScriptedEngine(
        ["Yes.", done(prompt_tokens=240)],
        ["Yes.", done(prompt_tokens=240)],
        ["Yes.", done(prompt_tokens=150)],
    )
    house = House(store, engine)
    told = []
    for _ in range(3):
        house.session_id = ""
        told.append(READ_LESS in (await house.answer(mode=RAG)).notices)
    assert told == [False, False, True]


# --- what did not fit -----------------------------------------------------------------------------


async def test_passages_and_turns_that_did_not_fit_are_told_and_counted(store, server):  # noqa: F811
    house = house_with(store, server)
    house.session_id = (await house.sessions.create(LOCAL_OWNER)).session_id
    for n in range(40):
        store.sessions.add_message(
            LOCAL_OWNER, house.session_id, Role.USER, f"Question {n} about the harbour?"
        )
        store.sessions.add_answer(
            LOCAL_OWNER, house.session_id, f"Answer {n}. " + "word " * 60, state=MessageState.COMPLETE
        )
    message = await house.answer("Which backups are written at night?", RAG)
    [sent] = server.asked("/api/chat")
    told = [each["content"] for each in sent["messages"]]
    kept = (len(told) - 2) // 2
    assert told[1:-1:2] == [f"Question {n} about the harbour?" for n in range(40 - kept, 40)]
    assert "After each statement put the number of the passage" in told[0]
    assert told[-1] == "Which backups are written at night?"
    spent = message.usage
    assert (spent.turns_left_out, spent.passages_left_out) == (40 - kept, 7 - len(message.sources))
    assert spent.turns_left_out > 0
    assert spent.passages_left_out > 0
    assert spent.window == sent["options"]["num_ctx"] == 4096
    assert (
        f"Only the latest {kept} turns of this conversation fitted into the model's window."
        in message.notices
    )
    assert f"{spent.passages_left_out} of 7 passages did not fit into the model's window." in message.notices


async def test_a_conversation_of_hundreds_of_turns_keeps_the_latest(store):  # noqa: F811
    engine = ScriptedEngine(["Yes.", done()])
    house = House(store, engine)
    house.session_id = (await house.sessions.create(LOCAL_OWNER)).session_id
    for n in range(250):
        store.sessions.add_message(LOCAL_OWNER, house.session_id, Role.USER, f"Is {n} even?")
        store.sessions.add_answer(LOCAL_OWNER, house.session_id, "Yes.", state=MessageState.COMPLETE)
    message = await house.answer("Which numbers have I asked about?", COT)
    told = [each.content for each in engine.requests[-1].messages]
    assert "Is 249 even?" in told
    assert "Is 0 even?" not in told
    assert message.usage.turns_left_out > 0
    assert any(re.match(r"Only the latest \d+ turns", notice) for notice in message.notices)


async def test_a_question_longer_than_the_window_is_answered_told_and_kept_whole(store, server):  # noqa: F811
    house = house_with(store, server)
    question = "Here is my text: " + "word " * 15_000 + "What is it about?"
    message = await house.answer(question, RAG)
    assert message.state is MessageState.COMPLETE
    assert any("longer than the model's window" in notice for notice in message.notices)
    assert house.messages()[0].content == question
    told = server.asked("/api/chat")[0]["messages"][-1]["content"]
    assert told.startswith("Here is my text")
    assert told.endswith("What is it about?")
    assert message.sources
    assert all(prompt <= window for prompt, window in prompts(server))


# --- the size of the window ---------------------------------------------------------------------------


async def test_all_calls_of_a_turn_have_one_window_and_it_only_grows(store):  # noqa: F811
    engine = ScriptedEngine(*[["Backups are written at night.", done()] for _ in range(20)], models=[MODEL])
    house = House(store, engine)
    await house.answer("When are backups written?")
    for question in ("And where?", "And why? " + "word " * 6000, "And where?"):
        before = len(engine.requests)
        await house.answer(question)
        assert len({each.num_ctx for each in engine.requests[before:]}) == 1
    sizes = [each.num_ctx for each in engine.requests]
    assert sizes == sorted(sizes)
    assert set(sizes) <= {4096, 8192, 16_384}
    assert len(set(sizes)) > 1
    assert any(each.max_tokens == 64 for each in engine.requests), "a follow-up was rewritten"


# --- a tiny window --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [512, 1024])
@pytest.mark.parametrize("mode", [RAG, COT, HYBRID])
async def test_a_tiny_window_holds_the_question_and_passages_instead_of_thoughts(store, size, mode):  # noqa: F811
    question = "Which backups are written at night?"
    with OllamaServer([ServedModel(CHAT, context_length=size)]) as server:
        message = await house_with(store, server).answer(question, mode)
        [sent] = server.asked("/api/chat")
        assert all(prompt <= window == size for prompt, window in prompts(server))
    assert message.state is MessageState.COMPLETE
    assert sent["messages"][-1]["content"] == question
    assert bool(message.sources) is (mode is not COT)
    assert (THOUGHTS_LEFT_OUT in message.notices) is (mode is not RAG)
    assert NOTHING_FOUND_NOTICE not in message.notices


async def test_a_window_without_room_for_a_passage_is_told_and_not_taken_for_nothing_found(store):  # noqa: F811
    with OllamaServer([ServedModel(CHAT, context_length=512)]) as server:
        house = house_with(store, server, system_prompt="Be kind. " * 45)
        message = await house.answer("Which backups are written at night?", RAG)
        assert server.asked("/api/chat") == []
    assert message.state is MessageState.FAILED
    assert "window of 512 tokens is too small for" in message.notices[0]
