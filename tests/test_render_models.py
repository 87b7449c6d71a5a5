"""What the page says of models, downloads and settings, without a browser."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from companion.chat.setting_values import RANGES
from companion.costs import EmbedderCost
from companion.domain import ModelInfo
from companion.inference.catalog import RECOMMENDED, Situation
from companion.inference.embedder_facts import SUGGESTED
from companion.inference.pulls import PullState, PullStatus
from companion.ui.render.models import answered_by, model_list, offers
from companion.ui.render.settings import confirmation, field_foot
from companion.ui.render.words import duration

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
FINE = Situation("ok", "small")
LOADED = ModelInfo(
    "small", "ollama", 2_000_000_000, 8192, loaded=True, memory=3_000_000_000, vram=3_000_000_000
)
EVIL = "<img src=x onerror=alert(1)>"


def words_of(markup):
    return " ".join(re.sub(r"<[^>]*>", " ", markup).split())


def listed(model, **how):
    return model_list(
        [model], how.get("situation", FINE), how.get("cloud", False), how.get("busy", {}), NOW, UTC
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"expires_at": NOW + timedelta(minutes=5)},
            "3.0 GB of memory, all of it on the graphics card, until 12:05",
        ),
        ({"vram": 1_000_000_000}, "1.0 GB of it on the graphics card, until it is unloaded"),
        ({"vram": 0}, "none of it on a graphics card"),
        ({"expires_at": NOW + timedelta(days=99_999)}, "until it is unloaded"),
        ({"memory": None, "vram": None}, "Is in memory, until it is unloaded"),
    ],
)
def test_a_loaded_model_says_how_much_where_and_until_when(change, said):
    assert said in words_of(listed(replace(LOADED, **change)))


def test_a_model_that_is_being_loaded_cannot_be_loaded_again():
    shown = listed(replace(LOADED, loaded=False), busy={"small": "loading"})
    assert "Loading" in words_of(shown)
    assert " disabled>" in shown


def test_cloud_models_are_marked_and_take_no_memory_here():
    shown = listed(replace(LOADED, name="big:cloud", remote=True), cloud=True)
    assert "leaves this machine" in words_of(shown)
    assert "<button" not in shown
    assert "GB" not in words_of(shown)
    assert answered_by("big:cloud") == "big:cloud (cloud)"
    assert answered_by("small") == "small"


def test_without_ollama_the_address_is_written_out():
    shown = listed(LOADED, situation=Situation("no_ollama", None, "Ollama is away."))
    assert "Ollama is away." in words_of(shown)
    assert "https://ollama.com/download" in words_of(shown)


def test_nothing_can_be_downloaded_where_it_is_not_allowed():
    broken = PullStatus("x", PullState.FAILED, "It broke; start it again.")
    assert "<button" not in offers([broken], RECOMMENDED, set(), may=False)
    assert offers([broken], RECOMMENDED, set(), may=True).count("<button") == len(RECOMMENDED) + 1


def test_a_model_that_is_here_is_not_offered_again():
    shown = offers([], RECOMMENDED, {RECOMMENDED[0].name}, may=True)
    assert shown.count("<button") == len(RECOMMENDED) - 1


def test_a_download_without_a_size_shows_no_numbers():
    shown = offers([PullStatus("x", PullState.RUNNING, "Looking for the model")], (), set(), may=True)
    assert "%" not in words_of(shown)
    assert "value=" not in shown


def test_names_of_others_stay_text():
    shown = listed(replace(LOADED, name=EVIL))
    shown += offers([PullStatus(EVIL, PullState.FAILED, EVIL)], (), {EVIL}, may=True)
    shown += confirmation([EmbedderCost(EVIL, "light")], NOW)
    assert "<img" not in shown


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (EmbedderCost("e", "light", download=91_000_000), "Download 91 MB"),
        (EmbedderCost("e", "light", download=0), "none, it is here"),
        (EmbedderCost("e", "light"), "of unknown size"),
        (EmbedderCost("e", "light", memory=400_000_000), "about 400 MB while it works"),
        (EmbedderCost("e", "deep", passages=1240, seconds=240), "1,240 passages to embed, about 4 min"),
        (EmbedderCost("e", "deep", passages=1240), "unknown yet, because nothing was measured"),
        (EmbedderCost("e", "deep"), "all passages have its vectors already"),
    ],
)
def test_a_change_of_embedder_says_what_it_costs(cost, said):
    assert said in words_of(confirmation([cost], NOW))


def test_each_number_says_its_range_and_unit_and_each_suggestion_its_size():
    for name, allowed in RANGES.items():
        assert re.match(
            rf"{allowed.lowest} to [\d,]+ [\w ’]+ · default: 7", words_of(field_foot(name, allowed, "7", ()))
        )
    chips = field_foot("embed_deep", None, "x", SUGGESTED)
    assert chips.count('lc-chip"') == len(SUGGESTED)
    assert "4.7 GB" in chips


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (59, "59 s"), (95, "2 min"), (7800, "2 h 10 min"), (360_000, "100 h")]
)
def test_how_long_something_takes_is_said_roughly(seconds, said):
    assert duration(seconds) == said
