"""Deepening: the library gets better while nobody needs the machine, and yields at once."""

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from companion.api.app import create_api
from companion.app import build
from companion.background.deepening import Deepening, Quiet
from companion.background.micro_batches import FIRST_TOKENS
from companion.background.residency import Residency
from companion.config import Settings
from companion.domain import LOCAL_OWNER, SAMPLE_OWNER, DocumentState, RunOutcome, Why, WorkState
from companion.errors import EmbedderCrashed, EmbedderError, EmbedderHindered, UnreadableDocument
from companion.inference.catalog import Catalog
from companion.library.library import Library
from companion.library.vectors import VectorIndex
from companion.storage.store import Store
from tests.fakes import MODEL, FakeDeep, FakeEmbedder, FakeLoad, ScriptedEngine
from tests.waiting import until

ME = LOCAL_OWNER


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class House:
    """A library, a deep embedder and a machine, with the worker's tick in the test's hand."""

    def __init__(self, folder):
        self.store = Store.open(folder / "companion.db")
        self.light = FakeEmbedder()
        self.library = Library(
            self.store,
            self.light,
            VectorIndex(folder / "index"),
            originals=folder / "originals",
            max_bytes=10**6,
        )
        self.library.open_index()
        self.embedders = {"deep-bag": FakeDeep()}
        self.wanted = "deep-bag"
        self.load = FakeLoad()
        self.clock = Clock()
        self.turns = 0
        self.engine = ScriptedEngine(models=[MODEL])
        self.preloads = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.deepening = self.begin()

    @property
    def deep(self):
        return self.embedders[self.wanted]

    def choose(self, name):
        """Another deep embedder, in place of the first one."""
        self.embedders.setdefault(name, FakeDeep(name, dimension=32))
        self.wanted = name

    def begin(self):
        async def preload():
            self.preloads.append(self.clock.now)

        self.residency = Residency(
            Catalog([self.engine]),
            busy=lambda: self.turns > 0,
            window_for=lambda model: 4096,
            free_bytes=lambda: None,
            preload_chosen=preload,
        )
        return Deepening(
            self.store,
            self.library.layers,
            self.residency,
            lambda name, may_fetch: self.embedders[name],
            wanted=lambda: self.wanted,
            quiet=lambda: Quiet(60.0, 10),
            turns=lambda: self.turns,
            reclaimable=lambda: 0,
            on_loop=lambda work: asyncio.run_coroutine_threadsafe(work, self.loop),
            in_thread=asyncio.to_thread,
            wake=lambda: None,
            reader=self.load,
            clock=self.clock,
        )

    def add(self, *texts):
        return [
            self.library.add(ME, f"{len(text)}-{number}-{hash(text)}.txt", text.encode())
            for number, text in enumerate(texts)
        ]

    def pass_time(self, seconds):
        """Ticks as the worker would make them, with the clock going on in small steps."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now += min(self.deepening.tick() or 0.05, 5.0)
        return self.status

    @property
    def status(self):
        return self.deepening.status()

    def until(self, condition, seconds=300.0):
        end = self.clock.now + seconds
        while not condition():
            assert self.clock.now < end, self.status
            self.pass_time(0.05)

    def deep_layer(self, owner=ME):
        return self.store.layers.in_force(owner, "deep")

    def embedded(self, owner=ME):
        return self.store.layers.coverage(self.deep.identity.embedder_id, owner)

    def close(self):
        self.deepening.close()
        self.library.close()
        self.store.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    yield house
    house.close()


NOTES = [
    f"Note number {number}: the lighthouse of island {number} was painted again. "
    + "Its lamp turned slowly. " * 20
    for number in range(30)
]


def test_after_the_quiet_time_everything_gets_deep_vectors_and_the_layer_is_in_force(house):
    documents = house.add(*NOTES)
    assert house.pass_time(50).state is not WorkState.DEEPENING
    assert house.deep_layer() is None
    house.until(lambda: house.status.reason.why is Why.DONE and house.status.state is WorkState.WATCHING)
    assert house.embedded() == (30, 30)
    assert house.deep_layer() == house.deep.identity.embedder_id
    assert {house.library.document(ME, d.doc_id).state for d in documents} == {DocumentState.DEEP}
    (run,) = house.store.index_runs.latest()
    assert (run.outcome, run.passages) == (RunOutcome.COMPLETE, 30)
    found = house.library.search(ME, "lighthouse of island 7")
    assert "deep" in found.layers
    assert not house.deep.running


def test_a_document_whose_new_version_cannot_be_read_is_deep_again(house):
    (document,) = house.add(NOTES[0])
    house.until(lambda: house.deep_layer() is not None)
    house.library.replace(ME, document.doc_id, "broken.pdf", b"no pdf at all")
    with pytest.raises(UnreadableDocument):
        house.library.ingest(document.doc_id)
    house.until(lambda: house.library.document(ME, document.doc_id).state is DocumentState.DEEP)
    assert house.embedded() == (1, 1)


def test_a_new_version_with_the_same_passages_is_deep_at_once(house):
    (document,) = house.add(NOTES[0])
    house.until(lambda: house.deep_layer() is not None)
    house.library.replace(ME, document.doc_id, document.name, f"{NOTES[0]}\n".encode())
    house.library.ingest(document.doc_id)
    house.until(lambda: house.library.document(ME, document.doc_id).state is DocumentState.DEEP)
    assert len(house.deep.batches) == 1


def test_a_document_whose_last_passage_fills_the_batch_is_deep(house):
    (document,) = house.add("\n\n".join(f"Chapter {n}. " + "The lamp turned slowly. " * 80 for n in range(3)))
    tokens = [passage.tokens for passage in house.library.passages(ME, document.doc_id)]
    assert sum(tokens[:-1]) < FIRST_TOKENS <= sum(tokens)
    house.until(lambda: house.status.reason.why is Why.DONE and house.status.state is WorkState.WATCHING)
    assert house.library.document(ME, document.doc_id).state is DocumentState.DEEP


def test_a_document_that_comes_right_after_the_last_batch_is_deepened_too(house):
    house.add(*NOTES[:2])
    house.until(lambda: house.store.index_runs.latest() and house.store.index_runs.latest()[0].outcome)
    assert house.status.state is WorkState.DEEPENING, "the rules have not heard yet that all is done"
    house.add(NOTES[2])
    house.until(lambda: house.status.reason.why is Why.DONE and house.status.state is WorkState.WATCHING)
    assert house.embedded() == (3, 3)
    assert [run.passages for run in house.store.index_runs.latest()] == [1, 2]


def test_a_sign_of_the_user_kills_the_child_at_once_and_loses_nothing_stored(house):
    house.add(*NOTES)
    house.until(lambda: house.embedded()[1] > 0)
    stored = house.embedded()[1]
    house.deep.held.set()
    ticking = threading.Thread(target=house.deepening.tick)
    ticking.start()
    assert house.deep.waiting.wait(60)
    house.deepening.touch()
    ticking.join(60)
    assert not ticking.is_alive()
    assert not house.deep.running
    assert house.embedded()[1] == stored
    house.deep.held.clear()
    assert house.pass_time(5).state is not WorkState.DEEPENING
    assert house.status.reason.why is Why.ACTIVE
    assert house.store.index_runs.latest()[0].outcome is RunOutcome.STOPPED
    house.until(lambda: house.embedded() == (30, 30))
    texts = [text for batch in house.deep.batches for text in batch]
    assert len(texts) == len(set(texts)) == 30, "a stored passage was embedded twice"


def test_the_chat_model_leaves_before_and_comes_back_after(house):
    house.engine.offered = [replace(MODEL, loaded=True, loaded_window=8192)]
    house.add(*NOTES[:3])
    house.until(lambda: house.deep_layer() is not None)
    house.pass_time(30)
    assert house.engine.loads == [(MODEL.name, 0), (MODEL.name, 8192)]


def test_nothing_begins_while_the_card_is_busy_or_nobody_knows(house):
    house.add(*NOTES[:3])
    house.load.percent = 43
    assert house.pass_time(300).reason.why is Why.BUSY
    assert house.status.reason.percent == 43
    house.load.percent = None
    assert house.pass_time(300).reason.why is Why.UNKNOWN
    assert house.embedded() == (3, 0)


def test_a_button_starts_at_once_and_another_stops_for_good(house):
    house.add(*NOTES[:3])
    house.deepening.press("stop")
    assert house.pass_time(600).reason.why is Why.STOPPED
    house.load.percent = 80
    assert not house.status.asked
    house.deepening.press("start")
    assert house.status.asked
    house.turns = 1
    assert house.pass_time(60).asked
    house.turns = 0
    house.until(lambda: house.deep_layer() is not None, seconds=40)
    house.until(lambda: not house.status.asked)


def test_a_document_that_breaks_the_child_twice_is_set_aside_with_its_reason(house):
    house.add(*NOTES[:6], "A poisonous note that no embedder survives.")
    house.deep.poison = "poisonous"
    house.until(lambda: house.deep_layer() is not None, seconds=2000)
    (left_out,) = house.store.layers.set_aside(house.deep.identity.embedder_id, ME)
    assert "crashed" in left_out.error
    assert house.embedded() == (7, 6)
    assert house.library.search(ME, "poisonous").hits


def test_a_text_that_the_embedder_refuses_is_set_aside_and_all_behind_it_is_deepened(house):
    house.engine.offered = [replace(MODEL, loaded=True, loaded_window=8192)]
    house.add(*NOTES[:6], "A note that makes no number.", "Another note that makes no number.", NOTES[6])
    house.deep.poison = "makes no number"
    house.deep.fault = EmbedderError("Ollama refused the request: json: unsupported value: NaN")
    house.until(lambda: house.deep_layer() is not None)
    left_out = house.store.layers.set_aside(house.deep.identity.embedder_id, ME)
    assert {each.error for each in left_out} == {house.deep.fault.message}
    assert house.embedded() == (9, 7)
    house.pass_time(30)
    assert house.engine.loads == [(MODEL.name, 0), (MODEL.name, 8192)]


BOOK = "\n\n".join(f"Chapter {number}. " + "The lamp turned slowly. " * 60 for number in range(60))


def test_a_document_that_breaks_the_child_now_and_then_is_not_set_aside(house):
    house.add(BOOK)
    embedder_id, (total, _) = house.deep.identity.embedder_id, house.embedded()
    for part in (0, total // 2):
        house.until(lambda part=part: house.embedded()[1] > part)
        house.deep.poison = "turned slowly"
        house.until(lambda: house.store.layers.troubled(embedder_id))
        house.deep.poison = None
        house.until(lambda: not house.store.layers.troubled(embedder_id))
    house.until(lambda: house.embedded() == (total, total))


def test_memory_that_runs_out_now_and_then_is_a_failure_and_no_documents_fault(house):
    house.add(BOOK)
    total, _ = house.embedded()
    for part in (0, total // 4, total // 2):
        house.until(lambda part=part: house.embedded()[1] > part, seconds=2000)
        house.deep.poison = "turned slowly"
        house.deep.fault = EmbedderHindered("It was ended for lack of memory: close programs.")
        house.until(lambda: house.status.reason.why is Why.FAILED)
        assert house.status.reason.text == house.deep.fault.message
        house.deep.poison = None
    house.until(lambda: house.embedded() == (total, total), seconds=2000)
    assert len(house.store.index_runs.latest()) == 4


@pytest.mark.parametrize("fault", [EmbedderError, EmbedderCrashed])
def test_an_embedder_that_reads_nothing_is_one_failure_and_no_documents_fault(house, fault):
    house.add(*NOTES[:3])
    house.deep.poison, house.deep.fault = "", fault("It reads nothing.")
    house.until(lambda: house.status.reason.why is Why.FAILED)
    assert house.status.reason.text == "It reads nothing."
    house.pass_time(500)
    assert [run.outcome for run in house.store.index_runs.latest()] == [RunOutcome.FAILED]
    assert house.store.layers.set_aside(house.deep.identity.embedder_id, ME) == []
    house.until(lambda: len(house.store.index_runs.latest()) == 2)
    house.deep.poison = None
    house.until(lambda: house.deep_layer() is not None, seconds=1500)
    assert house.embedded() == (3, 3)


def test_an_embedder_that_cannot_start_says_why_and_is_tried_again_later(house):
    house.add(*NOTES[:2])
    house.deep.refusal = "The embedder is broken: choose another."
    house.until(lambda: house.status.reason.why is Why.FAILED)
    assert house.status.reason.text == "The embedder is broken: choose another."
    house.deep.refusal = None
    house.until(lambda: house.deep_layer() is not None, seconds=1500)


def test_an_embedder_that_cannot_be_opened_says_why_whatever_goes_wrong(house):
    house.add(*NOTES[:2])
    house.until(lambda: house.deep_layer() is not None)
    house.wanted = "of a folder with odd files"
    house.pass_time(30)
    assert house.status.reason.why is Why.FAILED
    assert (
        house.status.reason.text
        == "The embedder of a folder with odd files could not be loaded: see the log."
    )
    house.choose(house.wanted)
    house.until(lambda: house.deep_layer() == house.deep.identity.embedder_id, seconds=1500)


def test_another_embedder_fills_a_layer_of_its_own_and_the_old_one_serves_until_then(house):
    house.add(*NOTES[:5])
    house.until(lambda: house.deep_layer() is not None)
    first = house.deep_layer()
    house.choose("other")
    house.load.percent = 99
    house.pass_time(120)
    assert house.deep_layer() == first
    house.load.percent = 0
    house.until(lambda: house.deep_layer() == house.deep.identity.embedder_id)
    assert house.library.search(ME, "lighthouse").hits
    batches = len(house.embedders["deep-bag"].batches)
    house.choose("deep-bag")
    house.until(lambda: house.deep_layer() == first, seconds=30)
    assert len(house.embedders["deep-bag"].batches) == batches, "the way back costs nothing"


def test_a_session_can_keep_a_layer_that_was_whole(house):
    house.add(*NOTES[:5])
    house.until(lambda: house.deep_layer() is not None)
    first = house.deep_layer()
    house.choose("other")
    house.until(lambda: house.deep_layer() != first)
    scope = house.library._search.scope(ME, None)
    assert house.library.layers.deep_for(scope, "deep-bag")[0].embedder_id == first
    assert house.library.layers.deep_for(scope, "never seen")[0].embedder_id == house.deep_layer()


def test_vectors_of_an_embedder_that_was_never_finished_go_and_the_light_ones_stay(house):
    house.add(*NOTES)
    house.until(lambda: house.embedded()[1] > 0)
    begun = house.deep.identity.embedder_id
    house.choose("other")
    house.until(lambda: house.deep_layer() is not None)
    house.pass_time(30)
    assert house.store.layers.coverage(begun, ME) == (30, 0)
    assert house.library.status(ME).embedded == 30


def test_a_layer_that_was_replaced_is_dropped_after_its_grace_period(house):
    house.add(*NOTES[:5])
    house.until(lambda: house.deep_layer() is not None)
    first = house.deep_layer()
    house.choose("other")
    house.until(lambda: house.deep_layer() != first)
    kept = {house.deep_layer()}
    house.library.layers.drop_unused("deep", kept, datetime.now(UTC) + timedelta(days=29))
    assert house.store.layers.coverage(first, ME) == (5, 5)
    house.library.layers.drop_unused("deep", kept, datetime.now(UTC) + timedelta(days=31))
    assert house.store.layers.coverage(first, ME) == (5, 0)
    assert house.library.status(ME).embedded == 5
    assert [layer.embedder for layer in house.library.deep_layers(ME)] == ["other"]


def test_new_documents_are_found_while_they_wait_for_the_deep_layer(house):
    house.add(*NOTES[:20])
    house.until(lambda: house.deep_layer() is not None)
    house.load.percent = 90
    house.add("The comet of 1811 was seen from the harbour by everybody.")
    found = house.library.search(ME, "comet of 1811 seen from the harbour")
    assert "comet" in found.hits[0].passage.text
    assert house.embedded() == (21, 20)


def test_a_deleted_document_leaves_the_deep_index_too(house):
    gone, _kept = house.add("The canary zebrafish swims.", "Another text altogether.")
    house.until(lambda: house.deep_layer() is not None)
    house.library.delete(ME, gone.doc_id)
    house.library._now = lambda moment=house.library._now: moment() + timedelta(minutes=1)
    house.library.purge_due()
    layer = house.library.layers.deep_for(house.library._search.scope(ME, None))[0]
    assert all(not name.startswith(gone.doc_id) for name in house.library._index.ids(layer._collection(ME)))


def test_what_an_ended_process_left_open_is_closed_as_broken(house):
    house.add(*NOTES[:2])
    house.store.embeddings.register(house.deep.identity)
    house.store.index_runs.begin(house.deep.identity.embedder_id)
    house.begin()
    assert house.store.index_runs.latest()[0].outcome is RunOutcome.BROKEN


def test_start_and_stop_over_rest_and_the_sample_library_deepens_too(tmp_path):
    deep, load = FakeDeep(), FakeLoad(percent=70)
    settings = Settings(data_dir=tmp_path / "data", offline=True)
    companion = build(
        settings,
        engines=[ScriptedEngine(models=[MODEL])],
        light=FakeEmbedder(),
        deep=lambda name, may_fetch: deep,
        reader=load,
    )
    outside = Starlette(routes=[Mount("/api", create_api(companion))])
    client = TestClient(outside, base_url="http://127.0.0.1:7860")
    companion.start()
    try:
        until(lambda: client.get("/api/embeddings/status").json()["why"] == "busy")
        status = client.get("/api/embeddings/status").json()
        assert status["is_indexing"] is False
        assert status["gpu_util"] == 70
        assert "70 %" in status["reason"]
        assert client.post("/api/embeddings/index").status_code == 202
        until(lambda: companion.store.layers.in_force(SAMPLE_OWNER, "deep") is not None)
        until(lambda: client.get("/api/embeddings/status").json()["progress"] == 1.0)
        layers = client.get("/api/embeddings/status").json()["layers"]
        assert [(each["layer"], each["coverage"]) for each in layers] == [("light", 1.0), ("deep", 1.0)]
        assert client.delete("/api/embeddings/index").status_code == 202
        until(lambda: client.get("/api/embeddings/status").json()["why"] in ("stopped", "done"))
    finally:
        companion.close()
    assert not deep.running
    assert load.closed
