"""Thinking: passes that build on each other's prompt, their early end, and models that think by themselves.

What an engine had read before is told by the engine's own counters, never by time.
"""

import asyncio
import re
from dataclasses import replace

import pytest

from companion.chat.learned import Learned
from companion.chat.means import MeansByModel
from companion.chat.modes import Step
from companion.chat.notes import nothing_to_change
from companion.chat.packing import pack
from companion.chat.prompt import Exchange
from companion.config import Settings
from companion.domain import ChatRequest, DeepQuery, EngineDone, MessageState, Preferences, ThinkingMode
from companion.errors import EngineError
from companion.inference.builtin import Builtin
from companion.inference.ollama import Ollama
from tests.fakes import MODEL, TINY, ScriptedEngine, done, hit
from tests.ollama_server import OllamaServer, ServedModel
from tests.test_chat import COT, HYBRID, RAG, House, store  # noqa: F401 a fixture
from tests.test_prompt import packed_for

CHAT = "llama3.2:latest"
THINKS = "qwen3:8b"
LEVELS = "gpt-oss:20b"
NOTES = ["Notes: at three.", "Notes: at three, every night.", "Notes: in the archive.", "At three [1]."]


def as_bytes(messages):
    """As every chat template sets them: one after the other, none changed by a later one."""
    return "".join(f"<{each.role}>{each.content}</>" for each in messages).encode()


@pytest.fixture
def server():
    models = [
        ServedModel(CHAT, context_length=131_072),
        ServedModel(THINKS, ("completion", "thinking"), context_length=40_960),
        ServedModel(LEVELS, ("completion", "thinking"), context_length=40_960, architecture="gptoss"),
        ServedModel("new:1b", ("completion", "thinking"), template="{{ if .ThinkLevel }}…{{ end }}"),
    ]
    with OllamaServer(models) as running:
        yield running


# --- one prefix -----------------------------------------------------------------------------


@pytest.mark.parametrize("model", [MODEL, TINY], ids=lambda model: model.name)
@pytest.mark.parametrize("mode", [COT, HYBRID])
@pytest.mark.parametrize("passes", [1, 2, 3])
def test_each_pass_begins_byte_by_byte_with_the_whole_prompt_of_the_one_before(model, mode, passes):
    packed, plan, _ = packed_for(mode, model, passes=passes)
    done_so_far, before = [], b""
    for number, step in enumerate((*plan.passes, Step.ANSWER)):
        prompt = as_bytes(packed.messages(step, done_so_far))
        assert prompt.startswith(before)
        assert len(prompt) > len(before)
        done_so_far.append((step, f"Notes {number}."))
        before = prompt
    assert len(done_so_far) == (passes if model is MODEL else 1) + 1


@pytest.mark.parametrize("passes", [1, 2, 3])
async def test_ollama_reads_the_shared_part_of_the_passes_once(store, server, passes):  # noqa: F811
    said = iter(NOTES)
    server.reply = lambda _: [next(said)]
    house = House(store, Ollama(server.url), cot_iterations=passes)
    message = await house.answer(mode=HYBRID)
    assert message.state is MessageState.COMPLETE
    assert len(server.read) == passes + 1
    for (before, _), (prompt, cached) in zip(server.read, server.read[1:], strict=False):
        assert before - 1 <= cached < prompt
    assert len(server.loads) == 1, "one window for all passes"
    # What a pass costs anew is its instruction and the notes before it.
    assert all(prompt - cached < 100 for prompt, cached in server.read[1:])
    assert message.usage.cached_tokens == server.read[-1][1]


async def test_a_check_that_changed_nothing_leaves_the_prefix_as_it_was(store, server):  # noqa: F811
    said = iter(["Notes: at three.", "OK", "At three [1]."])
    server.reply = lambda _: [next(said)]
    await House(store, Ollama(server.url), cot_iterations=3).answer(mode=HYBRID)
    assert len(server.read) == 3
    draft, _check, answer = server.read
    assert answer[1] >= draft[0] - 1


class Listening:
    """The built-in engine, and what it told at the end of each call."""

    def __init__(self, engine):
        self._engine = engine
        self.costs = []

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def stream(self, request):
        async for piece in self._engine.stream(request):
            if isinstance(piece, EngineDone):
                self.costs.append(piece.usage)
            yield piece


@pytest.fixture(scope="module")
def real(builtin_gguf):
    engine = Builtin(lambda: builtin_gguf)
    yield engine
    asyncio.run(engine.close())


async def test_the_built_in_model_reads_the_shared_part_once_and_thinks_in_one_pass(store, real):  # noqa: F811
    listening = Listening(real)
    message = await House(store, listening, cot_iterations=3).answer(mode=HYBRID)
    assert message.state is MessageState.COMPLETE
    draft, answer = listening.costs
    # Up to the token at the border, which may be cut otherwise when more follows.
    assert answer.cached_tokens >= draft.prompt_tokens - 4
    assert answer.prompt_tokens <= 900
    assert message.usage.cached_tokens == answer.cached_tokens


TEXTS = {
    "English": "The harbour master keeps a ledger of every vessel that enters at night. ",
    "German": "Der Hafenmeister führt ein Verzeichnis über jedes Schiff, das nachts einläuft. ",
    "Chinese": "港务长记录每一艘夜间进港的船只以及潮汐的状况\u3002",
    "Arabic": "يحتفظ مدير الميناء بسجل لكل سفينة تدخل ليلا مع حالة المد والجزر. ",
    "a program": "def read(path: Path, *, limit: int = 10) -> list[str]:\n    return [x for x in path]\n",
    "numbers": "2026-11-23 00:43:17.883 0x7f3a 12,345.67 88.1% 192.168.1.254:8080\n",
}


@pytest.fixture(scope="module")
def counting(builtin_gguf):
    """The built-in engine with a window that no prompt fits into: it counts, and reads nothing."""
    engine = Builtin(lambda: builtin_gguf, n_ctx=64)
    yield engine
    asyncio.run(engine.close())


async def real_tokens(engine, messages):
    [model] = await engine.models()
    request = ChatRequest(model.name, messages, num_ctx=64, max_tokens=1)
    with pytest.raises(EngineError) as refused:
        async for _ in engine.stream(request):
            pass
    return int(re.search(r"was given (\d+)", refused.value.message)[1])


@pytest.mark.parametrize("mode", list(ThinkingMode))
@pytest.mark.parametrize("language", TEXTS)
async def test_no_prompt_of_the_built_in_model_has_more_than_900_of_its_own_tokens(
    counting,
    store,  # noqa: F811
    language,
    mode,
):
    text, preferences = (
        TEXTS[language],
        Preferences(None, mode, 5, "a", "b", 600, 10, 3, 35, DeepQuery.FEEDBACK),
    )
    model = replace((await counting.models())[0], context_length=4096)
    history = [Exchange(text, text)] * 30
    means = MeansByModel(Settings(), Learned(store.settings)).of(
        model, mode, preferences, preferences, text * 40, history
    )
    hits = [hit(n, text * 60) for n in range(2)] if means.plan.searches else []
    packed = pack(means, text * 40, hits, {}, history)
    assert means.plan.passes == (() if mode is RAG else (Step.DRAFT,))
    notes = [(Step.DRAFT, text)] if means.plan.passes else []
    assert 250 < await real_tokens(counting, packed.messages(Step.ANSWER, notes)) <= 900


# --- the early end --------------------------------------------------------------------------

DRAFT = "Let me think step by step.\n1. Backups run at three.\n2. They go to the archive."


@pytest.mark.parametrize(
    "checked",
    [
        "OK",
        "Okay.",
        "ok!\n",
        "**OK**",
        "Yes.",
        "No changes needed.",
        "Nothing needs to change.",
        "The notes are correct. No changes are needed.",
        DRAFT,
        "- Backups run at three\n- they go to the ARCHIVE",
        "The notes are right: Backups run at three. They go to the archive.",
        "They go to the archive. Backups run at three. OK",
    ],
)
def test_a_pass_that_approves_or_repeats_changes_nothing(checked):
    assert nothing_to_change(DRAFT, checked)


@pytest.mark.parametrize(
    "checked",
    [
        "Backups run at four. They go to the archive.",
        "Backups run at three.",
        "Backups run at three. They go to the archive. They are kept for ten days.",
        "Backups do not run at three. They go to the archive.",
        "OK, but they run at four.",
        "",
        "1",
    ],
)
def test_a_pass_that_corrects_adds_or_takes_away_changes_something(checked):
    assert not nothing_to_change(DRAFT, checked)


def test_another_number_is_another_statement():
    assert not nothing_to_change("It is 3.14.", "It is 3.15.")
    assert not nothing_to_change("The result: -4.", "The result: 4.")


async def test_a_third_pass_that_goes_back_to_the_first_ends_the_thinking(store):  # noqa: F811
    engine = ScriptedEngine(*[[said, done()] for said in ("It is A.", "It is B.", "It is A.", "A.")])
    await House(store, engine, cot_iterations=3).events(mode=COT)
    told = [message.content for message in engine.requests[-1].messages]
    assert told.count("It is A.") == 1
    assert "It is B." in told


# --- models that think by themselves ----------------------------------------------------------


async def asked(house, mode, model):
    house.session_id = (await house.sessions.create("local", model_name=model)).session_id
    await house.answer(mode=mode)
    return house


@pytest.mark.parametrize("model", [LEVELS, "new:1b"])
@pytest.mark.parametrize(
    ("mode", "passes", "level"),
    [(COT, 1, "low"), (HYBRID, 2, "medium"), (COT, 3, "high"), (RAG, 3, "low")],
)
async def test_a_model_that_takes_levels_is_told_one(store, server, model, mode, passes, level):  # noqa: F811
    await asked(House(store, Ollama(server.url), cot_iterations=passes), mode, model)
    assert [body["think"] for body in server.asked("/api/chat")] == [level]


@pytest.mark.parametrize(("mode", "think"), [(COT, True), (HYBRID, True), (RAG, False)])
async def test_a_model_that_can_think_is_told_yes_or_no(store, server, mode, think):  # noqa: F811
    await asked(House(store, Ollama(server.url)), mode, THINKS)
    assert [body["think"] for body in server.asked("/api/chat")] == [think]


async def test_a_model_that_cannot_think_is_never_told_the_word(store, server):  # noqa: F811
    await asked(House(store, Ollama(server.url)), HYBRID, CHAT)
    assert not any("think" in body for body in server.asked("/api/chat"))


async def test_a_model_in_levels_is_not_asked_to_rewrite_since_it_would_think_first(store, server):  # noqa: F811
    house = await asked(House(store, Ollama(server.url)), RAG, LEVELS)
    await house.answer("And where?", RAG)
    assert len(server.asked("/api/chat")) == 2
    assert house.library.queries[-1][1] == "And where? backups written"


def test_more_thinking_has_more_room():
    model = replace(MODEL, capabilities=("completion", "thinking"), thinks_in_levels=True)
    rooms = [packed_for(COT, model, num_ctx=32_768, passes=passes)[2].thoughts for passes in (1, 2, 3)]
    assert rooms == sorted(set(rooms))
