"""Torn index files: noticed before they are used, and replaced from what SQLite keeps.

A dozen of the states; `python -m tests.crash --only torn` goes through all of them.
"""

import subprocess
import sys

import pytest

from companion.config import REPOSITORY
from tests.crash.torn import SOME, prepare


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What came of each state, in words."""
    folder = tmp_path_factory.mktemp("torn")
    prepare(folder)
    command = [sys.executable, "-m", "tests.crash.torn", str(folder), *SOME]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200, check=False)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return {state: outcome for state, outcome, *_ in lines}, done.stderr[-2000:]


@pytest.mark.parametrize("state", SOME)
def test_a_torn_index_ends_healthy_and_complete(outcomes, state):
    came_of_it, log = outcomes
    assert came_of_it.get(state, "the process ended") == "ok", log
