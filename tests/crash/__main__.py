"""`python -m tests.crash`: 180 kills of the core, 20 of the whole program, all torn states of the index,
the start of a library of 10,000 passages, and a hundred lives of a library beside a dictionary."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from companion.config import REPOSITORY
from tests.crash import torn
from tests.crash.kills import LONGEST_START_S, kill_and_check
from tests.crash.programs import kill_programs
from tests.crash.start import seconds

KILLS_OF_A_FOLDER = 20


def core(kills, seed):
    outcomes = []
    for first in range(0, kills, KILLS_OF_A_FOLDER):
        outcomes.append(kill_and_check(min(KILLS_OF_A_FOLDER, kills - first), seed + first))
        print(f"core: {outcomes[-1]}", flush=True)
    return [fault for outcome in outcomes for fault in outcome.faults]


def whole_app(kills, seed):
    outcome = kill_programs(kills, seed)
    print(f"whole app: {outcome}", flush=True)
    return outcome.faults


def torn_files():
    with tempfile.TemporaryDirectory(prefix="torn-") as folder:
        torn.prepare(Path(folder))
        states = [f"{layer} {state}" for layer in torn.LAYERS for state in torn.STATES]
        command = [sys.executable, "-m", "tests.crash.torn", folder, *states]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    came = [line.split("\t") for line in done.stdout.splitlines()]
    well = [state for state, outcome, _took in came if outcome == "ok"]
    print(f"torn index: {len(well)} of {len(states)} states end healthy and complete", flush=True)
    return [f"{state}: {outcome}" for state, outcome, _took in came if outcome != "ok"] + (
        [done.stderr] if len(came) < len(states) else []
    )


def start():
    with tempfile.TemporaryDirectory(prefix="start-") as folder:
        killed, clean = seconds(Path(folder))
    print(f"start, 10,000 passages: answers after {killed[0]} s, index after {killed[1]} s (after a kill);")
    print(f"  {clean[0]} s and {clean[1]} s (after a clean stop)", flush=True)
    return [f"the start takes {killed[0]} s"] if killed[0] > LONGEST_START_S else []


def library(examples, steps):
    from hypothesis import HealthCheck, Verbosity, settings
    from hypothesis.stateful import run_state_machine_as_test

    from tests.crash.machine import LibraryMachine

    limits = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        verbosity=Verbosity.normal,
    )
    run_state_machine_as_test(LibraryMachine, settings=limits)
    print(
        f"library: {examples} lives of at most {steps} steps each hold what the dictionary holds", flush=True
    )
    return []


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=180, help="kills of the core")
    parser.add_argument("--apps", type=int, default=20, help="kills of the whole program")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lives", type=int, default=100, help="of a library beside a dictionary")
    parser.add_argument("--steps", type=int, default=50, help="at most, of each of these lives")
    parser.add_argument("--only", choices=("core", "app", "torn", "start", "library"))
    given = parser.parse_args()
    work = {
        "core": lambda: core(given.kills, given.seed),
        "app": lambda: whole_app(given.apps, given.seed),
        "torn": torn_files,
        "start": start,
        "library": lambda: library(given.lives, given.steps),
    }
    faults = [fault for name, do in work.items() if given.only in (None, name) for fault in do()]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
