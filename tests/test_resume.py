"""A client that loses the connection in the middle of an answer goes on after its last event: real
sockets, cut in the middle of a line.
"""

import json
import socket
import struct

import httpx
import pytest

from companion.app import build
from companion.config import Settings
from tests.fakes import FakeEmbedder, Gate, ScriptedEngine, done
from tests.served import served
from tests.waiting import until

WORDS = [f" word{number}" for number in range(40)]
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def engine():
    return ScriptedEngine()


@pytest.fixture(scope="module")
def companion(tmp_path_factory, engine):
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), offline=True, max_upload_mb=1)
    companion = build(settings, engines=[engine], light=FakeEmbedder())
    yield companion
    companion.close()


@pytest.fixture(scope="module")
def url(companion):
    with served(companion) as url:
        yield url


@pytest.fixture
def client(url):
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def session_id(client):
    return client.post("/api/sessions", json={"thinking_mode": "rag"}).json()["session_id"]


@pytest.fixture
def gate(client, engine):
    """An answer that waits in its middle; there is a document, so that something is found."""
    client.post("/api/documents", files={"files": ("words.md", "# Words\n\nAll the words of the world.")})
    gate = Gate()
    engine.scripts = [[*WORDS[:20], gate, *WORDS[20:], done()]]
    yield gate
    gate.open.set()


class Line:
    """A connection that can be cut, and what came over it."""

    def __init__(self, url, method, path, headers=(), body=b""):
        host, port = url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        head = {"Host": f"{host}:{port}", "Content-Length": len(body), **dict(headers)}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
        self._socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.came = b""

    def send(self, data):
        self._socket.sendall(data)

    def read_until(self, words, more=0):
        """Until these words came, and some bytes of what follows if it is there."""
        while words not in self.came:
            piece = self._socket.recv(256)
            assert piece, self.came
            self.came += piece
        self.came = self.came[: self.came.index(words) + len(words) + more]

    def cut(self):
        """As a network does: without a goodbye."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def events(self):
        """(id, name, data) of the events that came whole."""
        # The chunks of HTTP stand between them; an event is sent as one.
        text = self.came.decode("utf-8", "ignore").partition("\r\n\r\n")[2]
        blocks = [block.strip() for block in text.split("\r\n") if block.endswith("\n\n")]
        return [parsed(block) for block in blocks]


def parsed(block):
    fields = dict(line.split(": ", 1) for line in block.splitlines())
    return fields["id"], fields["event"], json.loads(fields["data"])


def ask_over_a_line(url, session_id):
    body = json.dumps({"content": "Which words?"}).encode()
    headers = {**EVENTS, "Content-Type": "application/json"}
    return Line(url, "POST", f"/api/sessions/{session_id}/messages", headers, body)


def resume(client, session_id, last):
    """The events after `last`, as a client with a new connection gets them."""
    answer = client.get(f"/api/sessions/{session_id}/run", headers={**EVENTS, "Last-Event-ID": last})
    assert answer.status_code == 200, answer.text
    return [parsed(block) for block in answer.text.strip().split("\n\n") if block]


def said(events):
    return "".join(data["text"] for _, name, data in events if name == "token")


def follow_to(url, session_id, words, last=None):
    """Read the answer to some words over a connection of its own, and cut it in the next event."""
    headers = {**EVENTS, **({"Last-Event-ID": last} if last else {})}
    line = Line(url, "GET", f"/api/sessions/{session_id}/run", headers)
    line.read_until(f'{words}"'.encode(), more=30)
    line.cut()
    return line.events()


@pytest.mark.parametrize("ended", [False, True], ids=["while it is written", "after it has ended"])
def test_an_answer_goes_on_after_a_cut_without_a_lost_or_doubled_word(
    url, client, companion, gate, session_id, ended
):
    line = ask_over_a_line(url, session_id)
    assert gate.reached.wait(30)
    line.read_until(b' word11"', more=20)
    line.cut()
    events = line.events()
    assert said(events).endswith((" word10", " word11"))
    gate.open.set()
    if ended:
        assert companion.runs.get(session_id).wait(30)
    events += resume(client, session_id, events[-1][0])
    assert said(events).split() == "".join(WORDS).split()
    assert events[-1][1] == "finished"
    assert len({event_id for event_id, _, _ in events}) == len(events)
    whole = client.get(f"/api/sessions/{session_id}/messages").json()["messages"][-1]
    assert (whole["state"], whole["content"].strip()) == ("complete", "".join(WORDS).strip())
    assert events[-1][2]["message"] == whole


def test_an_answer_survives_being_cut_again_and_again(url, client, gate, session_id):
    line = ask_over_a_line(url, session_id)
    assert gate.reached.wait(30)
    line.read_until(b' word1"')
    line.cut()
    events = line.events()
    for word in (" word4", " word9", " word17"):
        events += follow_to(url, session_id, word, events[-1][0] if events else None)
    gate.open.set()
    for word in (" word23", " word31"):
        events += follow_to(url, session_id, word, events[-1][0])
    events += resume(client, session_id, events[-1][0])
    assert said(events).split() == "".join(WORDS).split()


def test_nothing_is_said_twice_when_all_of_it_came(client, companion, gate, session_id):
    gate.open.set()
    answer = client.post(f"/api/sessions/{session_id}/messages", json={"content": "Why?"}, headers=EVENTS)
    events = [parsed(block) for block in answer.text.strip().split("\n\n")]
    assert resume(client, session_id, events[-1][0]) == []


def test_the_events_of_an_earlier_answer_are_not_taken_for_those_of_the_next(
    client, engine, gate, session_id
):
    gate.open.set()
    question = {"content": "Which words?"}
    first = client.post(f"/api/sessions/{session_id}/messages", json=question, headers=EVENTS)
    engine.scripts = [["Something else entirely.", done()]]
    client.post(f"/api/sessions/{session_id}/messages", json=question)
    last = parsed(first.text.strip().split("\n\n")[3])[0]
    late = client.get(f"/api/sessions/{session_id}/run", headers={**EVENTS, "Last-Event-ID": last})
    assert (late.status_code, late.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("last", ["-1", "x", "1.5", "abc-1", "9" * 30, "'", ""])
def test_an_event_id_that_is_none_is_422(client, session_id, last):
    answer = client.get(f"/api/sessions/{session_id}/run", headers={**EVENTS, "Last-Event-ID": last})
    assert answer.status_code == 422
    assert "last-event-id" in answer.json()["error"]["message"]


# --- uploads ------------------------------------------------------------------------------


def incoming(companion):
    folder = companion.settings.data_dir / "incoming"
    return [path for path in folder.rglob("*") if path.is_file()]


def form_start(length):
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.md"\r\n\r\n'
    return {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": length}, part


def test_an_upload_is_on_the_disk_while_it_comes_and_gone_when_it_breaks_off(url, client, companion):
    headers, part = form_start(900_000)
    line = Line(url, "POST", "/api/documents", headers, part)
    line.send(b"x" * 400_000)
    until(lambda: sum(path.stat().st_size for path in incoming(companion)) > 300_000)
    line.cut()
    until(lambda: not incoming(companion))
    assert "a.md" not in client.get("/api/documents").text


def test_what_is_beyond_the_limit_is_dropped_while_it_comes(url, companion):
    headers, part = form_start(30_000_000)
    line = Line(url, "POST", "/api/documents", headers, part)
    for _ in range(50):
        line.send(b"x" * 100_000)
    until(lambda: incoming(companion))
    assert sum(path.stat().st_size for path in incoming(companion)) <= 1_000_000
    line.cut()
    until(lambda: not incoming(companion))
