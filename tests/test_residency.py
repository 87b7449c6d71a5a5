"""Room is made for deepening only when nobody asks, and the chat model comes back as it was."""

import asyncio
import threading
import time
from dataclasses import replace

import pytest

from companion.background.residency import Residency
from companion.errors import ModelMissing
from companion.inference import ollama as ollama_module
from companion.inference.catalog import Catalog
from companion.inference.ollama import Ollama
from tests.fakes import TINY, ScriptedEngine
from tests.ollama_server import OllamaServer, ServedModel

LLAMA, QWEN, NOMIC = "llama3.2:latest", "qwen3:8b", "nomic-embed-text:latest"
GIGABYTE = 1_000_000_000
NEVER_S = 3600.0
"""Of what no test lives to see."""


class Card:
    """A graphics card whose free memory follows what Ollama has loaded, a moment later."""

    def __init__(self, server, total=24 * GIGABYTE, late_s=0.0):
        self.server = server
        self.total = total
        self.late_s = late_s
        self._seen = self._told = None

    def free_bytes(self):
        used = sum(model.vram for model in self.server.models if model.name in self.server.loaded)
        if used != self._seen:
            self._seen, self._changed = used, time.monotonic()
        if self._told is None or time.monotonic() - self._changed >= self.late_s:
            self._told = self.total - used
        return self._told


class Person:
    """What the app knows of the person."""

    def __init__(self):
        self.busy = False
        self.preloads = 0

    async def preload(self):
        self.preloads += 1


@pytest.fixture
def server():
    models = [
        ServedModel(LLAMA, vram=3 * GIGABYTE),
        ServedModel(QWEN, vram=6 * GIGABYTE),
        ServedModel(NOMIC, ("embedding",), vram=GIGABYTE, architecture="nomic-bert"),
    ]
    with OllamaServer(models=models) as running:
        yield running


@pytest.fixture
def person():
    return Person()


@pytest.fixture
def card(server):
    return Card(server)


@pytest.fixture
def residency(server, person, card):
    return made(server, person, card.free_bytes)


def made(server, person, free_bytes, *, engines=(), patience_s=60.0):
    return Residency(
        Catalog([Ollama(server.url), *engines]),
        busy=lambda: person.busy,
        window_for=lambda model: 4096,
        free_bytes=free_bytes,
        preload_chosen=person.preload,
        patience_s=patience_s,
    )


def unloads(server):
    return [body["model"] for body in server.asked("/api/generate") if body.get("keep_alive") == 0]


# --- making room ------------------------------------------------------------------------


async def test_what_is_loaded_is_unloaded_and_the_freed_memory_is_told(residency, server):
    server.loaded, server.unload_s = {LLAMA: 8192}, 0.3
    freed = await residency.free()
    assert (freed.models, freed.freed_bytes, freed.problem) == ((LLAMA,), 3 * GIGABYTE, None)
    assert server.loaded == {}


async def test_memory_that_comes_later_than_ollama_says_is_waited_for(server, person):
    server.loaded = {LLAMA: 8192}
    freed = await made(server, person, Card(server, late_s=0.5).free_bytes).free()
    assert (freed.freed_bytes, freed.problem) == (3 * GIGABYTE, None)


async def test_memory_that_never_comes_back_is_told(server, person):
    server.loaded = {LLAMA: 8192}
    freed = await made(server, person, lambda: 5 * GIGABYTE, patience_s=0.6).free()
    assert freed.freed_bytes == 0
    assert "memory did not become free" in freed.problem


async def test_a_model_that_never_goes_away_is_told(server, person, card):
    server.loaded, server.unload_s = {LLAMA: 8192}, NEVER_S
    freed = await made(server, person, card.free_bytes, patience_s=0.6).free()
    assert freed.problem == f"{LLAMA} was not unloaded in time."


async def test_a_model_at_work_for_somebody_else_is_told_as_ollama_tells_it(residency, server, monkeypatch):
    monkeypatch.setattr(ollama_module, "FREEING_TIMEOUT_S", 0.2)
    server.loaded, server.unload_s = {LLAMA: 8192, QWEN: 8192}, NEVER_S
    freed = await residency.free()
    assert "another program" in freed.problem
    assert len(unloads(server)) == 1, "what cannot succeed any more must not cost a second model"


async def test_without_a_card_the_word_of_ollama_is_enough(server, person):
    server.loaded, server.unload_s = {LLAMA: 8192}, 0.2
    freed = await made(server, person, lambda: None).free()
    assert (freed.models, freed.freed_bytes, freed.problem) == ((LLAMA,), None, None)
    assert server.loaded == {}


async def test_embedding_models_and_models_that_are_not_loaded_are_left_alone(residency, server):
    server.loaded = {NOMIC: 2048}
    freed = await residency.free()
    assert (freed.models, freed.problem) == ((), None)
    assert server.loaded == {NOMIC: 2048}
    assert server.asked("/api/generate") == []


async def test_the_built_in_model_goes_and_comes_back_too(server, person, card):
    builtin = ScriptedEngine(name="builtin", models=[replace(TINY, loaded=True)])
    residency = made(server, person, card.free_bytes, engines=[builtin])
    freed = await residency.free()
    assert freed.models == (TINY.name,)
    await residency.restore()
    assert builtin.loads == [(TINY.name, 0), (TINY.name, 4096)]


async def test_an_ollama_that_is_away_is_nothing_to_free(residency, server):
    server.stop()
    try:
        freed = await residency.free()
    finally:
        server.start()
    assert (freed.models, freed.problem) == ((), None)


# --- never against the person -----------------------------------------------------------


async def test_nothing_is_unloaded_while_a_turn_runs_or_waits(residency, server, person):
    server.loaded, person.busy = {LLAMA: 8192}, True
    freed = await residency.free()
    assert freed.models == ()
    assert "being answered" in freed.problem
    assert (unloads(server), residency.away) == ([], {})


async def test_a_turn_that_begins_meanwhile_keeps_the_models_that_are_still_there(residency, server, person):
    server.loaded = {LLAMA: 8192, QWEN: 4096}

    async def begin_a_turn():
        while not unloads(server):
            await asyncio.sleep(0.002)
        person.busy = True
        server.loaded.pop(unloads(server)[0])

    server.unload_s = NEVER_S
    freed, _ = await asyncio.gather(residency.free(), begin_a_turn())
    assert len(freed.models) == len(unloads(server)) == 1
    assert "being answered" in freed.problem


@pytest.mark.parametrize("moment", ["before", "while Ollama unloads", "while the memory comes back"])
def test_who_comes_back_does_not_wait_and_finds_the_model_loading(server, person, moment):
    """From another thread and loop, as the page does it."""
    server.loaded = {LLAMA: 16384}
    server.unload_s = NEVER_S if "unloads" in moment else 0
    card = Card(server, late_s=NEVER_S)
    residency = made(server, person, card.free_bytes, patience_s=NEVER_S)
    wanted, outcome = threading.Event(), []
    if moment != "before":
        wanted.set()
    freeing = threading.Thread(target=lambda: outcome.append(asyncio.run(residency.free(wanted.is_set))))
    freeing.start()
    if moment != "before":
        server.wait_for(lambda each: unloads(each) and (LLAMA in each.loaded) == ("unloads" in moment))
    wanted.clear()
    asyncio.run(residency.preload())
    freeing.join(60)
    assert "wanted again" in outcome[0].problem
    assert server.loaded == {LLAMA: 16384}
    assert unloads(server) == ([] if moment == "before" else [LLAMA])


# --- coming back ------------------------------------------------------------------------


async def test_exactly_what_was_loaded_comes_back_with_the_same_windows(residency, server):
    server.loaded = {LLAMA: 32768, QWEN: 8192, NOMIC: 2048}
    await residency.free()
    assert server.loaded == {NOMIC: 2048}
    assert residency.away == {LLAMA: 32768, QWEN: 8192}
    await residency.restore()
    assert server.loaded == {LLAMA: 32768, QWEN: 8192, NOMIC: 2048}
    assert residency.away == {}
    await residency.restore()
    assert sorted(server.loads) == [(LLAMA, 32768), (QWEN, 8192)]


async def test_a_row_of_keystrokes_loads_once(residency, server, person):
    server.loaded = {LLAMA: 8192}
    await residency.free()
    server.load_s = 0.3
    await asyncio.gather(*(residency.preload() for _ in range(5)))
    assert server.loads == [(LLAMA, 8192)]
    assert len(server.asked("/api/generate")) == 2
    assert person.preloads == 0


async def test_a_model_comes_back_after_it_went_and_not_in_between(residency, server):
    server.loaded, server.unload_s = {LLAMA: 8192}, 0.3
    freeing = asyncio.ensure_future(residency.free())
    while not unloads(server):
        await asyncio.sleep(0.002)
    await residency.preload()
    await freeing
    assert server.loaded == {LLAMA: 8192}


async def test_where_nothing_was_unloaded_the_model_of_the_conversation_is_loaded(residency, person):
    await residency.free()
    await residency.preload()
    assert person.preloads == 1


@pytest.mark.parametrize("failure", ["missing", "memory", "busy"])
async def test_a_model_that_does_not_come_back_is_left_to_the_next_question(residency, server, failure):
    server.loaded = {LLAMA: 8192, QWEN: 4096}
    await residency.free()
    server.failure, server.failing = failure, {"/api/generate"}
    await residency.restore()
    assert residency.away == {}


async def test_a_conversation_whose_model_is_gone_harms_no_preload(server, person, card):
    async def preload():
        raise ModelMissing("There is no model named x; choose one from the list.")

    person.preload = preload
    await made(server, person, card.free_bytes).preload()
