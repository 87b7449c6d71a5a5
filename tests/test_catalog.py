"""The catalog: one list over the engines, the default, and what happens when they come and go."""

import asyncio

import pytest

from companion.domain import ChatRequest, EngineDone, ModelInfo, PromptMessage, Token
from companion.errors import EngineError, EngineSilent, EngineUnavailable, ModelMissing
from companion.inference import catalog as catalog_module
from companion.inference.catalog import Catalog
from companion.inference.ollama import Ollama
from tests.ollama_server import OllamaServer, ServedModel

BUILTIN = ModelInfo("tiny", "builtin", 100, 4096)
NEVER_S = 3600.0
"""Of an answer that no test lives to see."""


class ScriptedEngine:
    """Offers the given models, or raises the given error."""

    def __init__(self, name="builtin", models=(BUILTIN,)):
        self.name, self.listed, self.error, self.delay_s = name, list(models), None, 0.0
        self.calls, self.asked, self.streams_closed = [], 0, 0

    async def models(self):
        self.asked += 1
        await asyncio.sleep(self.delay_s)
        if self.error:
            raise self.error
        return self.listed

    async def stream(self, request):
        try:
            yield Token(f"{self.name} says")
            yield EngineDone("stop")
        finally:
            self.streams_closed += 1

    async def load(self, model, num_ctx):
        self.calls.append(("load", model, num_ctx))

    async def unload(self, model):
        self.calls.append(("unload", model))

    async def close(self):
        self.calls.append(("close",))


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def local(name, **more):
    return ModelInfo(name, "ollama", 1, 8192, **more)


def names(models):
    return [model.name for model in models]


async def test_ollamas_models_come_first_and_the_first_is_the_default():
    ollama = ScriptedEngine("ollama", [local("b"), local("a")])
    catalog = Catalog([ScriptedEngine(), ollama])
    assert names(await catalog.models()) == ["b", "a", "tiny"]
    assert (await catalog.default()).name == "b"


async def test_embedding_models_are_listed_apart():
    ollama = ScriptedEngine("ollama", [local("nomic", capabilities=("embedding",)), local("a")])
    catalog = Catalog([ollama, ScriptedEngine()])
    assert names(await catalog.models()) == ["a", "tiny"]
    assert names(await catalog.embedding_models()) == ["nomic"]
    assert (await catalog.info("nomic")).name == "nomic"


async def test_cloud_models_are_hidden_unless_switched_on_and_never_the_default():
    engines = [ScriptedEngine("ollama", [local("big-cloud", remote=True)]), ScriptedEngine()]
    assert names(await Catalog(engines).models()) == ["tiny"]
    with pytest.raises(ModelMissing):
        await Catalog(engines).info("big-cloud")
    shown = Catalog(engines, show_cloud=True)
    assert names(await shown.models()) == ["big-cloud", "tiny"]
    assert (await shown.default()).name == "tiny"


async def test_cloud_models_are_switched_while_it_runs():
    catalog = Catalog(
        [ScriptedEngine("ollama", [local("big-cloud", remote=True), local("a")])], clock=Clock()
    )
    assert names(await catalog.models()) == ["a"]
    catalog.show_cloud = True
    assert names(await catalog.models()) == ["big-cloud", "a"]
    assert (await catalog.default()).name == "a"
    catalog.show_cloud = False
    assert names(await catalog.models()) == ["a"]


async def test_a_cloud_model_is_neither_loaded_nor_unloaded():
    ollama = ScriptedEngine("ollama", [local("big-cloud", remote=True)])
    catalog = Catalog([ollama], show_cloud=True)
    await catalog.load("big-cloud", 8192)
    await catalog.unload("big-cloud")
    assert ollama.calls == []


@pytest.mark.parametrize(
    ("listed", "state", "answers"),
    [
        ([local("a")], "ok", "a"),
        ([], "ollama_without_models", "tiny"),
        ([local("nomic", capabilities=("embedding",))], "ollama_without_models", "tiny"),
        ([local("big-cloud", remote=True)], "ollama_without_models", "tiny"),
    ],
)
async def test_the_situation_tells_whether_ollama_has_somebody_to_answer(listed, state, answers):
    situation = await Catalog([ScriptedEngine("ollama", listed), ScriptedEngine()]).situation()
    assert (situation.state, situation.answers) == (state, answers)
    assert bool(situation.sentence) == bool(situation.action) == (state != "ok")


async def test_the_situation_without_ollama_says_why_and_how_to_get_it():
    clock, ollama = Clock(), ScriptedEngine("ollama", [local("a")])
    catalog = Catalog([ollama, ScriptedEngine()], clock=clock)
    ollama.error = EngineUnavailable("Ollama does not answer; start it.")
    away = await catalog.situation()
    assert (away.state, away.answers, away.sentence) == ("no_ollama", "tiny", ollama.error.message)
    assert "ollama.com" in away.action
    ollama.error = None
    clock.now += 6
    assert (await catalog.situation()).state == "ok"
    ollama.error = EngineSilent("Ollama said nothing.")
    clock.now += 6
    assert (await catalog.situation()).state == "ok", "busy is not gone"
    assert (await Catalog([ScriptedEngine(models=[])]).situation()).answers is None


async def test_asking_for_the_situation_asks_no_engine_again():
    engine = ScriptedEngine("ollama", [local("a")])
    catalog = Catalog([engine], clock=Clock())
    for _ in range(5):
        await catalog.situation()
    assert engine.asked == 1


async def test_without_any_model_the_default_says_what_to_do():
    with pytest.raises(EngineUnavailable, match="ollama pull"):
        await Catalog([ScriptedEngine("ollama", [])]).default()
    away = ScriptedEngine("ollama")
    away.error = EngineUnavailable("Ollama does not answer; start it.")
    with pytest.raises(EngineUnavailable, match="start it"):
        await Catalog([away]).default()


@pytest.mark.parametrize("name", ["hf.co/bartowski/Llama-3.2-1B-GGUF:Q4_K_M", "me/model", "llama3.2:1b"])
async def test_names_with_colons_and_slashes_are_found(name):
    catalog = Catalog([ScriptedEngine("ollama", [local("x"), local(name)])])
    assert await catalog.resolve(name) == (local(name), None)
    assert (await catalog.info(name)).name == name


async def test_latest_may_be_left_out():
    catalog = Catalog([ScriptedEngine("ollama", [local("llama3.2:1b"), local("llama3.2:latest")])])
    assert (await catalog.info("llama3.2")).name == "llama3.2:latest"


async def test_a_model_that_vanished_is_replaced_with_a_notice():
    catalog = Catalog([ScriptedEngine("ollama", [local("a")]), ScriptedEngine()])
    assert await catalog.resolve("tiny") == (BUILTIN, None)
    assert await catalog.resolve(None) == (local("a"), None)
    assert await catalog.resolve("gone:7b") == (
        local("a"),
        "The model gone:7b is no longer there; a answers instead.",
    )


async def test_a_model_pulled_a_moment_ago_is_found():
    ollama = ScriptedEngine("ollama", [local("a")])
    catalog = Catalog([ollama], clock=Clock())
    await catalog.models()
    ollama.listed = [local("a"), local("new")]
    assert await catalog.resolve("new") == (local("new"), None)


# --- how fresh it is --------------------------------------------------------------------


async def test_the_list_is_asked_at_most_every_five_seconds():
    clock, engine = Clock(), ScriptedEngine()
    catalog = Catalog([engine], clock=clock)
    await catalog.models()
    clock.now += 4.9
    await catalog.models()
    assert engine.asked == 1
    clock.now += 0.2
    await catalog.models()
    assert engine.asked == 2
    await catalog.models(refresh=True)
    assert engine.asked == 3


async def test_callers_at_the_same_time_share_one_question():
    engine = ScriptedEngine()
    engine.delay_s = 0.1
    catalog = Catalog([engine])
    lists = await asyncio.gather(*(catalog.models() for _ in range(20)))
    assert engine.asked == 1
    assert all(names(models) == ["tiny"] for models in lists)


async def test_one_who_leaves_does_not_take_the_list_from_the_others():
    engine = ScriptedEngine()
    engine.delay_s = 0.1
    catalog = Catalog([engine])
    leaving, staying = asyncio.create_task(catalog.models()), asyncio.create_task(catalog.models())
    async with asyncio.timeout(60):
        # Both wait by then: the engine is asked only after their turn.
        while not engine.asked:
            await asyncio.sleep(0)
    leaving.cancel()
    assert names(await staying) == ["tiny"]


async def test_an_engine_that_is_away_contributes_nothing_and_says_why():
    clock, ollama = Clock(), ScriptedEngine("ollama", [local("a")])
    catalog = Catalog([ollama, ScriptedEngine()], clock=clock)
    assert names(await catalog.models()) == ["a", "tiny"]
    ollama.error = EngineUnavailable("Ollama does not answer; start it.")
    clock.now += 6
    assert names(await catalog.models()) == ["tiny"]
    assert catalog.away == {"ollama": "Ollama does not answer; start it."}
    ollama.error = None
    clock.now += 6
    assert names(await catalog.models()) == ["a", "tiny"]
    assert catalog.away == {}


async def test_a_busy_engine_keeps_its_last_list_for_a_while():
    clock, ollama = Clock(), ScriptedEngine("ollama", [local("a")])
    catalog = Catalog([ollama], clock=clock)
    await catalog.models()
    ollama.error = EngineSilent("Ollama said nothing.")
    clock.now += 20
    assert names(await catalog.models()) == ["a"]
    assert catalog.away == {"ollama": "Ollama said nothing."}
    clock.now += 20
    assert names(await catalog.models()) == []


async def test_a_silent_engine_does_not_hold_up_the_others(monkeypatch):
    monkeypatch.setattr(catalog_module, "PATIENCE_S", 0.2)
    ollama = ScriptedEngine("ollama", [local("a")])
    ollama.delay_s = NEVER_S
    catalog = Catalog([ollama, ScriptedEngine()])
    assert names(await catalog.models()) == ["tiny"]
    assert "Ollama" in catalog.away["ollama"]


def test_the_patience_with_a_silent_engine_is_three_seconds():
    assert catalog_module.PATIENCE_S + catalog_module.CACHE_S <= 10
    assert catalog_module.PATIENCE_S <= 3


def test_it_serves_several_event_loops():
    catalog = Catalog([ScriptedEngine()], clock=Clock())
    for _ in range(3):
        assert names(asyncio.run(catalog.models(refresh=True))) == ["tiny"]


# --- passing on -------------------------------------------------------------------------


def question(model):
    return ChatRequest(model, (PromptMessage("user", "Hi"),), 4096, 10)


async def test_a_question_goes_to_the_engine_that_has_the_model():
    catalog = Catalog([ScriptedEngine("ollama", [local("a")]), ScriptedEngine()])
    pieces = [piece async for piece in catalog.stream(question("a"))]
    assert pieces == [Token("ollama says"), EngineDone("stop")]
    pieces = [piece async for piece in catalog.stream(question("tiny"))]
    assert pieces == [Token("builtin says"), EngineDone("stop")]
    with pytest.raises(ModelMissing):
        await anext(catalog.stream(question("gone")))


async def test_closing_the_stream_closes_the_engines():
    engine = ScriptedEngine()
    stream = Catalog([engine]).stream(question("tiny"))
    await anext(stream)
    assert engine.streams_closed == 0
    await stream.aclose()
    assert engine.streams_closed == 1


async def test_loading_and_unloading_go_to_the_engine_under_the_full_name():
    ollama = ScriptedEngine("ollama", [local("a:latest")])
    catalog = Catalog([ollama, ScriptedEngine()], clock=Clock())
    await catalog.load("a", 8192)
    await catalog.unload("a:latest")
    assert ollama.calls == [("load", "a:latest", 8192), ("unload", "a:latest")]
    asked = ollama.asked
    await catalog.models()
    assert ollama.asked == asked + 1, "what is loaded has changed"
    await catalog.close()
    assert ollama.calls[-1] == ("close",)


async def test_nobody_to_download_with_is_told():
    with pytest.raises(EngineUnavailable, match="ollama serve"):
        await anext(Catalog([ScriptedEngine()]).pull("x"))


# --- with a server that comes and goes --------------------------------------------------


async def test_ollama_vanishing_and_coming_back_is_noticed():
    clock = Clock()
    with OllamaServer(models=["first:latest", ServedModel("gpt:120b-cloud")]) as server:
        catalog = Catalog([Ollama(server.url), ScriptedEngine()], clock=clock)
        assert names(await catalog.models()) == ["first:latest", "tiny"]
        server.stop()
        clock.now += 5.1
        model, notice = await catalog.resolve("first:latest")
        assert (model.name, notice) == (
            "tiny",
            "The model first:latest is no longer there; tiny answers instead.",
        )
        assert "ollama serve" in catalog.away["ollama"]
        server.start()
        clock.now += 5.1
        assert (await catalog.default()).name == "first:latest"
        assert catalog.away == {}


async def test_a_server_that_connects_and_says_nothing_is_not_waited_for():
    with OllamaServer(slow_s={"/api/tags": NEVER_S}) as server:
        catalog = Catalog([Ollama(server.url), ScriptedEngine()])
        assert names(await catalog.models()) == ["tiny"]
        await asyncio.to_thread(
            server.wait_for, lambda it: [gone.path for gone in it.disconnects] == ["/api/tags"]
        )


async def test_a_pulled_model_is_listed_at_once():
    with OllamaServer(models=["a"]) as server:
        catalog = Catalog([ScriptedEngine(), Ollama(server.url)], clock=Clock())
        await catalog.models()
        steps = [step async for step in catalog.pull("qwen3:4b")]
        assert steps[-1].status == "success"
        assert "qwen3:4b" in names(await catalog.models())
        with pytest.raises(EngineError):
            await anext(catalog.pull("unknown"))
