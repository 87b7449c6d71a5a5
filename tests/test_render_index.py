"""The index is said in words and small pictures that are true, whole, and harmless."""

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from companion.background.deep_status import DeepStatus, Sample
from companion.background.residency import Freed
from companion.domain import (
    CardLoad,
    IndexRun,
    LayerInfo,
    MachineLoad,
    Reason,
    RunOutcome,
    SetAside,
    Why,
    WorkState,
)
from companion.library.library import LibraryStatus
from companion.ui.render.deepening import headline, indicator, next_step, work
from companion.ui.render.index import ending, history, index_layers
from companion.ui.render.machine import last_hour, machine
from companion.ui.render.plots import Axis, plot

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOSTILE = "<img src=http://evil.example/x onerror=alert(1)>"
LIGHT = LibraryStatus("all-MiniLM-L6-v2", True, "ready", 200, 200, None)
PERCENT = Axis(100, lambda value: f"{value:.0f} %")


def status(state=WorkState.WATCHING, why=Why.QUIET, **more):
    reason = {name: more.pop(name) for name in Reason.__slots__ if name in more}
    values = {
        "state": state, "reason": Reason(why, **reason), "embedder": "all-mpnet-base-v2", "embedder_id": "e",
        "done": 0, "total": 0, "rate": None, "load": None, "freed": None,
    }  # fmt: skip
    return DeepStatus(**{**values, **more})


def run(outcome=RunOutcome.STOPPED, reason="active", took_s=95, passages=1412):
    ended = NOW + timedelta(seconds=took_s) if outcome else None
    return IndexRun(1, "all-mpnet-base-v2", NOW, ended, outcome, passages, reason)


def layer(**more):
    values = {"kind": "deep", "embedder_id": "e", "embedder": "mpnet", "owner": "local", "passages": 200,
              "embedded": 80, "in_force": False}  # fmt: skip
    return LayerInfo(**{**values, **more})


def buttons(shown):
    return re.findall(r'data-key="(\w+)"', shown)


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (status(why=Why.ACTIVE, ago_s=180.0, left_s=420.0), "Waiting: you were active 3 min ago"),
        (status(why=Why.TURN), "Waiting: a question is being answered"),
        (status(why=Why.BUSY, percent=43, source="gpu"), "The graphics card is busy: 43 %"),
        (status(why=Why.BUSY, percent=43, source="cpu"), "The processor is busy: 43 %"),
        (status(WorkState.SETTLING, Why.QUIET, left_s=240.0), "All is quiet: deepening starts in 4 min"),
        (status(), "Looking whether the machine is idle"),
        (
            status(WorkState.DEEPENING, Why.IDLE, done=1240, total=5183, rate=16.4),
            "Deepening 1,240 of 5,183 passages, 4 min left",
        ),
        (
            status(WorkState.DEEPENING, Why.ASKED, done=0, total=5183),
            "Deepening 0 of 5,183 passages",
        ),
        (status(WorkState.OFF, Why.BATTERY), "Off: on battery"),
        (status(WorkState.PAUSED, Why.STOPPED), "Stopped by you"),
        (status(WorkState.RESTORING, Why.ACTIVE, ago_s=1.0), "The chat model comes back"),
        (status(why=Why.DONE), "There is nothing to deepen yet"),
        (status(why=Why.DONE, done=9, total=9), "The whole library is deep"),
        (status(why=Why.DONE, done=7, total=9), "7 of 9 passages are deep"),
    ],
)
def test_the_state_is_one_line_with_its_numbers(now, line):
    assert headline(now) == line
    assert line in work(now, 10)


def test_it_says_what_comes_next():
    waiting = status(why=Why.ACTIVE, ago_s=180.0, left_s=420.0)
    assert next_step(waiting, 10) == "It starts in about 7 min, if nobody needs the machine until then."
    assert "less than 25 %" in next_step(status(why=Why.BUSY, percent=43, source="gpu"), 25)
    short = status(why=Why.MEMORY, needed=1_600_000_000, free=900_000_000)
    assert next_step(short, 10) == "all-mpnet-base-v2 needs 1.6 GB, and 900 MB are free."
    failed = status(why=Why.FAILED, text="It broke.", left_s=600.0)
    assert next_step(failed, 10) == "It broke. It is tried again in about 10 min."


@pytest.mark.parametrize("state", WorkState)
@pytest.mark.parametrize("why", Why)
def test_each_state_and_reason_has_words(state, why):
    said = work(status(state, why, done=1, total=2, ago_s=1.0, left_s=2.0, percent=3), 10)
    assert not re.search(r"index\.|None|\{", said)


@pytest.mark.parametrize(
    ("now", "offered"),
    [
        (status(why=Why.ACTIVE, ago_s=1.0, left_s=9.0), ["start", "stop"]),
        (status(WorkState.DEEPENING, Why.IDLE, total=9), ["stop"]),
        (status(WorkState.PAUSED, Why.STOPPED, total=9), ["start"]),
        (status(WorkState.OFF, Why.BATTERY, total=9), ["stop"]),
        (status(why=Why.DONE, done=9, total=9), []),
    ],
)
def test_only_buttons_that_would_do_something_are_offered(now, offered):
    assert buttons(work(now, 10)) == offered


def test_a_start_by_hand_that_has_to_wait_is_said_and_can_be_taken_back():
    for now in (
        status(why=Why.TURN, total=9, asked=True),
        status(why=Why.ACTIVE, total=9, ago_s=1.0, left_s=29.0, asked=True),
        status(why=Why.MEMORY, total=9, needed=3, free=2, asked=True),
    ):
        assert "You have started it" in work(now, 10)
        assert buttons(work(now, 10)) == ["stop"]
    failed = status(why=Why.FAILED, total=9, left_s=9.0, asked=True)
    assert buttons(work(failed, 10)) == ["start", "stop"]
    for now in (status(why=Why.TURN, total=9), status(WorkState.DEEPENING, Why.ASKED, total=9, asked=True)):
        assert "You have started it" not in work(now, 10)


def test_a_model_that_made_room_is_named_while_it_is_away():
    freed = Freed(("llama3.2:3b",), 2_100_000_000, None)
    working = status(WorkState.DEEPENING, Why.IDLE, done=1, total=9, freed=freed)
    assert "llama3.2:3b made room (2.1 GB)" in work(working, 10)
    assert "llama3.2:3b" not in work(status(why=Why.DONE, freed=freed), 10)


def test_the_header_tells_of_it_only_while_it_works():
    working = indicator(status(WorkState.DEEPENING, Why.IDLE, done=1247, total=5183))
    assert "Indexing in progress… 24 %" in working
    assert "99 %" in indicator(status(WorkState.DEEPENING, Why.IDLE, done=5182, total=5183))
    assert indicator(status(WorkState.RESTORING, Why.ACTIVE)) == ""
    assert indicator(status(why=Why.DONE, done=9, total=9)) == ""


# --- pictures -----------------------------------------------------------------------------


def svg(shown):
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", shown, re.DOTALL)[0])


def curves(shown):
    """Of each line the points, in the order in which they are drawn."""
    found = (path.get("d") for path in svg(shown).iter("path") if path.get("class") == "lc-curve")
    return [[tuple(map(float, dot.split())) for dot in re.split("[ML]", line)[1:]] for line in found]


def test_a_picture_has_a_title_axes_and_the_same_in_words():
    points = [(600.0 - 10 * step, float(step)) for step in range(61)]
    shown = plot("Graphics card", points, PERCENT)
    words = svg(shown).get("aria-label")
    assert words == "Graphics card: now 60 %; 0 % to 60 % in the last 10 min"
    labels = [label.text for label in svg(shown).iter("text")]
    assert labels == ["100 %", "0 %", "1 h ago", "30 min", "now"]
    assert "<figcaption><b>Graphics card</b><span>60 %</span>" in shown


def test_a_line_goes_from_left_to_right_and_up_with_the_value():
    (line,) = curves(plot("t", [(3000.0 - 30 * step, step) for step in range(101)], PERCENT))
    assert [x for x, _y in line] == sorted({x for x, _y in line})
    assert [y for _x, y in line] == sorted((y for _x, y in line), reverse=True)


def test_an_hour_is_drawn_with_few_points():
    points = [(3600.0 - 10 * step, step % 100) for step in range(361)]
    assert sum(map(len, curves(plot("t", points, PERCENT)))) <= 122


def test_where_nothing_was_known_no_line_is_drawn():
    unknown = [(900.0 - 30 * step, None if 10 <= step < 15 else 50.0) for step in range(31)]
    asleep = [(ago, value) for ago, value in unknown if value is not None]
    for points in (unknown, asleep):
        before, after = curves(plot("t", points, PERCENT))
        assert before[-1][0] < after[0][0]


def test_what_is_now_is_drawn_as_it_is():
    (line,) = curves(plot("t", [(60.0, 0.0), (20.0, 0.0), (10.0, 0.0), (0.0, 100.0)], PERCENT))
    assert line[-1][1] < line[0][1]


@pytest.mark.parametrize("points", [[], [(20.0, None), (10.0, None)], [(9000.0, 3.0)]])
def test_a_picture_of_nothing_says_so(points):
    shown = plot("Graphics card", points, PERCENT)
    assert "Nothing was measured yet." in shown
    assert "<svg" not in shown


def test_the_last_hour_shows_load_memory_and_progress():
    samples = tuple(
        Sample(NOW + timedelta(seconds=10 * step), 3 + step, 2_000_000_000, 10 * step, 200)
        for step in range(7)
    )
    load = MachineLoad("gpu", percent=9, memory_free=6 * 10**9, memory_total=8 * 10**9)
    shown = last_hour(status(history=samples, load=load, done=60, total=200), 10)
    named = re.findall(r'aria-label="([^"]*)"', shown)
    assert named == [
        "Graphics card: now 9 %; 3 % to 9 % in the last 1 min",
        "Graphics memory: now 2.0 GB; 2.0 GB to 2.0 GB in the last 1 min",
        "Progress: now 30 %; 0 % to 30 % in the last 1 min",
    ]
    assert "idle below 10 %" in shown
    assert shown.count("Nothing was measured yet.") == 0
    assert last_hour(status(), 10).count("Nothing was measured yet.") == 3


# --- machine, layers, history ---------------------------------------------------------------


def test_each_card_is_named_with_its_memory_and_the_watched_one_is_marked():
    big = CardLoad("1", "RTX 4070", 43, 43, 3 * 10**9, 5 * 10**9, 8 * 10**9)
    mute = CardLoad("2", "T400", notice="T400 does not tell how busy it is.")
    shown = machine(MachineLoad("gpu", 43, 43, 5 * 10**9, 8 * 10**9, watched="1", cards=(big, mute)))
    assert "43 % busy · 3.0 GB of 8.0 GB of memory used" in shown
    assert "T400 does not tell how busy it is." in shown
    assert shown.count("watched") == 1


def test_a_machine_without_a_card_says_what_is_watched_instead():
    shown = machine(MachineLoad("cpu", 12, 10, 9 * 10**9, 16 * 10**9, on_battery=True))
    assert "No NVIDIA card: the processor is watched instead." in shown
    assert "12 % busy · 7.0 GB of 16 GB of memory used" in shown
    assert "It runs on its battery." in shown
    assert "not looked at yet" in machine(None)


def test_each_layer_says_how_full_it_is_and_whether_it_answers():
    replaced = NOW - timedelta(days=2)
    deep = [
        layer(in_force=True, embedded=200),
        layer(embedder="new"),
        layer(embedder="old", left_at=replaced),
    ]
    shown = index_layers(LIGHT, deep, now=NOW, zone=UTC)
    assert shown.count("in force") == 2
    assert "80 of 200 passages (40 %)" in shown
    assert "growing" in shown
    assert "kept until 20 Dec 12:00" in shown
    assert "There is no deep layer yet" in index_layers(LIGHT, now=NOW)
    assert "No passages yet." in index_layers(LibraryStatus("m", True, "ready", 0, 0, None), now=NOW)


def test_names_and_reasons_of_others_stay_text():
    deep, aside = [layer(embedder=HOSTILE)], [SetAside("d", HOSTILE, HOSTILE)]
    broken = status(why=Why.FAILED, text=HOSTILE, embedder=HOSTILE, left_s=9.0)
    card = MachineLoad("gpu", cards=(CardLoad("1", HOSTILE, notice=HOSTILE),))
    said = (
        index_layers(LibraryStatus(HOSTILE, False, "exact", 2, 1, HOSTILE), deep, aside, now=NOW),
        work(broken, 10),
        machine(card),
        history([run(RunOutcome.FAILED, HOSTILE)], NOW, UTC),
    )
    assert "<img" not in "".join(said)
    assert "".join(said).count("&lt;img") >= 8


def test_the_history_says_how_each_run_ended():
    shown = history([run()], NOW + timedelta(minutes=5), UTC)
    for part in ("12:00", "2 min", "1,412", "You came back"):
        assert part in shown
    assert "Each run will be listed here" in history([], NOW, UTC)
    assert ending(run(None)) == "Still running"
    assert ending(run(RunOutcome.COMPLETE, "done")) == "All was done"
    assert ending(run(RunOutcome.BROKEN, "")) == "The app ended in the middle of it"
    assert ending(run(reason="closing")) == "The app was closed"
    assert ending(run(RunOutcome.FAILED, "The card is gone.")) == "The card is gone."
    assert all(ending(run(reason=str(why))) != str(why) for why in Why)
