"""`python -m tests.bench [page] [stream] [search] … `: all without a name, but `large`."""

import importlib
import sys

NAMES = (
    "page",
    "stream",
    "search",
    "ingest",
    "answer",
    "deepen",
    "interrupt",
    "storage",
    "moments",
    "conversation",
    "coverage",
)

if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        for line in importlib.import_module(f"tests.bench.{name}").run():
            print(f"- {line}", flush=True)
