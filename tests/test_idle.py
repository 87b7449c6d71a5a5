"""When deep work starts and stops, for every order of things that hypothesis makes up."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from companion.background import idle
from companion.background.idle import Command, Signs, Watch, step
from companion.domain import MachineLoad, Why, WorkState

QUIET = MachineLoad("gpu", 3, 3)
BUSY = MachineLoad("gpu", 43, 43)
UNKNOWN = MachineLoad("gpu", notice="RTX 4090 does not tell how busy it is.")
OURS = MachineLoad("gpu", 95, 2)
HIDDEN = MachineLoad("gpu", 95)
ON_BATTERY = replace(QUIET, on_battery=True)
THRESHOLD = 600.0
ROUNDING = 1e-6


class Worker:
    """Follows the steps as the real worker does, on a clock that the test moves."""

    def __init__(self, *, now=1000.0, **signs):
        self.now = now
        self.signs = {"load": QUIET, **signs}
        self.watch = Watch()
        self.taken = None
        self.commands = []

    def look(self, **once):
        self.taken = step(self.watch, Signs(self.now, **{**self.signs, **once}))
        self.watch = self.taken.watch
        if self.taken.command is not Command.NONE:
            self.commands.append(self.taken.command)
        return self.taken

    def after(self, seconds, **once):
        self.now += seconds
        return self.look(**once)

    def run(self, seconds, until=None):
        """Look as often as the steps want it; returns the seconds until a command, or None."""
        end, begin = self.now + seconds, self.now
        while self.now < end:
            self.now += self.taken.wait_s if self.taken else 0.0
            if self.look().command is until is not None:
                return self.now - begin
        return None

    def deepen(self):
        """Until it deepens."""
        assert self.run(2000, Command.START) is not None
        return self


def deepening(**signs):
    return Worker(**signs).deepen()


# --- starting ---------------------------------------------------------------------------


def test_work_starts_when_the_machine_was_quiet_for_the_whole_time():
    worker = Worker()
    worker.look()
    assert worker.run(2000, Command.START) == pytest.approx(THRESHOLD, abs=1)
    assert (worker.taken.state, worker.taken.reason.why) == (WorkState.DEEPENING, Why.IDLE)


def test_while_quiet_is_counted_it_says_how_long_still():
    worker = Worker()
    worker.look()
    taken = worker.after(10)
    assert (taken.state, taken.reason.why, taken.reason.left_s) == (WorkState.SETTLING, Why.QUIET, 590)


def test_a_person_who_was_active_is_waited_for_and_it_says_how_long_ago_that_was():
    worker = Worker(last_activity=1000.0)
    taken = worker.look()
    assert (taken.state, taken.reason.why) == (WorkState.WATCHING, Why.ACTIVE)
    for _ in range(18):
        taken = worker.after(10)
    assert (taken.state, taken.reason.ago_s, taken.reason.left_s) == (WorkState.SETTLING, 180, 420)
    assert worker.run(2000, Command.START) == pytest.approx(420, abs=1)


def test_a_turn_is_a_sign_of_the_person_until_its_end():
    worker = Worker(turns=1)
    worker.run(900)
    assert (worker.taken.state, worker.taken.reason.why) == (WorkState.WATCHING, Why.TURN)
    worker.signs["turns"] = 0
    assert worker.run(2000, Command.START) >= THRESHOLD


@pytest.mark.parametrize(
    ("load", "why", "percent", "text"),
    [
        (BUSY, Why.BUSY, 43, None),
        (MachineLoad("cpu", 60, 50), Why.BUSY, 50, None),
        (HIDDEN, Why.BUSY, 95, None),
        (MachineLoad("gpu", 10, 10), Why.BUSY, 10, None),
        (UNKNOWN, Why.UNKNOWN, None, UNKNOWN.notice),
        (None, Why.UNKNOWN, None, None),
    ],
)
def test_a_load_that_is_high_or_unknown_never_counts_as_quiet(load, why, percent, text):
    worker = Worker(load=load)
    worker.run(5000)
    reason = worker.taken.reason
    assert (worker.taken.state, reason.why, reason.percent) == (WorkState.WATCHING, why, percent)
    assert reason.text == text
    assert worker.commands == []


@pytest.mark.parametrize("load", [BUSY, UNKNOWN, HIDDEN, None])
def test_one_look_among_quiet_ones_that_finds_no_quiet_begins_the_count_anew(load):
    worker = Worker()
    worker.run(500)
    worker.after(10, load=load)
    assert worker.run(2000, Command.START) >= THRESHOLD


def test_a_sleep_of_the_machine_begins_the_count_anew():
    worker = Worker(last_activity=900.0)
    worker.run(500)
    worker.after(8 * 3600)
    assert worker.run(2000, Command.START) == pytest.approx(THRESHOLD, abs=1)


def test_a_clock_that_goes_back_begins_the_count_anew():
    worker = Worker()
    worker.run(500)
    worker.after(-5)
    assert worker.run(2000, Command.START) == pytest.approx(THRESHOLD, abs=1)


def test_a_sign_from_the_future_is_one_of_now():
    reason = Worker(last_activity=1500.0).look().reason
    assert (reason.why, reason.ago_s, reason.left_s) == (Why.ACTIVE, 0, THRESHOLD)


def test_without_work_nothing_starts_and_the_machine_is_still_found_idle():
    worker = Worker(work_left=False)
    worker.run(550)
    assert (worker.taken.reason.why, worker.taken.idle) == (Why.DONE, False)
    worker.run(100)
    assert (worker.taken.reason.why, worker.taken.idle) == (Why.DONE, True)
    assert worker.commands == []


def test_missing_memory_is_said_in_numbers_and_nothing_starts():
    worker = Worker(memory_needed=2_000, memory_free=1_000)
    worker.run(900)
    reason = worker.taken.reason
    assert (reason.why, reason.needed, reason.free, worker.commands) == (Why.MEMORY, 2_000, 1_000, [])
    worker.signs["memory_free"] = 2_000
    assert worker.run(20, Command.START) is not None


def test_a_shorter_threshold_of_the_settings_holds_from_the_next_step():
    worker = Worker()
    worker.run(100)
    worker.signs["idle_threshold_s"] = 60
    assert worker.run(20, Command.START) is not None


# --- stopping ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"last_activity": 1602.0}, Why.ACTIVE),
        ({"turns": 1}, Why.TURN),
        ({"load": BUSY}, Why.BUSY),
        ({"load": MachineLoad("gpu", 95, 43)}, Why.BUSY),
        ({"load": UNKNOWN}, Why.UNKNOWN),
        ({"load": None}, Why.UNKNOWN),
        ({"load": ON_BATTERY}, Why.BATTERY),
        ({"pressed": "stop"}, Why.STOPPED),
        ({"work_left": False}, Why.DONE),
        ({"failure": "The deep embedder ended."}, Why.FAILED),
    ],
)
def test_work_ends_in_the_step_that_sees_a_reason(change, why):
    worker = deepening(now=1000.0)
    worker.signs["load"] = OURS
    taken = worker.after(3, **change)
    assert (taken.command, taken.state, taken.reason.why) == (Command.KILL, WorkState.RESTORING, why)
    assert taken.wait_s == 0


def test_after_the_end_the_chat_model_comes_back_before_anything_else():
    worker = deepening()
    assert worker.after(1, turns=1).command is Command.KILL
    assert worker.after(0).command is Command.RESTORE
    taken = worker.after(200)
    assert (taken.command, taken.state, taken.reason.why) == (Command.NONE, WorkState.RESTORING, Why.TURN)
    taken = worker.after(1, restored=True)
    assert taken.state in (WorkState.WATCHING, WorkState.SETTLING)


def test_a_sign_that_was_seen_late_ends_the_work_all_the_same():
    worker = deepening(last_activity=100.0, idle_threshold_s=10)
    worker.signs["last_activity"] = worker.now + 1
    assert worker.after(15).command is Command.KILL


def test_a_sleep_while_deepening_ends_the_work():
    worker = deepening()
    worker.after(10)
    taken = worker.after(3600)
    assert (taken.command, taken.reason.why) == (Command.KILL, Why.SLEPT)


def test_a_slow_start_is_not_taken_for_a_sleep():
    worker = deepening()
    assert worker.after(90).command is Command.NONE
    assert worker.taken.state is WorkState.DEEPENING


def test_after_a_failure_it_is_tried_again_later_and_a_person_may_try_at_once():
    worker = deepening()
    worker.after(1, failure="The deep embedder ended.")
    worker.after(0)
    taken = worker.after(1, restored=True)
    assert (taken.reason.why, taken.reason.text) == (Why.FAILED, "The deep embedder ended.")
    again = worker.watch
    assert worker.run(2000, Command.START) >= idle.RETRY_S - 5
    worker.watch, worker.now = again, again.seen_at
    assert worker.after(1, pressed="start").command is Command.START


# --- a person's buttons -----------------------------------------------------------------


@pytest.mark.parametrize("load", [QUIET, BUSY, UNKNOWN, HIDDEN])
def test_a_persons_start_waits_neither_for_quiet_nor_for_the_load(load):
    worker = Worker(load=load, last_activity=999.0)
    worker.look()
    taken = worker.after(1, pressed="start")
    assert (taken.command, taken.reason.why) == (Command.START, Why.ASKED)
    assert worker.after(10).state is WorkState.DEEPENING


@pytest.mark.parametrize(
    ("signs", "why"),
    [
        ({"memory_needed": 2, "memory_free": 1}, Why.MEMORY),
        ({"load": ON_BATTERY}, Why.BATTERY),
        ({"load": None}, Why.UNKNOWN),
        ({"turns": 1}, Why.TURN),
        ({"work_left": False}, Why.DONE),
    ],
)
def test_a_persons_start_does_not_overrule_what_is_impossible(signs, why):
    worker = Worker(**signs)
    worker.look(pressed="start")
    assert (worker.commands, worker.taken.reason.why) == ([], why)


def test_a_persons_start_yields_to_the_person_and_goes_on_after_30_s_of_quiet():
    worker = Worker(load=BUSY)
    worker.look(pressed="start")
    worker.signs["last_activity"] = worker.now + 5
    assert worker.after(5).command is Command.KILL
    worker.after(0)
    taken = worker.after(2, restored=True)
    assert (taken.state, taken.reason.left_s) == (WorkState.WATCHING, 28)
    assert worker.run(100, Command.START) == pytest.approx(28, abs=1)


def test_a_sleep_does_not_shorten_those_30_s():
    worker = Worker(load=BUSY)
    worker.look(pressed="start")
    worker.after(5, turns=1)
    worker.after(0)
    worker.after(2, restored=True)
    worker.after(3600)
    assert worker.run(100, Command.START) == pytest.approx(30, abs=1)


def test_a_sign_is_no_older_than_a_start_after_a_clock_that_went_back():
    worker = Worker(load=BUSY)
    worker.look(pressed="start")
    worker.after(-500)
    worker.signs["last_activity"] = worker.now + 2
    assert worker.after(3).command is Command.KILL
    worker.after(0)
    worker.after(1, restored=True)
    assert worker.run(100, Command.START) == pytest.approx(28, abs=1)


def test_a_clock_that_goes_back_does_not_shorten_those_30_s():
    worker = Worker(load=BUSY)
    worker.look(pressed="start")
    worker.after(20, last_activity=worker.now + 20)
    worker.after(0)
    worker.after(-10, restored=True)
    assert worker.run(100, Command.START) == pytest.approx(30, abs=1)


def test_a_start_that_is_pressed_while_a_question_is_answered_waits_for_its_reader():
    worker = Worker(load=BUSY, turns=1)
    worker.look(pressed="start")
    worker.signs["turns"] = 0
    assert worker.run(100, Command.START) == pytest.approx(30, abs=1)


def test_a_persons_start_ends_with_the_work():
    worker = Worker(load=BUSY)
    worker.look(pressed="start")
    worker.after(5, work_left=False)
    worker.after(0)
    worker.after(1, restored=True)
    worker.run(2000)
    assert worker.commands == [Command.START, Command.KILL, Command.RESTORE]


def test_a_persons_stop_holds_until_a_person_starts_again():
    worker = deepening()
    worker.after(1, pressed="stop")
    worker.after(0)
    worker.after(1, restored=True)
    worker.run(100_000)
    assert (worker.taken.state, worker.taken.reason.why) == (WorkState.PAUSED, Why.STOPPED)
    assert not worker.taken.idle
    assert worker.after(1, pressed="start").command is Command.START


def test_on_battery_it_is_off_and_a_persons_start_is_kept_for_the_mains():
    worker = Worker(load=ON_BATTERY)
    worker.look(pressed="start")
    assert (worker.taken.state, worker.taken.reason.why) == (WorkState.OFF, Why.BATTERY)
    worker.signs["load"] = BUSY
    assert worker.after(10).command is Command.START


# --- where our own work hides that of others --------------------------------------------


def rested():
    worker = deepening()
    worker.signs["load"] = HIDDEN
    worker.signs["working"] = True
    return worker, worker.run(300, Command.REST)


def test_work_that_hides_others_rests_every_minute_to_look():
    worker, took = rested()
    assert took == pytest.approx(60, abs=1)
    assert worker.taken.reason.why is Why.LOOKING


def test_after_a_quiet_look_the_work_goes_on_for_another_minute():
    worker, _ = rested()
    worker.signs["working"] = False
    worker.after(0.5)
    worker.signs["load"] = QUIET
    assert worker.after(0.5).command is Command.RESUME
    worker.signs |= {"load": HIDDEN, "working": True}
    assert worker.run(300, Command.REST) == pytest.approx(60, abs=1)


def test_a_card_that_stays_busy_while_the_work_rests_is_others_work():
    worker, _ = rested()
    worker.after(1)
    worker.signs["working"] = False
    taken = worker.after(1)
    assert taken.command is Command.NONE, "the driver's number still holds work of ours"
    taken = worker.after(taken.wait_s)
    assert (taken.command, taken.reason.why, taken.reason.percent) == (Command.KILL, Why.BUSY, 95)


def test_a_card_that_does_not_answer_while_the_work_rests_means_stop():
    worker, _ = rested()
    assert worker.after(0.5, load=UNKNOWN).command is Command.KILL


def test_work_that_does_not_come_to_rest_is_ended():
    worker, _ = rested()
    took = worker.run(100, Command.KILL)
    assert took == pytest.approx(idle.LOOK_LIMIT_S, abs=1)


# --- whatever happens -------------------------------------------------------------------

LOADS = st.sampled_from([QUIET, QUIET, QUIET, OURS, BUSY, UNKNOWN, HIDDEN, None, ON_BATTERY])


class AnyLife(RuleBasedStateMachine):
    """A worker in a world that does as it likes, and a diary to hold its steps against."""

    threshold = 60.0

    @initialize(now=st.floats(0, 1e6))
    def begin(self, now):
        self.worker = Worker(now=now, idle_threshold_s=self.threshold)
        self.diary = []
        self.asked = False
        self.stopped = False
        self.returned = False
        self.owes = None
        self.deepening = False
        self.resting = False
        self.clear_at = now
        self.see(0.0)

    def see(self, seconds, **once):
        """One step, written down, and held against what may be."""
        before = self.worker.now
        late = bool(self.diary) and not 0 <= seconds <= (
            idle.GAP_S if self.diary[-1]["command"] is Command.NONE else idle.LATE_S
        )
        self.worker.now = before + seconds
        seen = {**self.worker.signs, **once}
        if seen.get("pressed"):
            self.asked, self.stopped = seen["pressed"] == "start", seen["pressed"] == "stop"
            self.returned = False
        if not seen.get("work_left", True):
            self.asked = False
        was_deepening = self.deepening
        taken = self.worker.look(**once)
        disturbed = seen.get("turns", 0) > 0 or "last_activity" in once
        if disturbed:
            self.returned = True
        self.diary.append(
            {
                "now": self.worker.now,
                "load": seen["load"],
                "disturbed": disturbed,
                "late": late,
                "deepening": was_deepening,
                "command": taken.command,
            }
        )
        self.follow(taken.command, seen)
        self.check(taken, seen, was_deepening, disturbed)

    def follow(self, command, seen):
        if self.owes == "restored" and seen.get("restored"):
            self.owes = None
        if command is Command.START:
            assert not self.deepening
            assert self.owes is None, "the chat model was not brought back in between"
            self.deepening, self.resting, self.clear_at = True, False, self.worker.now
        elif command is Command.KILL:
            assert self.deepening
            self.deepening, self.resting, self.owes = False, False, "restore"
        elif command is Command.RESTORE:
            assert self.owes == "restore"
            self.owes = "restored"
        elif command is Command.REST:
            assert self.deepening
            assert not self.resting
            self.resting = True
        elif command is Command.RESUME:
            assert self.resting
            self.resting = False

    def check(self, taken, seen, was_deepening, disturbed):
        load = seen["load"]
        assert (taken.state is WorkState.DEEPENING) == self.deepening
        assert (taken.state is WorkState.RESTORING) == (self.owes is not None)
        assert taken.wait_s <= idle.SAMPLE_S
        if was_deepening and disturbed:
            assert taken.command is Command.KILL
        if load is not None and self.quiet(load):
            self.clear_at = self.worker.now
        if not self.deepening:
            return
        assert not seen.get("turns")
        assert load is not None
        assert not load.on_battery
        assert not self.stopped
        assert seen.get("work_left", True)
        if not self.asked:
            assert load.others_percent is not None or load.percent is not None, "unknown is not idle"
            assert self.quiet(load) or load.others_percent is None, "others are at work"
            if not self.resting and not self.diary[-1]["late"]:
                assert self.worker.now - self.clear_at <= idle.LOOK_EVERY_S + ROUNDING
        if taken.command is Command.START:
            self.check_start()

    def check_start(self):
        now = self.worker.now
        if self.asked:
            if self.returned:
                assert self.quiet_for(now, with_load=False) >= idle.PRESENT_S - ROUNDING
        else:
            assert self.quiet_for(now, with_load=True) >= self.threshold - ROUNDING

    def quiet_for(self, now, *, with_load):
        """How long all looks up to now were free of a person and, if asked, of load."""
        since = now
        for page in reversed(self.diary):
            since = page["now"]
            busy = with_load and not (page["load"] is not None and self.quiet(page["load"]))
            hidden = page["load"] == HIDDEN and page["deepening"]
            if page["disturbed"] or page["late"] or (busy and not hidden):
                break
        return now - since

    @staticmethod
    def quiet(load):
        percent = load.percent if load.others_percent is None else load.others_percent
        return percent is not None and percent < 10

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds):
        self.see(seconds)

    @rule(looks=st.integers(1, 15))
    def it_looks_as_often_as_it_wants(self, looks):
        for _ in range(looks):
            self.see(self.worker.taken.wait_s)

    @rule(seconds=st.one_of(st.floats(25.01, 1e5), st.floats(-1e3, -0.01)))
    def the_machine_sleeps_or_its_clock_jumps(self, seconds):
        self.see(seconds)

    @rule(seconds=st.floats(0.01, 15))
    def the_person_gives_a_sign(self, seconds):
        at = self.worker.now + seconds
        self.see(seconds, last_activity=at)

    @rule(seconds=st.floats(0, 15), turns=st.integers(0, 2))
    def turns_begin_or_end(self, seconds, turns):
        self.worker.signs["turns"] = turns
        self.see(seconds)

    @rule(seconds=st.floats(0, 15), load=LOADS)
    def the_load_changes(self, seconds, load):
        self.worker.signs["load"] = load
        self.see(seconds)

    @rule(seconds=st.floats(0.01, 15), button=st.sampled_from(["start", "stop"]))
    def a_button_is_pressed(self, seconds, button):
        self.see(seconds, pressed=button)

    @rule(work=st.booleans())
    def work_comes_or_goes(self, work):
        self.worker.signs["work_left"] = work
        self.see(1.0)

    @rule(working=st.booleans())
    def a_batch_begins_or_ends(self, working):
        self.worker.signs["working"] = working
        self.see(1.0)

    @rule()
    def the_work_fails(self):
        self.see(1.0, failure="It ended.")

    @rule()
    def the_chat_model_is_back(self):
        self.see(1.0, restored=True)

    @precondition(lambda self: self.owes is None and not self.deepening)
    @rule()
    def with_nobody_there_it_starts_in_the_end(self):
        """Progress: whatever happened before, quiet of long enough leads to work."""
        self.worker.signs |= {"turns": 0, "load": QUIET, "work_left": True}
        if self.stopped:
            self.see(1.0, pressed="start")
        begin = self.worker.now
        while not self.deepening:
            self.see(max(self.worker.taken.wait_s, 0.01))
            assert self.worker.now - begin <= idle.RETRY_S + self.threshold + 1, self.worker.taken.reason

    @invariant()
    def the_same_memory_and_signs_give_the_same_step(self):
        if self.diary:
            signs = Signs(self.worker.now, **self.worker.signs)
            assert step(self.worker.watch, signs) == step(self.worker.watch, signs)


AnyLife.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestWhateverHappens = AnyLife.TestCase


@given(
    quiet=st.floats(0, 599),
    jump=st.one_of(st.floats(25.01, 1e6), st.floats(-900, -0.01)),
    ago=st.floats(0, 1e4),
)
@settings(max_examples=60, deadline=None)
def test_no_sleep_and_no_jump_of_the_clock_shortens_the_quiet_time(quiet, jump, ago):
    worker = Worker(now=1e4, last_activity=1e4 - ago)
    worker.look()
    worker.run(quiet, Command.START)
    if worker.commands:
        return
    worker.after(jump)
    assert worker.run(5000, Command.START) >= THRESHOLD - ROUNDING
