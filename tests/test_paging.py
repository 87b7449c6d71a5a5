"""Long lists come in parts that fit together, and what was made says where it is."""

import pytest

from tests.doors import opened
from tests.fakes import ScriptedEngine, done


@pytest.fixture
def engine():
    return ScriptedEngine()


@pytest.fixture
def client(tmp_path, engine):
    with opened(tmp_path, engine) as (_, client):
        yield client


def parts(client, path, name, cursor="offset", **query):
    """Every part of a list, as a client that follows `next` reads it."""
    found, place = [], {}
    while True:
        part = client.get(path, params={**query, **place}).json()
        found.append(part[name])
        if part["next"] is None:
            return found, part["total"]
        place = {cursor: part["next"]}


def add_note(client, number):
    text = f"Note {number} is about topic {number}."
    return client.post("/api/documents", files={"files": (f"{number}.md", text)})


def test_conversations_come_in_parts_without_a_gap_or_a_repetition(client):
    made = [client.post("/api/sessions", json={"title": f"Number {n}"}).json() for n in range(5)]
    found, total = parts(client, "/api/sessions", "sessions", limit=2)
    assert [len(part) for part in found] == [2, 2, 1]
    assert total == 5
    listed = [each["session_id"] for part in found for each in part]
    assert listed == [each["session_id"] for each in reversed(made)]


def test_documents_come_in_parts_and_totals_count_all(client):
    for number in range(3):
        add_note(client, number)
    found, total = parts(client, "/api/documents", "documents", limit=2)
    assert [len(part) for part in found] == [2, 1]
    assert total == 3
    assert len({each["doc_id"] for part in found for each in part}) == 3
    assert client.get("/api/documents", params={"limit": 1}).json()["totals"]["documents"] == 3


def test_passages_of_a_document_come_in_parts(client):
    text = "\n\n".join(f"# Part {n}\n\n" + f"Sentence {n} about topic {n}. " * 120 for n in range(4))
    answer = client.post("/api/documents", files={"files": ("long.md", text)})
    document = answer.json()["results"][0]["document"]
    found, total = parts(client, f"/api/documents/{document['doc_id']}", "passages", limit=2)
    assert total == document["passages"] == sum(map(len, found))
    assert [each["chunk_index"] for part in found for each in part] == list(range(total))


def test_messages_are_read_backwards_from_the_latest(client, engine):
    session_id = client.post("/api/sessions").json()["session_id"]
    url = f"/api/sessions/{session_id}/messages"
    for number in range(3):
        engine.scripts.append([f"Answer {number}.", done()])
        client.post(url, json={"content": f"Question {number}?", "thinking_mode": "rag"})
    whole = client.get(url).json()
    assert (whole["total"], whole["next"]) == (6, None)
    found, total = parts(client, url, "messages", "before", limit=4)
    assert [len(part) for part in found] == [4, 2]
    assert total == 6
    assert found[1] + found[0] == whole["messages"]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/sessions", {"offset": 2**63 - 1}),
        ("/api/documents", {"offset": 2**63 - 1}),
        ("/api/sessions", {"limit": 1, "offset": 7}),
    ],
)
def test_a_part_beyond_the_end_is_empty_and_the_last(client, path, query):
    client.post("/api/sessions")
    part = client.get(path, params=query).json()
    assert part[path.rpartition("/")[2]] == []
    assert part["next"] is None


@pytest.mark.parametrize("query", [{"offset": 2**63}, {"offset": -1}, {"limit": 0}, {"limit": 1001}])
def test_a_part_that_cannot_be_is_422(client, query):
    answer = client.get("/api/sessions", params=query)
    assert answer.status_code == 422
    assert next(iter(query)) in answer.json()["error"]["message"]


def test_what_was_made_says_where_it_is(client):
    made = client.post("/api/sessions")
    assert made.status_code == 201
    assert client.get(made.headers["Location"]).json() == made.json()
    added = add_note(client, 1)
    assert added.status_code == 201
    found = client.get(added.headers["Location"]).json()
    assert found["document"] == added.json()["results"][0]["document"]
    later = client.post(
        "/api/documents", params={"wait": "false"}, files={"files": ("later.md", "Some other text.")}
    )
    assert later.status_code == 202
    assert client.get(later.headers["Location"]).status_code == 200
    several = [("files", (f"{n}.md", f"Text number {n} of several.")) for n in range(2)]
    assert "Location" not in client.post("/api/documents", files=several).headers
