"""Another light embedder takes over without a pause in answers, and the way back is free."""

import gc
import threading
import weakref
from datetime import UTC, datetime, timedelta

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from companion.api.app import create_api
from companion.app import build
from companion.config import Settings
from companion.domain import EVERYBODY, LOCAL_OWNER, SAMPLE_OWNER
from companion.errors import EmbedderError
from companion.library.vectors import collection_name
from tests.fakes import MODEL, FakeDeep, FakeEmbedder, FakeLoad, Gate, ScriptedEngine, done
from tests.waiting import until

ME = LOCAL_OWNER
OLD, NEW, THIRD = "all-MiniLM-L6-v2", "another-embedder", "third-embedder"
TOPICS = ("harbour", "lighthouse", "orchard", "railway", "glacier", "library", "market", "windmill")
LONG_AGO = timedelta(days=31)


class Shelf:
    """Light embedders by name. Each can be slow, refuse to load, or break while it works."""

    def __init__(self):
        self.loads = []
        self.alive = weakref.WeakSet()
        self.refusal = {}
        self.surprising = set()
        """These fail in a way that nobody expects."""
        self.held = threading.Event()
        """Set: new passages wait, in every embedder but the first."""
        self.reached = threading.Event()
        self.texts = {}

    def load(self, name):
        self.loads.append(name)
        if name in self.surprising:
            raise KeyError("word_embedding_dimension")
        if name in self.refusal:
            raise EmbedderError(self.refusal[name])
        embedder = ShelvedEmbedder(name, self)
        self.alive.add(embedder)
        return embedder

    def names(self):
        """Of those that are in memory."""
        gc.collect()
        return sorted(embedder.identity.name for embedder in self.alive)


class ShelvedEmbedder(FakeEmbedder):
    def __init__(self, name, shelf):
        super().__init__(name, dimension(name))
        self._shelf = shelf

    def embed_passages(self, texts):
        shelf, name = self._shelf, self.identity.name
        if shelf.held.is_set() and name != OLD:
            shelf.reached.set()
            until(lambda: not shelf.held.is_set())
        if f"{name} works" in shelf.refusal:
            raise EmbedderError(shelf.refusal[f"{name} works"])
        shelf.texts.setdefault(name, []).extend(texts)
        return super().embed_passages(texts)


class House:
    """The whole app, with light embedders from the test's shelf."""

    def __init__(self, folder, load=None, **more):
        self.engine = ScriptedEngine(models=[MODEL])
        self.companion = build(
            Settings(data_dir=folder, offline=True, **more),
            engines=[self.engine],
            load_light=load,
            deep=lambda name, may_fetch: FakeDeep(),
            reader=FakeLoad(percent=90),
        )
        outside = Starlette(routes=[Mount("/api", create_api(self.companion))])
        self.client = TestClient(outside, base_url="http://127.0.0.1")
        self.companion.start()
        until(lambda: self.companion.health().state != "warming")

    @property
    def library(self):
        return self.companion.library

    @property
    def layers(self):
        return self.companion.store.layers

    def choose(self, name):
        answer = self.client.put("/api/settings", json={"embed_light": name})
        assert answer.status_code == 200, answer.text

    def answering(self):
        return self.library.status(ME).embedder

    def until_answering(self, name):
        until(lambda: self.answering() == name)

    def in_force(self):
        return next(each.embedder for each in self.layers.list(EVERYBODY) if each.in_force)

    def add(self, *topics):
        for topic in topics:
            text = f"Everything about the {topic}. " + f"The {topic} opens at nine. " * 20
            self.library.add(ME, f"{topic}.txt", text.encode())

    def finds(self, topic):
        found = self.library.search(ME, f"When does the {topic} open?")
        assert "light" in found.layers, found.notices
        assert not found.notices
        return topic in found.hits[0].passage.text

    def whole(self, name):
        total, embedded = self.layers.coverage(
            FakeEmbedder(name, 64 if name == OLD else 48).identity.embedder_id, ME
        )
        return embedded == total

    def condition(self, code):
        told = self.client.get("/api/health").json()["conditions"]
        return next((each for each in told if each["code"] == code), None)


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def start(tmp_path, shelf):
    running = []

    def start(load=shelf.load, **more):
        running.append(House(tmp_path / "data", load, **more))
        return running[-1]

    yield start
    shelf.held.clear()
    for house in running:
        house.companion.close()


@pytest.fixture
def house(start):
    house = start()
    house.add(*TOPICS)
    return house


def test_the_old_embedder_answers_until_the_new_one_has_read_everything(house, shelf):
    shelf.held.set()
    house.choose(NEW)
    assert shelf.reached.wait(60)
    assert house.answering() == house.in_force() == OLD
    assert all(house.finds(topic) for topic in TOPICS)
    shelf.held.clear()
    house.until_answering(NEW)
    assert house.in_force() == NEW
    assert house.whole(NEW)
    assert all(house.finds(topic) for topic in TOPICS)
    assert house.library.search(SAMPLE_OWNER, "How do I add documents?").hits
    assert house.library.status(ME).index == "ready"


def test_no_question_goes_unanswered_while_it_changes(house):
    results, over = [], threading.Event()

    def ask():
        while not over.is_set():
            found = house.library.search(ME, "When does the orchard open?")
            results.append("light" in found.layers and "orchard" in found.hits[0].passage.text)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for name in (NEW, OLD, NEW):
            asked = len(results)
            house.choose(name)
            house.until_answering(name)
            until(lambda asked=asked: len(results) > asked)
    finally:
        over.set()
        asking.join(60)
    assert all(results)


def test_the_way_back_embeds_nothing_again(house, shelf):
    house.choose(NEW)
    house.until_answering(NEW)
    before = len(shelf.texts[OLD])
    house.choose(OLD)
    house.until_answering(OLD)
    assert len(shelf.texts[OLD]) == before
    assert all(house.finds(topic) for topic in TOPICS)


def test_what_came_meanwhile_is_read_on_the_way_back(house, shelf):
    house.choose(NEW)
    house.until_answering(NEW)
    before = len(shelf.texts[OLD])
    house.add("aquarium")
    assert house.finds("aquarium")
    assert len(shelf.texts[OLD]) == before
    house.choose(OLD)
    house.until_answering(OLD)
    assert len(shelf.texts[OLD]) > before
    assert house.finds("aquarium")


def test_an_upload_during_the_change_is_found_at_once_and_read_by_both(house, shelf):
    shelf.held.set()
    house.choose(NEW)
    assert shelf.reached.wait(60)
    house.add("aquarium")
    assert house.answering() == OLD
    assert house.finds("aquarium")
    shelf.held.clear()
    house.until_answering(NEW)
    assert house.finds("aquarium")
    assert house.whole(NEW)


def test_a_document_that_is_brought_back_after_the_change_is_found_by_meaning(house):
    (gone,) = [each for each in house.library.documents(ME) if each.name == "glacier.txt"]
    house.library.delete(ME, gone.doc_id)
    house.choose(NEW)
    house.until_answering(NEW)
    house.library.undo(ME, gone.doc_id)
    until(lambda: house.whole(NEW))
    assert house.finds("glacier")


def test_nobody_takes_over_before_everything_is_read(house, shelf):
    assert house.library.change_light(shelf.load(NEW)) is False
    assert house.answering() == house.in_force() == OLD


def test_while_an_answer_is_written_the_machine_is_left_to_it(house, shelf):
    gate = Gate()
    house.engine.scripts.append(["It opens ", gate, "at nine.", done()])
    session_id = house.client.post("/api/sessions").json()["session_id"]
    run = house.companion.runs.start(ME, session_id, "When does the market open?")
    until(gate.reached.is_set)
    house.choose(NEW)
    until(lambda: NEW in shelf.names())
    rounds, tick = [], house.companion.work.upkeep.tick

    def counted():
        rounds.append(tick())
        return rounds[-1]

    house.companion.work.upkeep.tick = counted
    for _ in range(3):
        before = len(rounds)
        house.companion.work.worker.wake()
        until(lambda before=before: len(rounds) > before)
    assert NEW not in shelf.texts
    gate.open.set()
    run.wait(60)
    house.until_answering(NEW)


def test_after_a_restart_in_the_middle_the_old_one_answers_and_the_change_goes_on(house, shelf, start):
    shelf.held.set()
    house.choose(NEW)
    assert shelf.reached.wait(60)
    # The batch in flight ends, and no other begins.
    ending = threading.Thread(target=lambda: (until(house.companion._closing.is_set), shelf.held.clear()))
    ending.start()
    house.companion.close()
    ending.join(60)
    read = list(shelf.texts.get(NEW, []))
    shelf.held.set()
    again = start()
    assert again.answering() == again.in_force() == OLD
    assert again.finds("railway")
    shelf.held.clear()
    again.until_answering(NEW)
    assert again.finds("railway")
    assert len(shelf.texts[NEW]) == len(set(shelf.texts[NEW])) >= len(read), "a stored passage was read twice"


def test_after_a_restart_the_one_that_was_chosen_answers_from_the_first_moment(house, shelf, start):
    house.choose(NEW)
    house.until_answering(NEW)
    house.companion.close()
    shelf.loads.clear()
    again = start()
    assert again.answering() == NEW
    assert shelf.loads == [NEW]


def test_an_embedder_that_cannot_be_loaded_changes_nothing_and_says_so_once(house, shelf):
    shelf.refusal[NEW] = "The weights of another-embedder are not there."
    house.choose(NEW)
    until(lambda: house.companion.health().state == "degraded")
    told = house.condition("embedder_missing")
    assert told["sentence"] == (
        "The weights of another-embedder are not there; meanwhile all-MiniLM-L6-v2 is the light embedder."
    )
    assert house.finds("market")
    assert house.condition("embedder_change") is None
    loads = shelf.loads.count(NEW)
    shelf.refusal.clear()
    house.companion.work.upkeep.tick()
    assert shelf.loads.count(NEW) == loads, "nobody asked for it"
    house.choose(NEW)
    house.until_answering(NEW)
    assert house.companion.health().state == "ready"


def test_an_embedder_that_fails_in_an_unexpected_way_changes_nothing_and_says_so(house, shelf):
    shelf.surprising.add(NEW)
    house.choose(NEW)
    until(lambda: house.companion.health().state == "degraded")
    told = house.condition("embedder_missing")["sentence"]
    assert told.startswith("The embedder another-embedder could not be loaded: see the log; meanwhile")
    assert house.finds("market")


def test_after_a_start_the_usual_embedder_answers_in_place_of_one_that_fails_unexpectedly(
    house, shelf, start
):
    house.choose(NEW)
    house.until_answering(NEW)
    house.companion.close()
    shelf.surprising.add(NEW)
    again = start()
    assert again.answering() == OLD
    assert again.finds("harbour")
    assert "see the log" in again.condition("embedder_missing")["sentence"]


def test_an_embedder_that_breaks_at_work_changes_nothing_until_it_is_tried_again(house, shelf):
    shelf.refusal[f"{NEW} works"] = "The embedder broke off: close other programs."
    house.choose(NEW)
    until(lambda: house.companion.health().state == "degraded")
    assert house.answering() == OLD
    assert house.finds("market")
    assert shelf.names() == [OLD]
    shelf.refusal.clear()
    assert house.client.post("/api/health/try-again").status_code == 204
    house.until_answering(NEW)


def test_the_way_is_told_in_one_sentence_and_only_while_it_lasts(house, shelf):
    assert house.condition("embedder_change") is None
    shelf.held.set()
    house.choose(NEW)
    assert shelf.reached.wait(60)
    told = house.condition("embedder_change")
    assert told["sentence"].startswith("The light embedder another-embedder has read 0 of ")
    assert told["sentence"].endswith("all-MiniLM-L6-v2 answers until it has read them all.")
    layers = house.client.get("/api/embeddings/status").json()["layers"]
    assert [(each["embedder"], each["ready"], each["coverage"]) for each in layers] == [
        (OLD, True, 1.0),
        (NEW, False, 0.0),
    ]
    assert house.companion.health().state == "ready"
    shelf.held.clear()
    house.until_answering(NEW)
    until(lambda: house.condition("embedder_change") is None)


def test_only_one_embedder_stays_in_memory(house, shelf):
    house.choose(NEW)
    house.until_answering(NEW)
    until(lambda: shelf.names() == [NEW])
    house.choose(OLD)
    house.until_answering(OLD)
    until(lambda: shelf.names() == [OLD])


def test_a_choice_that_is_taken_back_in_the_middle_stops_the_change(house, shelf):
    shelf.held.set()
    house.choose(NEW)
    assert shelf.reached.wait(60)
    house.choose(OLD)
    shelf.held.clear()
    until(lambda: house.condition("embedder_change") is None)
    until(lambda: shelf.names() == [OLD])
    assert house.in_force() == OLD
    assert house.finds("windmill")


def test_there_are_two_light_layers_at_most(house):
    house.choose(NEW)
    house.until_answering(NEW)
    house.choose(THIRD)
    house.until_answering(THIRD)
    assert {each.embedder for each in house.layers.list(EVERYBODY)} == {NEW, THIRD}
    assert not any(house.library._index.ids(collection_name(id_of(OLD), ME)))
    assert house.layers.coverage(id_of(OLD), ME)[1] == 0
    assert house.whole(NEW)
    assert house.finds("windmill")


def test_a_light_layer_that_was_left_long_ago_is_dropped(house):
    house.choose(NEW)
    house.until_answering(NEW)
    layers = house.library.layers
    layers.drop_unused("light", set(), datetime.now(UTC) + timedelta(days=29))
    assert house.whole(OLD)
    layers.drop_unused("light", set(), datetime.now(UTC) + LONG_AGO)
    assert house.layers.coverage(id_of(OLD), ME)[1] == 0
    assert house.whole(NEW)
    assert house.finds("windmill")


def test_a_choice_brings_meanings_back_when_no_embedder_could_be_loaded(shelf, start):
    shelf.refusal[OLD] = "The weights are not there."
    house = start()
    assert house.companion.health().reasons == ("The weights are not there.",)
    house.add("market")
    house.choose(NEW)
    house.until_answering(NEW)
    until(lambda: house.companion.health().state == "ready")
    until(lambda: house.whole(NEW))
    assert house.finds("market")


def test_a_layer_whose_embedder_is_gone_gives_way_to_the_one_that_was_chosen(house, shelf, start):
    house.choose(NEW)
    house.until_answering(NEW)
    house.companion.close()
    shelf.refusal[NEW] = "The weights of another-embedder are not there."
    again = start()
    assert again.answering() == again.in_force() == OLD
    assert again.finds("harbour")
    told = again.condition("embedder_missing")["sentence"]
    assert told.startswith("The weights of another-embedder are not there; meanwhile")


@pytest.mark.weights
def test_real_embedders_take_turns(start, light_folder, tiny_folder):
    """The tiny one reads 48 tokens at once and has 32 numbers, the other one 256 and 384."""
    house = start(None, embed_light=str(light_folder), weights_dir=light_folder.parent)
    house.add(*TOPICS)
    assert house.answering() == str(light_folder)
    for name in (str(tiny_folder), str(light_folder)):
        house.choose(name)
        house.until_answering(name)
        assert house.in_force() == name
        # The tiny one has random weights, so only words tell which passage comes first.
        assert any("orchard" in hit.passage.text for hit in house.library.search(ME, "The orchard?").hits)
    assert house.library.status(ME).index == "ready"


def id_of(name):
    return FakeEmbedder(name, dimension(name)).identity.embedder_id


def dimension(name):
    return 64 if name == OLD else 48
