"""A turn from the question to the stored answer, with a scripted model and a real store."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from companion.chat.chat import Chat
from companion.chat.prompt import NOTHING_FOUND, NOTHING_FOUND_NOTICE
from companion.chat.sessions import Sessions
from companion.config import Settings
from companion.domain import (
    LOCAL_OWNER,
    Finished,
    MessageState,
    Notice,
    Retrieved,
    Role,
    ThinkingMode,
    Thought,
    Token,
)
from companion.errors import (
    EngineBusy,
    EngineSilent,
    EngineUnavailable,
    InvalidInput,
    NotFound,
    StreamBroken,
)
from companion.inference.catalog import Catalog
from companion.storage.store import Store
from tests.fakes import MODEL, THINKER, TINY, FakeLibrary, Gate, ScriptedEngine, done, hit, passage

HITS = (
    hit(1, "Backups are written every night at three to the archive folder.", name="guide.md"),
    hit(5, "The archive is kept for ten days and then removed.", name="guide.md"),
)
COT, RAG, HYBRID = ThinkingMode.COT, ThinkingMode.RAG, ThinkingMode.HYBRID


class House:
    """A chat with one conversation."""

    def __init__(self, store, engine, library=None, *, others=(), **settings):
        self.store, self.engine = store, engine
        self.settings = Settings(**settings)
        self.library = library or FakeLibrary(*HITS)
        self.catalog = Catalog([engine, *others])
        self.sessions = Sessions(store, self.catalog, self.settings)
        self.chat = Chat(store, self.catalog, self.library, self.sessions.preferences, self.settings)
        self.session_id = ""

    async def events(self, text="When are backups written?", mode=None):
        if not self.session_id:
            self.session_id = (await self.sessions.create(LOCAL_OWNER)).session_id
        return [event async for event in self.chat.reply(LOCAL_OWNER, self.session_id, text, mode)]

    async def answer(self, *arguments, **more):
        return (await self.events(*arguments, **more))[-1].message

    def messages(self):
        return self.store.sessions.messages(LOCAL_OWNER, self.session_id)


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "companion.db")
    yield opened
    opened.close()


def kinds(events):
    """The order of events, repetitions as one."""
    names = [type(event).__name__ for event in events]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


# --- the modes ----------------------------------------------------------------------------


async def test_rag_searches_and_answers_with_citations(store):
    house = House(store, ScriptedEngine(["At three [1", "].", done(prompt_tokens=300, answer_tokens=5)]))
    events = await house.events(mode=RAG)
    assert kinds(events) == ["Retrieved", "Token", "Finished"]
    assert [source.number for source in events[0].sources] == [1, 2]
    message = events[-1].message
    assert message.content == "At three [1]."
    assert [source.cited for source in message.sources] == [True, False]
    assert not any(source.matched for source in message.sources)
    assert (message.state, message.mode, message.model) == (MessageState.COMPLETE, RAG, MODEL.name)
    assert message.usage.prompt_tokens == 300
    assert message.usage.answer_tokens == 5
    assert message.usage.search_ms is not None
    assert message.usage.first_token_ms is not None
    assert message.usage.thinking_ms is None
    assert house.messages()[-1] == message


async def test_hybrid_searches_then_thinks_then_answers(store):
    engine = ScriptedEngine(
        ["Let me think step by step.", done()], ["Better notes.", done()], ["At three [1].", done()]
    )
    events = await House(store, engine).events(mode=HYBRID)
    assert kinds(events) == ["Retrieved", "Thought", "Token", "Finished"]
    message = events[-1].message
    assert message.thinking == "Let me think step by step.\n\nBetter notes."
    assert message.content == "At three [1]."
    assert message.usage.thinking_ms is not None
    told = [message.content for message in engine.requests[-1].messages]
    assert "Better notes." in told
    assert "Backups are written every night" in told[0]


async def test_cot_does_not_look_into_the_documents(store):
    engine = ScriptedEngine(["Notes.", done()], ["OK", done()], ["Forty-two, see [1].", done()])
    house = House(store, engine)
    events = await house.events(mode=COT)
    assert kinds(events) == ["Thought", "Token", "Finished"]
    assert house.library.queries == []
    assert events[-1].message.content == "Forty-two, see [1]."
    assert events[-1].message.sources == ()


async def test_thinking_ends_early_when_a_pass_changes_nothing(store):
    engine = ScriptedEngine(["Notes.", done()], ["OK", done()], ["Answer.", done()])
    await House(store, engine, cot_iterations=3).events(mode=COT)
    assert len(engine.requests) == 3
    assert [message.content for message in engine.requests[-1].messages].count("OK") == 0


@pytest.mark.parametrize(("passes", "calls"), [(1, 2), (2, 3), (3, 4)])
async def test_a_model_thinks_as_often_as_it_is_set_to(store, passes, calls):
    engine = ScriptedEngine(*[[f"Notes {n}.", done()] for n in range(calls)])
    await House(store, engine, cot_iterations=passes).events(mode=COT)
    assert len(engine.requests) == calls
    assert len({request.num_ctx for request in engine.requests}) == 1


async def test_a_model_that_can_think_is_asked_once_and_told_to(store):
    engine = ScriptedEngine([Thought("Hm. "), Thought("So."), "Answer.", done()], models=[THINKER])
    events = await House(store, engine).events(mode=COT)
    assert kinds(events) == ["Thought", "Token", "Finished"]
    assert [request.think for request in engine.requests] == [True]
    assert events[-1].message.thinking == "Hm. So."


async def test_rag_tells_a_thinking_model_not_to_think(store):
    engine = ScriptedEngine(["Answer.", done()], models=[THINKER])
    await House(store, engine).events(mode=RAG)
    assert [request.think for request in engine.requests] == [False]


async def test_models_that_cannot_think_are_not_asked_to(store):
    engine = ScriptedEngine(["Answer.", done()])
    await House(store, engine).events(mode=RAG)
    assert [request.think for request in engine.requests] == [None]


async def test_without_a_mode_the_conversation_s_own_holds(store):
    house = House(store, ScriptedEngine(["Answer.", done()]))
    house.session_id = (await house.sessions.create(LOCAL_OWNER, thinking_mode="rag")).session_id
    assert (await house.answer()).mode is RAG
    assert house.messages()[0].mode is RAG


# --- what is found --------------------------------------------------------------------------


async def test_rag_says_when_nothing_was_found_and_asks_no_model(store):
    house = House(store, ScriptedEngine(), FakeLibrary())
    events = await house.events(mode=RAG)
    assert events[0] == Retrieved((), ("lexical", "light"), events[0].took_ms)
    assert events[-1].message.content == NOTHING_FOUND
    assert events[-1].message.state is MessageState.COMPLETE
    assert house.engine.requests == []


async def test_hybrid_says_when_nothing_was_found_and_reasons_alone(store):
    engine = ScriptedEngine(["Notes.", done()], ["OK", done()], ["I think so [1].", done()])
    message = await House(store, engine, FakeLibrary()).answer(mode=HYBRID)
    assert message.notices == (NOTHING_FOUND_NOTICE,)
    assert message.content == "I think so.", "a number without a passage is no citation"
    assert "passage" not in engine.requests[0].messages[0].content


@pytest.mark.parametrize(
    ("layers", "similarity", "found"),
    [
        (("light",), 0.05, False),
        (("light",), 0.4, True),
        (("lexical",), 0.05, False),
        (("light",), None, True),
    ],
)
async def test_passages_far_from_the_question_count_as_nothing(store, layers, similarity, found):
    library = FakeLibrary(hit(1, "Something else.", layers=layers, similarity=similarity))
    message = await House(store, ScriptedEngine(["Yes.", done()]), library).answer(mode=RAG)
    assert (message.content == "Yes.") is found


async def test_what_search_has_to_say_is_passed_on(store):
    library = FakeLibrary(*HITS, notices=("The index is being rebuilt.",))
    message = await House(store, ScriptedEngine(["Yes.", done()]), library).answer(mode=RAG)
    assert message.notices == ("The index is being rebuilt.",)


async def test_passages_around_the_best_ones_are_read_too(store):
    engine = ScriptedEngine(["Yes.", done()])
    library = FakeLibrary(*HITS, around=[passage(2, "After that it sleeps."), passage(9, "Far away.")])
    await House(store, engine, library).events(mode=RAG)
    told = engine.requests[0].messages[0].content
    assert "archive folder.\nAfter that it sleeps." in told
    assert "Far away" not in told


async def test_left_out_passages_are_said_and_not_listed(store):
    library = FakeLibrary(*[hit(n, f"Backups {n}. " + "word " * 600) for n in range(5)])
    engine = ScriptedEngine(["Yes.", done()], models=[replace(MODEL, context_length=2048)])
    events = await House(store, engine, library).events(mode=RAG)
    assert len(events[0].sources) == 1
    assert "passages did not fit into the model's window." in events[1].text


async def test_references_of_a_model_that_gives_none_are_found_and_marked(store):
    said = "Backups are written every night at three to the archive folder."
    message = await House(store, ScriptedEngine([said, done()])).answer(mode=RAG)
    assert message.content == said[:-1] + " [1]."
    assert [(source.cited, source.matched) for source in message.sources] == [(True, True), (False, False)]


async def test_unknown_numbers_are_not_shown(store):
    message = await House(store, ScriptedEngine(["So it is [7][2].", done()])).answer(mode=RAG)
    assert message.content == "So it is [2]."
    assert [source.cited for source in message.sources] == [False, True]


# --- follow-ups -----------------------------------------------------------------------------


async def test_a_first_question_is_searched_as_it_is(store):
    house = House(store, ScriptedEngine(["Yes.", done()]))
    await house.events("Why is it so?", RAG)
    assert [query for _, query, _ in house.library.queries] == ["Why is it so?"]


async def test_a_follow_up_is_made_standalone_for_the_search(store):
    engine = ScriptedEngine(["At night.", done()], ["Where are backups written?", done()], ["There.", done()])
    house = House(store, engine)
    await house.events("When are backups written?", RAG)
    await house.events("And where?", RAG)
    assert [query for _, query, _ in house.library.queries] == [
        "When are backups written?",
        "Where are backups written?",
    ]
    first, condense, answer = engine.requests
    assert condense.max_tokens == 64
    assert first.num_ctx == condense.num_ctx == answer.num_ctx
    assert answer.messages[-1].content == "And where?"
    assert [message.content for message in answer.messages[1:3]] == ["When are backups written?", "At night."]


async def test_a_question_that_stands_by_itself_costs_no_extra_call(store):
    engine = ScriptedEngine(["At night.", done()], ["Yes.", done()])
    house = House(store, engine)
    await house.events("When are backups written?", RAG)
    await house.events("How do I add documents to the library?", RAG)
    assert len(engine.requests) == 2


async def test_a_rewriting_that_fails_does_not_cost_the_answer(store):
    engine = ScriptedEngine(["At night.", done()], [EngineSilent("Silent.")], ["There.", done()])
    house = House(store, engine)
    await house.events("When are backups written?", RAG)
    message = await house.answer("And where?", RAG)
    assert message.content == "There."
    assert house.library.queries[-1][1] == "And where? backups written"


async def test_the_built_in_model_is_never_asked_to_rewrite(store):
    engine = ScriptedEngine(["At night.", done()], ["There.", done()], models=[TINY], name="builtin")
    house = House(store, engine)
    await house.events("When are backups written?", RAG)
    await house.events("And where?", RAG)
    assert len(engine.requests) == 2
    assert house.library.queries[-1][1:] == ("And where? backups written", 2)
    assert "When are backups written? And where?" in engine.requests[-1].messages[-1].content


# --- stop and failure -------------------------------------------------------------------------


async def stopped_by_cancelling(house, gate, mode=RAG):
    house.session_id = (await house.sessions.create(LOCAL_OWNER)).session_id
    seen = []

    async def listen():
        async with aclosing(house.chat.reply(LOCAL_OWNER, house.session_id, "When?", mode)) as events:
            async for event in events:
                seen.append(event)

    task = asyncio.create_task(listen())
    await asyncio.to_thread(gate.reached.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 1)
    return seen, house.messages()[-1]


async def test_stopping_in_the_middle_keeps_what_was_said(store):
    gate = Gate()
    house = House(store, ScriptedEngine(["At three [1", gate, "] and more.", done()]))
    seen, message = await stopped_by_cancelling(house, gate)
    assert house.engine.cancelled.is_set()
    assert not any(isinstance(event, Finished) for event in seen)
    assert (message.role, message.state, message.content) == (
        Role.ASSISTANT,
        MessageState.STOPPED,
        "At three [1",
    )
    assert len(message.sources) == 2


async def test_stopping_while_the_model_is_silent_reaches_it(store):
    gate = Gate()
    house = House(store, ScriptedEngine([gate, "Never said.", done()]))
    _, message = await stopped_by_cancelling(house, gate)
    assert house.engine.cancelled.is_set()
    assert (message.state, message.content) == (MessageState.STOPPED, "")


async def test_stopping_while_it_thinks_keeps_the_thoughts(store):
    gate = Gate()
    house = House(store, ScriptedEngine(["Let me think", gate, done()]))
    _, message = await stopped_by_cancelling(house, gate, COT)
    assert (message.state, message.content, message.thinking) == (MessageState.STOPPED, "", "Let me think")
    assert message.usage.thinking_ms is not None


async def test_closing_the_events_stops_the_model_and_keeps_what_was_said(store):
    house = House(store, ScriptedEngine(["One. ", "Two. ", "Three.", done()]))
    house.session_id = (await house.sessions.create(LOCAL_OWNER)).session_id
    async with aclosing(house.chat.reply(LOCAL_OWNER, house.session_id, "Count.", RAG)) as events:
        async for event in events:
            if event == Token("One."):
                break
    assert house.engine.cancelled.is_set()
    assert house.messages()[-1].state is MessageState.STOPPED
    assert house.messages()[-1].content.startswith("One.")


async def test_a_failure_in_the_middle_keeps_what_was_said(store):
    house = House(store, ScriptedEngine(["At three.", StreamBroken("Ollama broke off: gone")]))
    events = await house.events(mode=RAG)
    assert kinds(events) == ["Retrieved", "Token", "Notice", "Finished"]
    message = events[-1].message
    assert (message.state, message.content) == (MessageState.FAILED, "At three.")
    assert message.notices == ("Ollama broke off: gone",)
    assert events[-2] == Notice("Ollama broke off: gone")


async def test_a_stream_that_merely_ends_is_a_failure(store):
    message = await House(store, ScriptedEngine(["At three, and"])).answer(mode=RAG)
    assert (message.state, message.content) == (MessageState.FAILED, "At three, and")
    assert "broke off" in message.notices[0]


async def test_a_failure_before_the_first_word_is_stored_with_its_reason(store):
    house = House(store, ScriptedEngine([EngineUnavailable("Ollama is not running.")]))
    message = await house.answer(mode=RAG)
    assert (message.state, message.content) == (MessageState.FAILED, "")
    assert message.notices == ("Ollama is not running.",)
    assert [each.role for each in house.messages()] == [Role.USER, Role.ASSISTANT]


async def test_an_unforeseen_failure_tells_no_internals(store, caplog):
    message = await House(store, ScriptedEngine([RuntimeError("/secret/path")])).answer(mode=RAG)
    assert message.state is MessageState.FAILED
    assert "secret" not in message.notices[0]
    assert "secret" in caplog.text


async def test_a_busy_engine_is_asked_again_twice(store):
    busy = EngineBusy("Ollama is busy.")
    engine = ScriptedEngine([busy], [busy], ["At last.", done()])
    assert (await House(store, engine).answer(mode=RAG)).content == "At last."
    engine = ScriptedEngine([busy], [busy], [busy], ["Too late.", done()])
    message = await House(store, engine).answer(mode=RAG)
    assert (message.state, message.notices) == (MessageState.FAILED, ("Ollama is busy.",))


async def test_nothing_is_asked_again_once_something_was_said(store):
    engine = ScriptedEngine(["Half", EngineBusy("Ollama is busy.")], ["Again.", done()])
    assert (await House(store, engine).answer(mode=RAG)).content == "Half"
    assert len(engine.requests) == 1


async def test_the_question_is_stored_before_anything_else(store):
    house = House(store, ScriptedEngine(["Yes.", done()]), FakeLibrary(*HITS))
    stored = []
    house.library.search = lambda *_, **__: stored.append(house.messages()[-1].content) or 1 / 0
    await house.events("Where?", RAG)
    assert stored == ["Where?"]


@pytest.mark.parametrize("text", ["", "  \n", "\0", "x" * 100_001])
async def test_a_question_that_cannot_be_answered_is_not_stored(store, text):
    house = House(store, ScriptedEngine())
    house.session_id = (await house.sessions.create(LOCAL_OWNER)).session_id
    with pytest.raises(InvalidInput):
        await house.events(text)
    assert house.messages() == []


async def test_a_conversation_of_somebody_else_does_not_exist(store):
    house = House(store, ScriptedEngine())
    session = await house.sessions.create("somebody")
    with pytest.raises(NotFound):
        [event async for event in house.chat.reply(LOCAL_OWNER, session.session_id, "Hello?")]


async def test_halves_of_characters_are_stored_and_answered(store):
    message = await House(store, ScriptedEngine(["Half \ud83d.", done()])).answer("Odd \ud83d text?", RAG)
    assert message.content == "Half ?."


# --- the window ---------------------------------------------------------------------------------


async def test_a_vanished_model_is_replaced_with_a_notice(store):
    house = House(store, ScriptedEngine(["Yes.", done()]))
    session = await house.sessions.create(LOCAL_OWNER)
    house.session_id = session.session_id
    gone = replace(store.sessions.config(LOCAL_OWNER, session.session_id), model_name="gone:7b")
    store.sessions.save_config(LOCAL_OWNER, gone)
    message = await house.answer(mode=RAG)
    assert message.model == MODEL.name
    assert "gone:7b" in message.notices[0]


class Vanishing(ScriptedEngine):
    """Goes with the first answer that is asked of it."""

    async def stream(self, request):
        self.offered = []
        raise EngineUnavailable("Ollama does not answer.")
        yield


async def test_an_answer_after_all_of_another_model_says_nothing_of_the_first_attempt(store):
    small = replace(MODEL, context_length=2048)
    large = replace(MODEL, name="large.gguf", engine="builtin")
    hits = [
        hit(2 * n, f"Backup {n} is written at three. " + "It goes to the archive. " * 60) for n in range(6)
    ]
    house = House(
        store,
        Vanishing(models=[small]),
        FakeLibrary(*hits),
        others=[ScriptedEngine(["At three [1].", done()], models=[large], name="builtin")],
    )
    message = await house.answer(mode=RAG)
    assert message.model == large.name
    assert message.usage.passages_left_out == 0
    assert not any("did not fit" in notice for notice in message.notices)


async def test_a_name_in_another_script_fails_no_question(store):
    """The passage was cut by one measure, and found too long by another."""
    name = "Курсовая работа о маяках северного моря, часть первая.txt"  # noqa: RUF001
    text = "The lighthouse is green. " + "Its lamp is lit by the keeper before the ships come home. " * 20
    house = House(
        store,
        ScriptedEngine(*[["Green [1].", done()]] * 3, models=[TINY], name="builtin"),
        FakeLibrary(hit(1, text, name=name)),
    )
    for mode in (RAG, HYBRID):
        message = await house.answer("What colour is the lighthouse?", mode)
        assert message.state is MessageState.COMPLETE
        assert message.sources


async def test_the_window_grows_and_does_not_shrink(store):
    house = House(store, ScriptedEngine(*[["Yes.", done()] for _ in range(3)]))
    await house.events("Short question about the backups?", COT)
    await house.events("Long question about the backups? " + "word " * 6000, COT)
    await house.events("Short question about the backups?", COT)
    sizes = [request.num_ctx for request in house.engine.requests]
    assert sizes == sorted(sizes)
    assert sizes[0] == 8192
    assert sizes[-1] == 16384


async def test_preloading_uses_the_window_of_the_next_turn(store):
    house = House(store, ScriptedEngine(["Yes.", done()]))
    await house.chat.preload(MODEL.name)
    await house.events(mode=RAG)
    assert house.engine.loads == [(MODEL.name, house.engine.requests[0].num_ctx)]


@pytest.mark.parametrize(
    ("counted", "words"), [(8190, "window was full"), (20, "read less than it was told"), (250, "")]
)
async def test_a_prompt_that_was_cut_off_is_said(store, counted, words):
    engine = ScriptedEngine(["Yes.", done(prompt_tokens=counted)])
    message = await House(store, engine).answer(mode=RAG)
    assert any(words in notice for notice in message.notices) is bool(words)


async def test_an_answer_at_its_longest_is_said_to_be_cut(store):
    message = await House(store, ScriptedEngine(["Endless", done("length")])).answer(mode=RAG)
    assert message.notices == ("The answer was cut at its longest length, 1024 tokens.",)


async def test_a_model_that_only_thought_is_not_silent_about_it(store):
    engine = ScriptedEngine([Thought("Hm " * 50), done("length")], models=[THINKER])
    message = await House(store, engine).answer(mode=COT)
    assert message.content == ""
    assert "gave no answer" in message.notices[0]


async def test_the_built_in_model_gets_its_small_prompt(store):
    engine = ScriptedEngine(["Notes.", done()], ["At three.", done()], models=[TINY], name="builtin")
    await House(store, engine).events(mode=HYBRID)
    assert [request.max_tokens <= 256 for request in engine.requests] == [True, True]
    assert {request.num_ctx for request in engine.requests} == {4096}


async def test_a_small_model_that_goes_in_circles_is_stopped(store):
    said = ["You add them. ", *["Press the button to add. "] * 50, done()]
    engine = ScriptedEngine(said, models=[TINY], name="builtin")
    message = await House(store, engine).answer(mode=RAG)
    assert message.content == "You add them. Press the button to add."
    assert "repeat itself" in message.notices[0]
    assert engine.cancelled.is_set()
