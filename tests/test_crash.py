"""Killed at random moments, nothing acknowledged is lost: a dozen of the 200 kills of `make crash`."""

from tests.crash.kills import kill_and_check
from tests.crash.programs import kill_programs


def test_the_core_survives_kills_at_random_moments():
    outcome = kill_and_check(10, seed=4)
    assert outcome.faults == []
    assert outcome.survived == outcome.kills >= 10
    assert outcome.facts > 10


def test_the_whole_program_survives_kills_at_random_moments():
    outcome = kill_programs(2, seed=5)
    assert outcome.faults == []
    assert outcome.survived == outcome.kills == 2
