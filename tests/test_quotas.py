"""What one person may take from the others: answers at once, and room for files. Each limit says itself."""

import pytest

from tests.fakes import THINKER, Gate, done
from tests.house import house
from tests.waiting import until


@pytest.fixture(scope="module")
def lan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lan")
    with house(folder, host="0.0.0.0", user_mb=1, answers_at_once=2) as found:
        until(lambda: found.companion.health().state == "ready")
        yield found


def new_chat(client):
    """With a model that thinks by itself: one call for each answer."""
    body = {"thinking_mode": "cot", "model_name": THINKER.name}
    return client.post("/api/sessions", json=body).json()["session_id"]


def ask(client):
    return client.post(f"/api/sessions/{new_chat(client)}/messages", json={"content": "What do owls eat?"})


def test_only_so_many_answers_are_written_for_one_person_and_others_do_not_wait(lan):
    gate = Gate()
    lan.ollama.scripts = [[gate, "Voles.", done()], [gate, "Voles.", done()], ["Mice.", done()]]
    bob, ada = lan.browser_of("bob"), lan.browser_of("ada")
    owner = lan.owner("bob")
    for _ in range(2):
        lan.companion.runs.start(owner, new_chat(bob), "What do owls eat?")
    refused = ask(bob)
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "5"
    assert refused.json()["error"]["message"] == (
        "2 of your answers are being written; wait for one of them, or stop one."
    )
    until(lambda: not lan.ollama.scripts[1:])
    assert ask(ada).json()["content"] == "Mice."
    gate.open.set()
    until(lambda: lan.companion.runs.active() == 0)
    lan.ollama.scripts = [["Voles.", done()]]
    assert ask(bob).json()["content"] == "Voles."


def test_a_question_that_was_refused_is_not_stored(lan):
    gate = Gate()
    lan.ollama.scripts = [[gate, "Voles.", done()], [gate, "Voles.", done()]]
    bob, owner = lan.browser_of("bob"), lan.owner("bob")
    for _ in range(2):
        lan.companion.runs.start(owner, new_chat(bob), "What do owls eat?")
    third = new_chat(bob)
    answer = bob.post(f"/api/sessions/{third}/messages", json={"content": "And mice?"})
    assert answer.status_code == 429
    assert bob.get(f"/api/sessions/{third}/messages").json()["messages"] == []
    gate.open.set()
    until(lambda: lan.companion.runs.active() == 0)


def test_a_user_has_so_much_room_for_files_and_the_machines_owner_has_all_there_is(lan):
    large = ("large.txt", b"A line about owls and voles.\n" * 40_000)
    bob, ada = lan.browser_of("bob"), lan.browser_of("ada")
    refused = bob.post("/api/documents", files={"files": large})
    assert "Your files may take 1 MB; delete some, or add a smaller one." in refused.text
    assert bob.get("/api/documents").json()["total"] == len(lan.companion.library.documents("nobody"))
    taken = ada.post("/api/documents?wait=false", files={"files": large})
    assert taken.status_code == 202
