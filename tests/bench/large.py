"""Search time with 100,000 passages. Takes a quarter of an hour, so it is measured only by its name."""

import tempfile
from pathlib import Path

from tests.bench.search import LARGE, resident, searches


def run() -> list[str]:
    folder = Path(tempfile.mkdtemp())
    return [*searches(folder, LARGE, bar_ms=60), resident(folder, LARGE)]
