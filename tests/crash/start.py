"""How soon a library of 10,000 passages answers after a kill, and how soon its index does.

`python -m tests.crash.start FOLDER` makes the library and is killed by itself; a second run measures.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from companion.app import build
from companion.config import REPOSITORY, Settings
from companion.domain import LOCAL_OWNER
from tests.crash.torn import add_passages
from tests.fakes import FakeEmbedder, FakeLoad, ScriptedEngine

DOCUMENTS, PASSAGES = 100, 100
DIMENSION = 384
UNTIL_S = 120.0


def companion_in(folder):
    settings = Settings(data_dir=folder, offline=True, min_free_mb=1)
    light = FakeEmbedder(dimension=DIMENSION)
    return light, build(settings, engines=[ScriptedEngine()], light=light, reader=FakeLoad())


def make(folder):
    light, companion = companion_in(folder)
    companion.library.open_index()
    for number in range(DOCUMENTS):
        found = add_passages(companion.store, f"d{number}", PASSAGES)
        companion.library.layers.light.fill(light, LOCAL_OWNER, found, lambda _done: True)
    # Nothing is said to anybody: so ends a process that is killed.
    os.kill(os.getpid(), signal.SIGKILL)


def measure(folder):
    """Prints the seconds from the start of the process to the first answer, and to the index."""
    begun = time.time() - float(Path("/proc/uptime").read_text().split()[0]) + _started()
    _light, companion = companion_in(folder)
    companion.start()
    hits = companion.library.search(LOCAL_OWNER, "d7 keeps the secret word42").hits
    assert "d7 keeps the secret word42" in {hit.passage.text for hit in hits}
    answered = time.time() - begun
    while companion.library.status(LOCAL_OWNER).index != "ready":
        assert time.time() - begun < UNTIL_S
        time.sleep(0.05)
    print(f"{answered:.1f} {time.time() - begun:.1f}", flush=True)
    companion.close()
    os._exit(0)


def _started():
    """Seconds after boot at which this process began."""
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def seconds(folder):
    """(to the first answer, to the index), after a kill and after a clean stop."""
    command = [sys.executable, "-m", "tests.crash.start", str(folder)]
    made = subprocess.run([*command, "make"], cwd=REPOSITORY, check=False)
    assert made.returncode == -signal.SIGKILL
    told = [
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.split()
        for _ in range(2)
    ]
    return [tuple(map(float, each)) for each in told]


if __name__ == "__main__":
    (make if sys.argv[2:] == ["make"] else measure)(Path(sys.argv[1]))
