"""The deep embedder at question time: only where it is switched on, quick enough, and of use."""

import gc
import weakref

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from companion import direct
from companion.api.app import create_api
from companion.app import build
from companion.config import Settings
from companion.direct import DirectQuestions
from companion.domain import LOCAL_OWNER
from companion.embedding import load_for_questions
from companion.errors import EmbedderError
from tests.fakes import MODEL, FakeDeep, FakeEmbedder, FakeLoad, ScriptedEngine
from tests.waiting import until

QUESTION = "Where do bees live?"
TOPICS = ("bees", "boats", "bread", "birds")


class DeepReader(FakeDeep):
    """Remembers the questions, and takes every one for one about birds."""

    def __init__(self):
        super().__init__()
        self.questions = []

    def embed_query(self, text):
        self.questions.append(text)
        return FakeEmbedder.embed_query(self, "Everything about birds.")

    def embed_passages(self, texts):
        return FakeEmbedder("deep-bag", 96).embed_passages(texts)


class House:
    """The whole app behind its HTTP door, deepened."""

    def __init__(self, folder, load_direct=None, deep=None, **more):
        self.readers = []
        self.alive = weakref.WeakSet()
        self.companion = build(
            Settings(data_dir=folder, offline=True, **more),
            engines=[ScriptedEngine(models=[MODEL])],
            light=FakeEmbedder(),
            deep=deep,
            load_direct=load_direct,
            reader=FakeLoad(percent=90, source="cpu"),
        )
        outside = Starlette(routes=[Mount("/api", create_api(self.companion))])
        self.client = TestClient(outside, base_url="http://127.0.0.1")
        self.companion.start()
        until(lambda: self.companion.health().state != "warming")
        self.add(*TOPICS)
        self.deepen()

    def add(self, *topics):
        for topic in topics:
            text = f"Everything about {topic}. Where {topic} live, and what else is known of them."
            self.companion.library.add(LOCAL_OWNER, f"{topic}.txt", text.encode())

    def deepen(self):
        assert self.client.post("/api/embeddings/index").status_code == 202
        until(lambda: self.companion.store.layers.in_force(LOCAL_OWNER, "deep"), seconds=120)

    def choose(self, way):
        assert self.client.put("/api/settings", json={"deep_query": way}).json()["deep_query"] == way

    @property
    def health(self):
        return self.client.get("/api/health").json()

    def finds(self, question=QUESTION):
        found = self.client.get("/api/search", params={"q": question, "top_k": 4}).json()
        return {hit["document_name"]: hit["score"] for hit in found["hits"]}


@pytest.fixture
def opened(tmp_path):
    houses = []

    def opened(*arguments, **more):
        houses.append(House(tmp_path / "data", *arguments, **more))
        return houses[-1]

    yield opened
    for house in houses:
        house.companion.close()


@pytest.fixture
def shelf():
    """What was loaded for questions, by name, and is still in memory."""
    return Shelf()


class Shelf:
    def __init__(self, refusal=None):
        self.loads = []
        self.alive = weakref.WeakSet()
        self.refusal = refusal

    def load(self, name):
        self.loads.append(name)
        if self.refusal:
            raise EmbedderError(self.refusal)
        reader = DeepReader()
        self.alive.add(reader)
        return reader

    @property
    def questions(self):
        return [
            question for reader in self.alive for question in reader.questions if question != direct.TRIAL
        ]

    @property
    def empty(self):
        gc.collect()
        return not self.alive


def test_questions_go_to_the_deep_embedder_only_while_that_is_switched_on(opened, shelf):
    house = opened(shelf.load, lambda name, may_fetch: FakeDeep())
    before = house.finds()
    assert max(before, key=before.get) == "bees.txt"
    assert shelf.loads == []
    house.choose("direct")
    until(lambda: house.companion.work.direct.embedder)
    asked = house.finds()
    assert shelf.questions == [QUESTION]
    assert asked["birds.txt"] > before["birds.txt"]
    house.choose("feedback")
    assert house.finds() == before
    assert until(lambda: shelf.empty)
    assert shelf.loads == ["deep-bag"]


def test_the_choice_outlives_a_start(opened, shelf):
    house = opened(shelf.load, lambda name, may_fetch: FakeDeep())
    house.choose("direct")
    house.companion.close()
    again = opened(shelf.load, lambda name, may_fetch: FakeDeep())
    until(lambda: again.companion.work.direct.embedder)
    again.finds()
    assert QUESTION in shelf.questions


def test_where_it_is_too_slow_feedback_is_used_and_the_reason_said(opened, shelf, monkeypatch):
    monkeypatch.setattr(direct, "MOST_MS", -1.0)
    house = opened(shelf.load, lambda name, may_fetch: FakeDeep())
    before = house.finds()
    house.choose("direct")
    until(lambda: house.health["state"] == "degraded")
    assert "ms for a question here" in house.health["reasons"][0]
    assert "so feedback is used" in house.health["reasons"][0]
    assert house.finds() == before
    assert shelf.questions == []
    assert until(lambda: shelf.empty)
    house.choose("feedback")
    assert house.health["state"] == "ready"


def test_an_embedder_that_cannot_be_loaded_says_why_and_is_tried_again(opened):
    shelf = Shelf("its weights are torn; fetch them again.")
    house = opened(shelf.load, lambda name, may_fetch: FakeDeep())
    house.choose("direct")
    until(lambda: house.health["state"] == "degraded")
    assert "its weights are torn" in house.health["reasons"][0]
    shelf.refusal = None
    house.choose("direct")
    until(lambda: house.health["state"] == "ready" and house.companion.work.direct.embedder)
    assert len(shelf.loads) == 2


def test_a_partly_deep_library_is_asked_by_feedback(opened, shelf):
    house = opened(shelf.load, lambda name, may_fetch: FakeDeep())
    house.choose("direct")
    until(lambda: house.companion.work.direct.embedder)
    assert house.client.delete("/api/embeddings/index").status_code == 202
    house.add("bears")
    house.finds()
    assert shelf.questions == []


def test_a_question_that_the_deep_embedder_cannot_read_is_answered_by_feedback(opened, shelf):
    house = opened(shelf.load, lambda name, may_fetch: FakeDeep())
    before = house.finds()
    house.choose("direct")
    reader = until(lambda: house.companion.work.direct.embedder)

    def broken(_text):
        raise EmbedderError("The embedder broke off.")

    reader.embed_query = broken
    assert house.finds() == before


def test_the_real_path_from_a_folder_of_weights_to_another_ranking(opened, tiny_folder, tmp_path):
    house = opened(embed_deep=str(tiny_folder), weights_dir=tmp_path / "weights")
    before = house.finds()
    house.choose("direct")
    embedder = until(lambda: house.companion.work.direct.embedder, seconds=120)
    assert embedder.identity.dimension == 32
    assert house.health["state"] == "ready"
    assert house.finds() != before
    house.choose("feedback")
    assert house.finds() == before


def test_another_way_is_refused(opened, shelf):
    house = opened(shelf.load, lambda name, may_fetch: FakeDeep())
    for way in ("directly", "", 1, True):
        assert house.client.put("/api/settings", json={"deep_query": way}).status_code == 422
    assert house.client.get("/api/settings").json()["deep_query"] == "feedback"


@pytest.mark.parametrize(
    ("name", "why"), [("ollama:qwen", "runs in Ollama"), ("all-nothing-at-all", "is not downloaded")]
)
def test_what_cannot_read_questions_is_not_tried(tmp_path, name, why):
    with pytest.raises(EmbedderError, match=why):
        load_for_questions(name, Settings(data_dir=tmp_path, weights_dir=tmp_path, offline=True))


def test_a_large_embedder_is_refused_before_it_is_loaded(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("companion.embedding.MOST_PARAMETERS", 1000)
    with pytest.raises(EmbedderError, match="too many for a processor"):
        load_for_questions(str(tiny_folder), Settings(data_dir=tmp_path, weights_dir=tmp_path, offline=True))
    assert list(tmp_path.rglob("*.onnx")) == []


# --- the time that a question takes ---------------------------------------------------------


def quick(milliseconds, wanted=lambda: "deep"):
    """Questions that take so long each, loaded at once."""
    moments = (moment for each in milliseconds for moment in (0.0, each / 1000))
    return DirectQuestions(
        lambda name: DeepReader(),
        wanted=wanted,
        in_background=lambda work: work(),
        clock=lambda: next(moments),
    )


def test_the_quickest_of_several_questions_counts():
    busy = quick([400, 300, 49, 90, 80, 70, 60])
    busy.follow()
    assert busy.trouble is None
    assert busy.embedder is not None
    slow = quick([400, 300, 51, 90, 80, 70, 60])
    slow.follow()
    assert slow.embedder is None
    assert slow.trouble.startswith("The deep embedder deep takes 51 ms for a question here")


def test_what_was_wanted_when_loading_began_may_not_be_wanted_any_more():
    wanted, works = ["old"], []
    questions = DirectQuestions(
        lambda name: FakeEmbedder(name), wanted=lambda: wanted[0], in_background=works.append
    )
    questions.follow()
    wanted[0] = None
    questions.follow()
    works.pop()()
    assert questions.embedder is None
    wanted[0] = "new"
    questions.follow()
    questions.follow()
    assert len(works) == 1
    works.pop()()
    assert questions.embedder.identity.name == "new"
