"""Quality in words and markup: each judgement has its sentence, and nothing that a model wrote is markup."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from companion.domain import Figures, KnownItem, Measurement, Place
from companion.quality.judgement import Judgement, Verdict
from companion.quality.overview import Miss, Overview
from companion.quality.study import StudyStatus
from companion.quality.words import sentence
from companion.ui.render.quality import board, figures, missed, past

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
HOSTILE = '<img src=x onerror="steal()">?'


def item(number=1, made_by=None, name="guide.md"):
    return KnownItem(number, HOSTILE, f"d:{number}", "d", name, Place(page=3), made_by)


def measurement(deep=True, ago=timedelta()):
    methods = ("lexical", "light", "hybrid", "feedback", *(["deep"] if deep else []))
    shown = {method: Figures(0.5 + place / 10, 0.4, 0.45) for place, method in enumerate(methods)}
    layers = ("mpnet", 40) if deep else (None, 0)
    return Measurement("local", NOW - ago, "s", 60, 0, 2, 40, "MiniLM", *layers, shown, {})


def seen(verdict=None, *, items=(), history=(), activity="idle", done=0, total=0, misses=(), **counts):
    judgement = Judgement(verdict, 60, **counts) if verdict else None
    status = StudyStatus(activity, done, total)
    return Overview(status, False, tuple(items), 2, tuple(history), judgement, {}, tuple(misses))


@pytest.mark.parametrize(
    ("verdict", "counts", "said"),
    [
        (Verdict.FINDS_MORE, {"gained": 9, "lost": 3}, "in 10 of 100 more questions"),
        (Verdict.FINDS_FEWER, {"gained": 0, "lost": 6}, "in 10 of 100 fewer questions"),
        (Verdict.RANKS_HIGHER, {"higher": 9}, "puts the right passage higher"),
        (Verdict.RANKS_LOWER, {"lower": 9}, "puts the right passage lower"),
        (Verdict.NO_ROOM, {}, "all is found without the deep layer"),
        (Verdict.NOTHING, {}, "brings nothing on"),
        (Verdict.TOO_FEW, {}, "60 questions are too few to tell"),
        (Verdict.NO_DEEP, {}, "there is no deep layer yet"),
    ],
)
def test_each_judgement_is_one_sentence_on_the_page_and_over_rest(verdict, counts, said):
    now = seen(verdict, history=[measurement(deep=verdict is not Verdict.NO_DEEP)], **counts)
    title = re.search(r"<h2[^>]*>(.*?)</h2>", board(now, NOW, UTC))[1]
    assert said in title
    assert said.lower() in sentence(Judgement(verdict, 60, **counts)).lower()
    doubtful = verdict in (Verdict.NOTHING, Verdict.TOO_FEW)
    assert ("may be chance" in board(now, NOW, UTC)) == doubtful


def test_nothing_that_a_model_or_a_file_name_says_becomes_markup():
    bad = item(made_by=HOSTILE, name=HOSTILE)
    ranks = {"feedback": 9, "deep": None}
    now = seen(Verdict.NOTHING, items=[bad], history=[measurement()], misses=[Miss(bad, ranks)])
    drawn = board(now, NOW, UTC) + figures(now, NOW, UTC) + missed(now) + past(now, NOW, UTC)
    assert "<img" not in drawn
    assert drawn.count("&lt;img") == 4
    assert "not found at all" in drawn


def test_the_picture_says_in_words_what_it_shows():
    drawn = figures(seen(Verdict.NOTHING, history=[measurement()]), NOW, UTC)
    labels = re.findall(r'role="img" aria-label="([^"]+)"', drawn)
    assert labels[0] == "Found: Words 50 %; Meaning 60 %; Both 70 %; Without deep 80 %; With deep 90 %"
    assert len(labels) == 2
    assert drawn.count('<th scope="row">') == 5


def test_each_state_has_a_sentence_and_one_action():
    states = {
        "off": "Set how many", "idle": "Measure now", "waiting": "Measure now", "making": "Measure now",
    }  # fmt: skip
    for activity, action in states.items():
        drawn = board(seen(activity=activity, done=1, total=9), NOW, UTC)
        assert re.findall(r"<button[^>]*>([^<]+)</button>", drawn) == [action]
        assert ("disabled" in drawn) == (activity in ("waiting", "making"))
    assert figures(seen(), NOW, UTC) == missed(seen()) == past(seen(), NOW, UTC) == ""
