"""Kills the whole program while it is used through its HTTP interface, and checks it over the same door."""

import itertools
import math
import random
import shutil
import signal
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx

from companion.config import Settings
from companion.domain import LOCAL_OWNER
from companion.library.vectors import VectorIndex, collection_name, vector_id
from companion.storage.store import Store
from tests.crash import oracle
from tests.crash.kills import Outcome, check_start
from tests.ollama_server import OllamaServer
from tests.test_web import App

ACTING_S = 4.0
HEALED_S = 120.0


class Program(App):
    """The program with its real light embedder, if its weights are on this machine, and a scripted Ollama."""

    def __init__(self, folder, ollama):
        self.begun = time.monotonic()
        weights = str(Settings().weights_folder)
        super().__init__(
            folder / "data",
            more=[
                "--ollama-host",
                ollama,
                "--weights-dir",
                weights,
                "--min-free-mb",
                "1",
                "--least-similarity",
                "0",
                "--answers-at-once",
                "100",
            ],
        )
        self.started_s = time.monotonic() - self.begun

    def get(self, path, **more):
        answer = self.client.get(f"/api{path}", **more)
        assert answer.status_code == 200, f"{path} says {answer.status_code}: {answer.text[:200]}"
        return answer.json()


class Person:
    """Somebody who uploads, deletes and asks, and writes down what was acknowledged."""

    def __init__(self, folder, seed):
        self.random = random.Random(seed)
        self.oracle = oracle.Oracle(folder / "oracle")
        self.told = oracle.read(folder / "oracle")

    def act(self, program):
        """Until the program is gone."""
        try:
            while True:
                self.random.choice((self.upload, self.upload, self.ask, self.ask, self.delete))(
                    program.client
                )
        except httpx.HTTPError:
            return

    def note(self, kind, **fact):
        self.oracle.note(kind, **fact)
        oracle._add(self.told, {"kind": kind, **fact})

    def upload(self, client):
        word = f"canary{self.random.getrandbits(48):012x}"
        content = "\n\n".join(f"# Part {n}\n\n" + f"Of {word} is said {n}. " * 40 for n in range(4)).encode()
        answer = client.post("/api/documents?wait=false", files={"files": (f"{word}.md", content)})
        if answer.status_code == 202:
            self.note("uploaded", doc=answer.json()["results"][0]["document"]["doc_id"], text=word)

    def ask(self, client):
        known = client.get("/api/sessions").json().get("sessions")
        session = known[0] if known else client.post("/api/sessions").json()
        if "session_id" not in session:
            # Asked to end, the program refuses: nothing was promised.
            return
        text = f"What of number {self.random.getrandbits(40)}?"
        answer = client.post(f"/api/sessions/{session['session_id']}/messages", json={"content": text})
        if answer.status_code == 200:
            self.note("asked", session=session["session_id"], text=text)
            self.note("answered", session=session["session_id"], text=answer.json()["content"])

    def delete(self, client):
        standing = sorted(set(self.told.documents) - self.told.deleted - self.told.unsure)
        if len(standing) > 5:
            doc = self.random.choice(standing)
            self.note("deleting", doc=doc)
            if client.delete(f"/api/documents/{doc}").status_code in (200, 204):
                self.note("deleted", doc=doc)


def fault(program, told):
    """What was lost, in words."""
    listed = {each["doc_id"]: each for each in program.get("/documents")["documents"]}
    for doc, (word,) in told.documents.items():
        found = program.get("/search", params={"q": f"What of {word}?", "top_k": 20})["hits"]
        shown = any(word in hit["passage"]["text"] for hit in found)
        if doc in told.deleted and (doc in listed or shown):
            return f"{word} was deleted and is there"
        if doc not in told.deleted | told.unsure and (doc not in listed or not shown):
            return f"{word} is lost: {listed.get(doc)}"
    for session in {session for session, _text in told.questions}:
        said = {each["content"] for each in program.get(f"/sessions/{session}/messages")["messages"]}
        for each, text in told.questions + told.answers:
            if each == session and text not in said:
                return f"the words “{text}” are lost"
    return None


def disagreement(folder):
    """Index and database of a program that has ended, id by id."""
    store, index = Store.open(folder / "data" / "companion.db"), VectorIndex(folder / "data" / "index")
    try:
        index.connect()
        for embedder_id in store.embeddings.embedders():
            stored = {vector_id(*key) for key in store.embeddings.keys(embedder_id, LOCAL_OWNER)}
            if index.ids(collection_name(embedder_id, LOCAL_OWNER)) != stored:
                return "the ids of index and database differ"
    finally:
        index.close()
        store.close()
    return None


def kill_programs(kills, seed, folder=None, within_s=math.inf):
    """So many kills of the whole program on one data folder, a checked start after each."""
    outcome = Outcome()
    ends = time.monotonic() + within_s
    folder = Path(folder or tempfile.mkdtemp(prefix="crash-app-"))
    person = Person(folder, seed)
    rolls = random.Random(seed)
    with OllamaServer() as ollama, closing(person.oracle):
        program = None
        try:
            for _ in itertools.count():
                program = Program(folder, ollama.url.removeprefix("http://"))
                _check(program, person, outcome)
                if outcome.kills >= kills or time.monotonic() > ends:
                    break
                _kill(program, person, outcome, rolls)
            code = program.end(signal.SIGTERM)
            assert code == 0, f"it ended with {code}"
            assert not (found := disagreement(folder)), found
        except (AssertionError, httpx.HTTPError) as problem:
            outcome.faults.append(f"whole app, seed {seed}, kill {outcome.kills}: {problem}; see {folder}")
        finally:
            if program is not None:
                program.kill()
    if not outcome.faults:
        shutil.rmtree(folder)
    return outcome


def _check(program, person, outcome):
    program.get("/search", params={"q": "anything"})
    outcome.starts.append(time.monotonic() - program.begun)
    until = time.monotonic() + HEALED_S
    while program.get("/health")["state"] == "warming" or any(
        each["state"] == "reading" for each in program.get("/documents")["documents"]
    ):
        assert time.monotonic() < until, "it does not become ready"
        time.sleep(0.1)
    outcome.healed.append(time.monotonic() - program.begun)
    found = fault(program, person.told)
    assert not found, found
    check_start(outcome.starts[-1])
    outcome.facts = person.told.facts
    outcome.survived = outcome.kills


def _kill(program, person, outcome, rolls):
    acting = threading.Thread(target=person.act, args=(program,))
    acting.start()
    time.sleep(rolls.uniform(0.05, ACTING_S))
    number = rolls.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
    program.process.send_signal(number)
    program.process.wait(20)
    acting.join()
    program.kill()
    kind = f"{number.name} of the whole app"
    outcome.by[kind] = outcome.by.get(kind, 0) + 1
    outcome.kills += 1
