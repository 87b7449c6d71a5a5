"""Nothing relevant is said to be nothing: the setting, and where it draws the line."""

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from companion.api.app import create_api
from companion.app import build
from companion.chat.prompt import NOTHING_FOUND, NOTHING_FOUND_NOTICE
from companion.chat.relevance import is_relevant
from companion.config import Settings
from companion.domain import LOCAL_OWNER
from tests.fakes import ScriptedEngine, done, hit

HARBOUR = (
    "The lighthouse of Skagen was painted green by Ingrid Holm. The pump of the harbour shows code E-4711."
)
ABOUT_IT = "Which colour has the lighthouse?"
ABOUT_NOTHING = "How was the election of the pope decided in 1378, and who was against it?"
"""It shares words with the document, such as “was” and “the”, and no more."""
SAID = "It is green, as far as I know."


@pytest.fixture
def house(tmp_path, light_embedder):
    engine = ScriptedEngine()
    companion = build(
        Settings(data_dir=tmp_path / "data", offline=True), engines=[engine], light=light_embedder
    )
    companion.library.add(LOCAL_OWNER, "harbour.txt", HARBOUR.encode())
    yield House(companion, engine)
    companion.close()


class House:
    """The app behind its HTTP door, with the real light embedder."""

    def __init__(self, companion, engine):
        outside = Starlette(routes=[Mount("/api", create_api(companion))])
        self.client = TestClient(outside, base_url="http://127.0.0.1:7860")
        self.engine = engine

    def answers(self, question, mode="rag"):
        self.engine.scripts = [[SAID, done()]]
        session_id = self.client.post("/api/sessions", json={"thinking_mode": mode}).json()["session_id"]
        return self.client.post(f"/api/sessions/{session_id}/messages", json={"content": question}).json()

    def set(self, percent):
        return self.client.put("/api/settings", json={"least_similarity": percent})


def test_a_question_about_something_else_is_answered_with_nothing_found(house):
    message = house.answers(ABOUT_NOTHING)
    assert message["content"] == NOTHING_FOUND
    assert message["sources"] == []
    assert house.engine.requests == []
    assert house.answers(ABOUT_IT)["content"] == SAID


def test_hybrid_reasons_alone_about_something_else_and_says_so(house):
    message = house.answers(ABOUT_NOTHING, "hybrid")
    assert NOTHING_FOUND_NOTICE in message["notices"]
    assert message["sources"] == []


def test_at_a_low_threshold_whatever_is_found_is_used(house):
    assert house.set(0).status_code == 200
    message = house.answers(ABOUT_NOTHING)
    assert message["content"] == SAID
    assert [source["document_name"] for source in message["sources"]] == ["harbour.txt"]


def test_at_the_highest_threshold_a_good_question_is_refused_too(house):
    assert house.set(100).status_code == 200
    assert house.answers("Who painted the old tower by the sea?")["content"] == NOTHING_FOUND


def test_a_passage_with_every_word_of_the_question_is_never_nothing(house):
    assert house.set(100).status_code == 200
    for question in ("4711?", "What about Ingrid Holm?", "Skagen"):
        assert house.answers(question)["content"] == SAID


def test_the_threshold_is_a_setting_with_a_range(house):
    assert house.client.get("/api/settings").json()["least_similarity"] == Settings().least_similarity
    assert house.set(62).json()["least_similarity"] == 62
    for wrong in (-1, 101, 1.5, "many"):
        refused = house.set(wrong)
        assert refused.status_code == 422
        assert "least_similarity" in refused.json()["error"]["message"]
    assert house.client.get("/api/settings").json()["least_similarity"] == 62


@pytest.mark.parametrize(
    ("question", "similarity", "relevant"),
    [
        ("When do bees fly?", 0.39, False),
        ("When do bees fly?", 0.4, True),
        ("When do bees fly?", None, True),
        ("Bees?", 0.0, True),
        ("Who is it?", 0.0, False),
    ],
)
def test_similarity_decides_unless_it_is_unknown_or_all_words_are_there(question, similarity, relevant):
    found = [
        hit(1, "Pears are ripe in autumn.", similarity=0.1),
        hit(2, "Bees make honey.", similarity=similarity),
    ]
    assert is_relevant(question, found, 0.4) is relevant
    assert not is_relevant(question, [], 0.0)


def test_at_nought_whatever_is_found_is_used():
    assert is_relevant("Who is it?", [hit(1, "Pears are ripe.", similarity=-0.2)], 0.0)
    assert not is_relevant("Who is it?", [hit(1, "Pears are ripe.", similarity=-0.2)], 0.01)
