"""What another embedder would cost is said before it is chosen: download, memory, time, or why not."""

import json
import shutil

import pytest
from fastapi.testclient import TestClient

from companion.api.app import create_api
from companion.app import build
from companion.costs import Machine, Measure, cost_of
from companion.inference.embedder_facts import SUGGESTED, EmbedderFacts, embedder_facts
from companion.library.pace import LEAST_TOKENS, Pace
from tests.fakes import FakeEmbedder, ScriptedEngine

MACHINE = Machine(memory=8_000_000_000, card=False)
SMALL = EmbedderFacts("small", 0, 10_000_000, 300_000_000, 1_300_000_000)
LARGE = EmbedderFacts("large", 438_000_000, 80_000_000, 700_000_000, 1_500_000_000)
HUGE = EmbedderFacts("huge", 14_000_000_000, 7_000_000_000, 28_000_000_000, 15_000_000_000)


@pytest.fixture
def companion(settings):
    settings = settings.model_copy(update={"offline": True, "weights_dir": settings.data_dir / "weights"})
    companion = build(settings, engines=[ScriptedEngine()], light=FakeEmbedder())
    yield companion
    companion.close()


def cost(facts, *, layer="light", machine=MACHINE, passages=10, tokens=5000, measures=()):
    return cost_of(facts, layer, machine, passages, tokens, measures)


def test_nothing_measured_means_that_the_time_is_unknown():
    assert cost(LARGE).seconds is None
    assert cost(LARGE, measures=[Measure("stranger", 1000.0, None)]).seconds is None


def test_nothing_to_embed_takes_no_time():
    assert cost(LARGE, passages=0, tokens=0).seconds == 0


def test_a_measured_speed_is_used_and_carries_over_in_proportion_to_the_work():
    measures = [Measure("small", 2000.0, 10_000_000)]
    assert cost(SMALL, measures=measures).seconds == pytest.approx(2.5)
    assert cost(LARGE, measures=measures).seconds == pytest.approx(20)
    measures.append(Measure("large", 1000.0, 80_000_000))
    assert cost(LARGE, measures=measures).seconds == pytest.approx(5)


def test_the_speed_of_a_processor_says_nothing_of_a_graphics_card():
    with_card = Machine(8_000_000_000, card=True)
    measures = [Measure("small", 2000.0, 10_000_000)]
    assert cost(LARGE, layer="deep", machine=with_card, measures=measures).seconds is None
    assert cost(LARGE, layer="light", machine=with_card, measures=measures).seconds is not None


def test_what_does_not_fit_into_memory_is_refused_with_both_sizes():
    refused = cost(HUGE)
    assert "28.0 GB" in refused.refusal
    assert "8.0 GB" in refused.refusal
    assert cost(HUGE, layer="deep", machine=Machine(8_000_000_000, card=True)).refusal is None


def test_speed_is_measured_by_the_work_and_outlives_a_start(companion, tmp_path):
    pace = Pace(companion.store.settings)
    pace.note("slow", LEAST_TOKENS // 2, 1.0)
    assert pace.measured().get("slow") is None
    pace.note("slow", LEAST_TOKENS // 2, 3.0)
    assert Pace(companion.store.settings).measured()["slow"] == LEAST_TOKENS / 4
    text = " ".join(f"word{number}" for number in range(12_000))
    companion.library.add("local", "long.txt", text.encode())
    assert Pace(companion.store.settings).measured()["bag-of-words"] > 0
    assert companion.sessions.preferences().top_k == 5


def test_a_folder_says_what_it_takes(settings, light_folder):
    facts = embedder_facts(str(light_folder), settings)
    assert facts.download == 0
    assert 4 * 22_700_000 < facts.memory < 500_000_000
    # Without its table of 30,522 words of 384 numbers.
    assert facts.working == pytest.approx(11_000_000, rel=0.01)


def test_the_suggestions_are_true(settings, light_folder):
    known = SUGGESTED[0]
    facts = embedder_facts(str(light_folder), settings)
    size = (light_folder / "model.safetensors").stat().st_size
    assert known.name == "all-MiniLM-L6-v2"
    assert size <= known.size < 1.05 * size
    assert facts.working == pytest.approx(known.working, rel=0.01)


@pytest.mark.parametrize(
    ("name", "layer", "reason"),
    [
        ("/nowhere/at/all", "light", "neither the name of a model nor"),
        ("all-mpnet-base-v2", "deep", "without the setting offline"),
        ("ollama:qwen3-embedding:8b", "deep", "Ollama does not have qwen3-embedding:8b; download it first"),
        ("ollama:llama3.2:3b", "deep", "makes no vectors"),
        ("ollama:llama3.2:3b", "light", "cannot run in Ollama"),
        ("", "light", "Name a light embedder"),
    ],
)
async def test_what_cannot_be_used_is_refused_with_a_sentence(companion, name, layer, reason):
    refused = await companion.embedder_cost(name, layer)
    assert reason in refused.refusal
    assert refused.seconds is None


async def test_a_folder_that_is_no_supported_embedder_is_refused(companion, tmp_path):
    (tmp_path / "1_Pooling").mkdir()
    modules = [{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "1_Pooling"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    pooling = {"word_embedding_dimension": 4, "pooling_mode_max_tokens": True}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (tmp_path / "config.json").write_text("{}")
    assert "pools by max" in (await companion.embedder_cost(str(tmp_path), "deep")).refusal


ODD_FILES = {
    "modules without a type": ("modules.json", [{"path": ""}]),
    "modules that are none": ("modules.json", {"type": "a.Transformer"}),
    "a list as pooling": ("1_Pooling/config.json", []),
    "no dimension": ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True}),
    "a dimension in words": (
        "1_Pooling/config.json",
        {"word_embedding_dimension": "many", "pooling_mode_mean_tokens": True},
    ),
    "an endless dimension": (
        "1_Pooling/config.json",
        {"word_embedding_dimension": float("inf"), "pooling_mode_mean_tokens": True},
    ),
    "a length in words": ("config.json", {"max_position_embeddings": "many"}),
    "prompts that are none": ("config_sentence_transformers.json", {"prompts": ["query: "]}),
    "a number as prompt": ("config_sentence_transformers.json", {"prompts": {"query": 5}}),
}


@pytest.mark.parametrize("what", ODD_FILES)
async def test_a_folder_with_odd_files_is_refused_with_a_sentence(companion, tmp_path, what):
    modules = [{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "1_Pooling"}]
    pooling = {"word_embedding_dimension": 4, "pooling_mode_mean_tokens": True}
    odd = tmp_path / "odd"
    (odd / "1_Pooling").mkdir(parents=True)
    files = {"modules.json": modules, "1_Pooling/config.json": pooling, "config.json": {}}
    name, content = ODD_FILES[what]
    for file, written in {**files, name: content}.items():
        (odd / file).write_text(json.dumps(written))
    refused = await companion.embedder_cost(str(odd), "deep")
    assert refused.refusal == "The files of the embedder odd do not fit together: choose another."


async def test_a_folder_with_odd_weights_is_refused_with_a_sentence(companion, tiny_folder, tmp_path):
    odd = tmp_path / "odd"
    shutil.copytree(tiny_folder, odd)
    head = json.dumps({"a": {"shape": None}}).encode()
    next(odd.rglob("*.safetensors")).write_bytes(len(head).to_bytes(8, "little") + head)
    assert "cannot be read" in (await companion.embedder_cost(str(odd), "deep")).refusal


def test_the_interface_tells_the_cost_too(companion, tiny_folder):
    companion.store.settings.save({"embedding_pace": {str(tiny_folder): 50.0}})
    companion.library.add("local", "note.txt", b"The lighthouse was painted green. " * 40)
    with TestClient(create_api(companion), base_url="http://127.0.0.1") as client:
        told = client.get("/embeddings/cost", params={"name": str(tiny_folder), "layer": "deep"}).json()
        assert told["refusal"] is None
        assert told["download"] == 0
        assert told["memory"] > 0
        assert told["passages"] >= 1
        assert told["seconds"] > 0
        assert client.get("/embeddings/cost", params={"name": "x", "layer": "no"}).status_code == 422
