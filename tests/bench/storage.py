"""A minute of eight writers and eight readers on one database: locks met, rates, and the log."""

import tempfile
from pathlib import Path

from companion.domain import SessionConfig, ThinkingMode
from companion.storage.store import Store
from tests.stress import hammer

SECONDS = 60.0
WORDS = "a message of the usual length has some words " * 20


def run() -> list[str]:
    path = Path(tempfile.mkdtemp()) / "companion.db"
    store = Store.open(path)
    for n in range(8):
        store.sessions.create("ann", f"s{n}", SessionConfig(f"s{n}", "m", ThinkingMode.RAG, 5, "a", "b", 600))
    done = hammer(store, path, SECONDS, text=WORDS)
    store.close()
    return [
        f"storage, 8 writers and 8 readers for {SECONDS:.0f} s: {len(done.failures)} failures; bar 0",
        f"storage, writes {sum(done.written) / SECONDS:.0f}/s, each on the disk before it returns; "
        f"reads {sum(done.read) / SECONDS:.0f}/s",
        f"storage, largest write-ahead log {done.largest_log / 1e6:.1f} MB; bar 64",
    ]
