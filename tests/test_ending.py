"""How the program ends while it works, and that the next start finishes what was begun."""

import signal
import sqlite3
from contextlib import closing
from functools import partial

import httpx
import pytest

from tests.browser import free_port
from tests.test_stranger import serve, wait_until_ready
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.weights

CHAPTERS = 200
UNTIL_S = 120


def book():
    """Long enough to be embedded for many seconds; every chapter is different."""
    return "\n\n".join(
        f"# Chapter {n}\n\n" + f"In chapter {n} the lamp{n} of harbour{n} is lit by keeper{n}. " * 20
        for n in range(CHAPTERS)
    ).encode()


class Program:
    """The program on one data folder, started and ended as a person would."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        port = free_port()
        self.process = serve(self.folder, port, ollama=f"127.0.0.1:{free_port()}")
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        wait_until_ready(str(self.client.base_url).rstrip("/"))
        return self

    def __exit__(self, *_):
        self.client.close()
        self.process.kill()
        self.process.wait()

    def document(self):
        return next(
            d for d in self.client.get("/api/documents").json()["documents"] if d["name"] == "book.md"
        )

    def embedded(self):
        return self.client.get("/api/embeddings/status").json()["layers"][0]["embedded"]


def state_of_the_book(folder):
    """As the ended program left it."""
    with closing(sqlite3.connect(folder / "companion.db")) as database:
        return database.execute("SELECT state FROM documents WHERE name = 'book.md'").fetchone()[0]


wait_for = partial(until, seconds=UNTIL_S, pause_s=0.2)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["asked to end", "killed"])
def test_a_document_half_embedded_at_the_end_is_finished_at_the_next_start(tmp_path, light_folder, end):
    with Program(tmp_path) as program:
        before = program.embedded()
        answer = program.client.post("/api/documents?wait=false", files={"files": ("book.md", book())})
        assert answer.status_code == 202
        kept = wait_for(lambda: (now := program.embedded()) > before + 32 and now)
        program.process.send_signal(end)
        assert program.process.wait(PATIENCE_S) == (0 if end is signal.SIGTERM else -signal.SIGKILL)
    assert state_of_the_book(tmp_path) == "reading", "the end did not wait until all was embedded"
    with Program(tmp_path) as program:
        assert program.embedded() >= kept, "what was stored is not embedded again"
        wait_for(lambda: program.document()["state"] == "searchable")
        hits = program.client.get("/api/search", params={"q": "keeper199 of harbour199"}).json()["hits"]
        assert "keeper199" in hits[0]["passage"]["text"]
        assert {"lexical", "light"} <= set(hits[0]["layers"])
