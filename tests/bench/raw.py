"""`SentenceTransformer.encode` in a process of its own: what embedding is measured against.

Knows how to ask it over a pipe, where it times itself. It does not know what it is compared with.
"""

import json
import subprocess
import sys

PROGRAM = """
import json, sys, time
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
model.encode(["warm"])
for line in sys.stdin:
    texts = json.loads(line)
    started = time.perf_counter()
    model.encode(texts)
    print(time.perf_counter() - started, flush=True)
"""


class RawEncoder:
    """Loads the model of a folder at once; the first question waits for it."""

    def __init__(self, folder: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def seconds(self, texts: list[str]) -> float:
        """What encoding them took, without the way there and back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(texts) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
