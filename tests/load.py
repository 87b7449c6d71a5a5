"""`python -m tests.load`: many people at once on one running program with a scripted Ollama.

Knows what a person does over the HTTP interface and what must not happen to them. It does not
judge how fast an answer is: it says how much later the first word comes than alone.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.bench.measures import percentile
from tests.crash.programs import Program
from tests.ollama_server import OllamaServer

WORDS = [f"word{number} " for number in range(60)]
FIRST_S, NEXT_S = 0.3, 0.02
"""A model of middling size on a card: the time to its first word, and from word to word."""
WARM_S = 10
"""Before anything is counted: the very first answer also pays for what is loaded late."""
PAUSE_S = (1.0, 4.0)
"""Between an answer and the next question of the same person."""
QUESTIONS = ("How are documents added?", "Which thinking modes are there?", "Where is my data kept?")
NOTE = "Documents are added by hand. There are three thinking modes. The data is kept here. " * 5
BAR = 1.5


@dataclass
class Done:
    """What people did, and what went wrong for them."""

    answers: int = 0
    first_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Visitor:
    """Somebody who asks, reads the answer to its end, looks around, and asks again."""

    def __init__(self, url: str, seed: int) -> None:
        self.client = httpx.Client(base_url=f"{url}/api", timeout=60, trust_env=False)
        self.random = random.Random(seed)
        self.session = self.call("POST", "/sessions")["session_id"]

    def call(self, method: str, path: str, **more):
        answer = self.client.request(method, path, **more)
        assert answer.is_success, f"{method} {path} says {answer.status_code}: {answer.text[:200]}"
        return answer.json() if answer.content else None

    def ask(self, done: Done) -> None:
        begun, heard, words, last, said = time.perf_counter(), False, 0, 0, ""
        body = {
            "content": f"{self.random.choice(QUESTIONS)} ({self.random.getrandbits(30)})",
            "thinking_mode": self.random.choice(("rag", "hybrid")),
        }
        path, accept = f"/sessions/{self.session}/messages", {"Accept": "text/event-stream"}
        with self.client.stream("POST", path, json=body, headers=accept) as answer:
            assert answer.status_code == 200, f"a question is answered with {answer.status_code}"
            name = ""
            for line in answer.iter_lines():
                kind, _, value = line.partition(": ")
                if kind == "id":
                    assert int(value.rpartition("-")[2]) == last + 1, "an event is missing or comes twice"
                    last += 1
                elif kind == "event":
                    name = value
                elif kind == "data":
                    said = value
                    if name in ("thought", "token") and not heard:
                        # A thought is read, too: until the answer, the scripted wait hides all of ours.
                        heard = True
                        done.first_s.append(time.perf_counter() - begun)
                    if name == "token":
                        words += json.loads(said)["text"].count("word")
        assert name == "finished", f"the stream ended with {name}: {said}"
        assert words == len(WORDS), f"{words} of {len(WORDS)} words came: {said}"
        done.answers += 1

    def look_around(self) -> None:
        self.call("GET", "/sessions")
        self.call("GET", f"/sessions/{self.session}/messages")
        if self.random.random() < 0.1:
            text = f"# Note {self.random.getrandbits(40)}\n\n{NOTE}"
            self.call("POST", "/documents?wait=false", files={"files": (f"{self.session}.md", text.encode())})

    def stay(self, until: float, done: Done) -> None:
        try:
            while time.monotonic() < until:
                self.ask(done)
                self.look_around()
                time.sleep(min(self.random.uniform(*PAUSE_S), max(until - time.monotonic(), 0)))
        except (AssertionError, httpx.HTTPError) as fault:
            done.faults.append(f"{type(fault).__name__}: {fault}")
        finally:
            self.client.close()


def visit(url: str, users: int, seconds: float, seed: int = 0) -> Done:
    """So many people at once; each stays for so long and ends what was begun."""
    done = Done()
    until = time.monotonic() + seconds
    visitors = [Visitor(url, seed + number) for number in range(users)]
    threads = [threading.Thread(target=visitor.stay, args=(until, done)) for visitor in visitors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def run(users: int, alone_s: float, together_s: float) -> tuple[Done, Done]:
    """What one person met alone, and all of them together, on a program of its own."""
    with tempfile.TemporaryDirectory(prefix="load-") as folder, OllamaServer(reply=WORDS) as ollama:
        ollama.first_delay_s, ollama.delay_s = FIRST_S, NEXT_S
        program = Program(Path(folder), ollama.url.removeprefix("http://"))
        try:
            while program.get("/health")["state"] == "warming":
                time.sleep(0.2)
            # With a document of one's own the sample library is not searched any more.
            program.client.post("/api/documents", files={"files": ("note.md", NOTE.encode())})
            visit(program.url, 1, min(WARM_S, alone_s), seed=50)
            return visit(program.url, 1, alone_s), visit(program.url, users, together_s, seed=100)
        finally:
            program.end()
            program.kill()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10)
    chosen = parser.parse_args()
    alone, together = run(chosen.users, 120, chosen.minutes * 60)
    for name, done in (("alone", alone), (f"{chosen.users} at once", together)):
        p50, p95 = (percentile(done.first_s, share) * 1000 for share in (0.5, 0.95))
        print(f"{name}: {done.answers} answers, first word p50 {p50:.0f} ms, p95 {p95:.0f} ms")
    ratio = percentile(together.first_s, 0.95) / percentile(alone.first_s, 0.95)
    print(f"first word, p95 together / p95 alone: {ratio:.2f}; bar {BAR}")
    faults = alone.faults + together.faults
    print(f"errors: {len(faults)}", *faults, sep="\n  ")
    sys.exit(bool(faults) or ratio > BAR)


if __name__ == "__main__":
    main()
