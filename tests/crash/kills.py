"""Kills lives at random moments, and has the next one check what the one before had acknowledged."""

import itertools
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from companion.config import REPOSITORY

PATIENCE_S = 120.0
LONGEST_START_S = 10.0
ACTING_S = 2.5
STARTING_S = 5.0


@dataclass
class Outcome:
    """What came of some kills."""

    kills: int = 0
    survived: int = 0
    by: dict[str, int] = field(default_factory=dict)
    """Kills by kind: the signal, and whether it came while starting or working."""
    starts: list[float] = field(default_factory=list)
    """Seconds from the start of the process to the first answer."""
    healed: list[float] = field(default_factory=list)
    """Seconds from the start of the process until all was whole."""
    facts: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self):
        kinds = ", ".join(f"{count} × {kind}" for kind, count in sorted(self.by.items()))
        return (
            f"{self.survived} of {self.kills} kills survived ({kinds}); {self.facts} facts checked; "
            f"answers after at most {max(self.starts, default=0):.1f} s, "
            f"whole after at most {max(self.healed, default=0):.1f} s"
        )


class Process:
    """One life, and what it says."""

    def __init__(self, folder, seed):
        self.log = (folder / "log").open("ab")
        self.life = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.life", str(folder), str(seed)],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=self.log, text=True,
        )  # fmt: skip

    def until(self, kind):
        """What it says of this kind; a fault or an end before that is an error."""
        for line in self.life.stdout:
            said, _, what = line.strip().partition(" ")
            if said == "fault":
                raise AssertionError(what)
            if said == kind:
                return what
        raise AssertionError(f"a life ended by itself with {self.life.wait()} before it said “{kind}”")

    def close(self):
        self.life.stdout.close()
        self.log.close()

    def end(self, number):
        """Raises what it said of a fault to the end."""
        self.life.send_signal(number)
        said = self.life.stdout.read()
        code = self.life.wait(PATIENCE_S)
        self.close()
        faults = [line for line in said.splitlines() if line.startswith("fault")]
        if faults or (number == signal.SIGTERM and code != 0):
            raise AssertionError(f"it ended with {code}: {' '.join(faults)}")


def kill_and_check(kills, seed, folder=None, within_s=math.inf):
    """So many kills on one data folder, a checked start after each; fewer if the time is over."""
    outcome = Outcome()
    ends = time.monotonic() + within_s
    folder = Path(folder or tempfile.mkdtemp(prefix="crash-"))
    rolls = random.Random(seed)
    life = None
    try:
        for number in itertools.count():
            life = Process(folder, seed * 1000 + number)
            _check(life, outcome)
            if outcome.kills >= kills or time.monotonic() > ends:
                life.end(signal.SIGTERM)
                break
            _kill(life, outcome, rolls, folder, seed)
    except AssertionError as fault:
        outcome.faults.append(f"seed {seed}, kill {outcome.kills}: {fault}; see {folder}")
        if life is not None:
            life.life.kill()
            life.life.wait()
            life.close()
    else:
        shutil.rmtree(folder)
    return outcome


def _check(life, outcome):
    outcome.starts.append(float(life.until("answers")))
    outcome.healed.append(float(life.until("whole")))
    outcome.facts = int(life.until("checked"))
    check_start(outcome.starts[-1])
    outcome.survived = outcome.kills


def check_start(seconds):
    """Ten seconds, on a machine that does nothing else."""
    others = os.getloadavg()[0] / (os.cpu_count() or 1)
    if seconds > LONGEST_START_S * max(1.0, others):
        raise AssertionError(f"it answered after {seconds:.1f} s at {others:.1f} times the load of the cores")


def _kill(life, outcome, rolls, folder, seed):
    """The life that works; now and then its successor as well, while it starts."""
    time.sleep(rolls.uniform(0.05, ACTING_S))
    _end(life, outcome, rolls, "working")
    if rolls.random() < 0.2:
        starting = Process(folder, seed * 1000 + 999)
        time.sleep(rolls.uniform(0.3, STARTING_S))
        _end(starting, outcome, rolls, "starting", (signal.SIGKILL,))


def _end(life, outcome, rolls, when, signals=(signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)):
    number = rolls.choice(signals)
    life.end(number)
    kind = f"{number.name} while {when}"
    outcome.by[kind] = outcome.by.get(kind, 0) + 1
    outcome.kills += 1
