"""Writers and readers on one database at once, and how large its log became."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from companion.domain import Role
from companion.storage.store import Store


@dataclass
class Hammered:
    """What a run did."""

    seconds: float
    written: list[int]
    read: list[int]
    failures: list[Exception] = field(default_factory=list)
    largest_log: int = 0


def log_size(path: Path) -> int:
    log = path.with_name(path.name + "-wal")
    return log.stat().st_size if log.exists() else 0


def hammer(
    store: Store, path: Path, seconds: float, *, writers: int = 8, readers: int = 8, text: str = "alpha"
) -> Hammered:
    """Each writer adds messages to a conversation `s<n>` of Ann's, each reader reads and searches."""
    done = Hammered(seconds, [0] * writers, [0] * readers)
    end = time.monotonic() + seconds

    def write(n: int) -> None:
        store.sessions.add_message("ann", f"s{n}", Role.USER, text)
        done.written[n] += 1

    def read(n: int) -> None:
        store.sessions.messages("ann", f"s{n % writers}", limit=20)
        store.words.search(["ann"], ["alpha"], 20)
        done.read[n] += 1
        if n == 0:
            done.largest_log = max(done.largest_log, log_size(path))

    def run(work, n: int) -> None:
        try:
            work(n)
            while time.monotonic() < end:
                work(n)
        except Exception as error:
            done.failures.append(error)

    threads = [threading.Thread(target=run, args=(write, n)) for n in range(writers)]
    threads += [threading.Thread(target=run, args=(read, n)) for n in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done
