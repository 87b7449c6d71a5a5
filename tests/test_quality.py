"""Quality on one's own documents: questions made in spare time, kept, asked in every way, and judged."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from companion.api.app import create_api
from companion.app import build
from companion.background import upkeep
from companion.background.deepening import Quiet
from companion.config import SAMPLE_FOLDER, Settings
from companion.domain import LOCAL_OWNER, Figures, Measurement, Why
from companion.errors import EmbedderError, EngineUnavailable
from companion.inference.ollama import Ollama
from companion.quality import study
from companion.quality.invention import copies, question_of
from companion.quality.judgement import Verdict, judge, sign_test
from companion.quality.ranks import Asker
from companion.quality.sentences import question_from
from tests.fakes import MODEL, TINY, FakeDeep, FakeEmbedder, FakeLoad, Gate, ScriptedEngine, done
from tests.ollama_server import OllamaServer, ServedModel, Thinking
from tests.waiting import until

TOPICS = (
    "harbour pilots guide tankers", "lighthouse keepers polish lenses", "orchard farmers graft apples",
    "railway workers weld tracks", "glacier climbers rope together", "library clerks mend bindings",
    "market traders weigh spices", "windmill owners grease gears",
)  # fmt: skip
CANARY = "qvxkmzt"


def text_about(topic, number=0):
    said = (
        f"In chapter {number} the {topic} before sunrise, because experience taught them patience. "
        f"Old {topic} again at dusk, whatever the weather brings, and nobody complains about it."
    )
    return f"# About {topic}\n\n{said}\n"


class House:
    """A whole companion whose worker ticks by itself; time of quiet is short, and the machine is idle."""

    def __init__(self, folder, engine, **settings):
        self.load = FakeLoad()
        self.deep = FakeDeep("all-mpnet-base-v2")
        self.engine = engine
        self.companion = build(
            Settings(data_dir=folder / "data", offline=True, **settings),
            engines=[engine],
            light=FakeEmbedder(),
            deep=lambda name, may_fetch: self.deep,
            reader=self.load,
        )
        self.companion.work.deepening._quiet = lambda: Quiet(0.3, 10)
        outside = Starlette(routes=[Mount("/api", create_api(self.companion))])
        self.client = TestClient(outside, base_url="http://127.0.0.1:7860")

    def add(self, *topics):
        return [
            self.companion.library.add(LOCAL_OWNER, f"{topic}.md", text_about(topic, number).encode())
            for number, topic in enumerate(topics)
        ]

    def ready(self):
        self.companion.start()
        until(lambda: self.companion.work.upkeep.stage is None)

    def status(self):
        return self.client.get("/api/quality").json()

    def measured(self, count=1):
        return until(lambda: len((now := self.status())["history"]) >= count and now, 60)

    def questions(self, owner=LOCAL_OWNER):
        return self.companion.store.quality.questions(owner, 300)


@pytest.fixture
def houses(tmp_path, monkeypatch):
    built = []
    # Reading the samples takes seconds, and one test is about them.
    samples = tmp_path / "samples"
    samples.mkdir()
    monkeypatch.setattr(upkeep, "SAMPLE_FOLDER", samples)
    monkeypatch.setattr(study, "LOOK_S", 0.2)
    monkeypatch.setattr(study, "REST_S", 0.1)

    def house(engine=None, **settings):
        built.append(House(tmp_path, engine or ScriptedEngine(models=[]), **settings))
        return built[-1]

    yield house
    for each in built:
        each.companion.close()


# --- making questions -----------------------------------------------------------------------


def test_in_idle_time_questions_are_made_and_the_search_is_measured_after_deepening(houses):
    house = houses()
    house.add(*TOPICS)
    house.ready()
    now = house.measured()
    assert now["questions"] == now["without_model"] == len(TOPICS)
    assert now["latest"]["deep"] == "all-mpnet-base-v2", "deepening comes first"
    assert list(now["latest"]["figures"]) == ["lexical", "light", "hybrid", "feedback", "deep"]
    assert 0 < now["latest"]["figures"]["lexical"]["recall_5"] <= 1
    assert now["judgement"]["verdict"] == "too_few"
    assert now["activity"] == "idle"
    companion, items = house.companion, house.questions()
    asker = Asker(companion.store, companion.library, LOCAL_OWNER, items, "all-mpnet-base-v2")
    asker.ranks(items[0])
    took_part = {method: asker._retrievers[method].rankings.keys() for method in ("feedback", "deep")}
    assert took_part == {"feedback": {"lexical", "light", "feedback"}, "deep": {"lexical", "light", "deep"}}


def asks_about(body):
    """A question in other words, as a model would make it."""
    said = body["messages"][-1]["content"]
    topic = re.search(r"About (\w+) (\w+)", said)
    return ["Who is it that ", f"works near the {topic[1]}, and what ", "is their habit?"]


def test_a_model_of_ollama_makes_them_in_its_own_words_with_the_window_it_is_loaded_with(houses):
    with OllamaServer(models=["llama3.2:latest"], reply=asks_about) as server:
        house = houses(Ollama(server.url))
        house.add(*TOPICS[:4])
        house.ready()
        now = house.measured()
        assert (now["questions"], now["without_model"], now["models"]) == (4, 0, ["llama3.2:latest"])
        assert all(item.question.endswith("what is their habit?") for item in house.questions())
        asked = server.asked("/api/chat")
        assert len(asked) == 4
        assert {window for _, window in server.loads} == {asked[0]["options"]["num_ctx"]}
        assert all(call["options"]["num_predict"] < 200 for call in asked)


def test_an_answer_that_is_no_question_is_replaced_and_the_page_is_told_how(houses):
    house = houses(ScriptedEngine(*[["I would rather talk about cheese.", done()]] * 9))
    house.add(*TOPICS[:3])
    house.ready()
    now = house.measured()
    assert (now["questions"], now["without_model"], now["models"]) == (3, 3, [])


def test_a_model_that_cannot_but_think_has_room_for_it(houses):
    def thinks(body):
        # Whatever it is told, but for a level: it then thinks on until it is cut off.
        briefly = body["think"] == "low" and body["options"]["num_predict"] > 200
        return [Thinking("Hm."), *(asks_about(body) if briefly else [])]

    model = ServedModel("gpt-oss:20b", ("completion", "thinking"), architecture="gptoss")
    with OllamaServer(models=[model], reply=thinks) as server:
        house = houses(Ollama(server.url))
        house.add(*TOPICS[:3])
        house.ready()
        assert house.measured()["without_model"] == 0


def test_nothing_is_asked_of_a_cloud_model_or_the_built_in_one(houses):
    cloud = replace(MODEL, name="huge-cloud", remote=True)
    engine = ScriptedEngine(models=[cloud, TINY])
    house = houses(engine)
    house.companion.store.settings.save({"show_cloud_models": True, "model_name": cloud.name})
    house.companion.catalog.show_cloud = True
    house.add(*TOPICS[:3])
    house.ready()
    assert house.measured()["without_model"] == 3
    assert engine.requests == []


def test_where_several_people_come_in_a_question_is_made_of_the_same_words(houses, tmp_path):
    """How rare a word is, is counted among the person's own passages: counted for nobody it is never."""
    alone = houses(ScriptedEngine(models=[TINY], name="builtin"))
    shared = House(tmp_path / "shared", ScriptedEngine(models=[TINY], name="builtin"), host="0.0.0.0")
    made = []
    for house in (alone, shared):
        house.add(*TOPICS)
        house.ready()
        made.append(until(lambda of=house: len(found := of.questions()) == len(TOPICS) and found, 60))
        assert house.companion.store.words.private is (house is shared)
    shared.companion.close()
    assert {each.question for each in made[0]} == {each.question for each in made[1]}


def test_an_engine_that_fails_is_asked_again_and_then_done_without(houses):
    trouble = EngineUnavailable("Ollama went away.")
    house = houses(ScriptedEngine([trouble], [trouble]))
    house.add(*TOPICS[:3])
    house.ready()
    assert house.measured()["without_model"] == 3
    assert len(house.engine.requests) == 2


CHINESE = "谁每天早上用软皮革擦拭镜片和灯具呢\uff1f"
PASSAGE = "The keeper of the lighthouse polishes its lens every morning with soft leather and oil."
GERMAN = (
    "Der Wärter putzt die Linse des Leuchtturms jeden Morgen mit weichem Leder, und das ist nicht leicht."
)


@pytest.mark.parametrize(
    ("said", "text", "question"),
    [
        ("What is used to clean the lamp?", PASSAGE, "What is used to clean the lamp?"),
        ('\nQuestion: "What cleans the lamp up there?"\nIt …', PASSAGE, "What cleans the lamp up there?"),
        ("**Who takes care of the lamp?**", PASSAGE, "Who takes care of the lamp?"),
        ("Here is a question:\n\nWho takes care of the lamp?", PASSAGE, "Who takes care of the lamp?"),
        ("**Question:**\nWho takes care of the lamp?", PASSAGE, "Who takes care of the lamp?"),
        ("Here is a question:", PASSAGE, None),
        ('{"question": "Who takes care of the lamp?"}', PASSAGE, None),
        ("The lens is polished.", PASSAGE, None),
        ("Why?", PASSAGE, None),
        ("What is it? And who does it?", PASSAGE, None),
        ("What does this passage say about lenses?", PASSAGE, None),
        ("When is it that the keeper of the lighthouse polishes its lens?", PASSAGE, None),
        ("Womit wird die Lampe geputzt, und wer macht das?", PASSAGE, None),
        ("Womit wird die Lampe gereinigt, und wann?", GERMAN, "Womit wird die Lampe gereinigt, und wann?"),
        ("What is used to clean the lamp?", GERMAN, None),
        (CHINESE, "灯塔看守人每天早上擦拭镜片。", CHINESE),
        ("Who polishes the lens of the tower?", "灯塔看守人每天早上擦拭镜片。", None),
        ("", PASSAGE, None),
    ],
)  # fmt: skip
def test_of_a_model_only_a_question_in_other_words_and_the_same_language_is_taken(said, text, question):
    assert question_of(said, text) == question


def test_a_question_without_a_model_leaves_out_what_stands_nowhere_else_and_little_words():
    counts = {"keeper": 9, "lighthouse": 6, "polishes": 1, "lens": 3, "morning": 7, "soft": 4, "leather": 1}
    question = question_from(PASSAGE, lambda word: counts.get(word, 20), 40)
    assert question == "keeper lighthouse morning?"
    assert not copies(question, PASSAGE, 3)
    alone = question_from(PASSAGE, lambda word: 0 if word == "leather" else 1, 40)
    assert alone, "where all its words stand nowhere else, one of them is left out"
    assert "leather" not in alone
    for nothing in ("", "Too short.", "的 灯塔看守人每天早上擦拭镜片。", "1 2 3 4 5 6 7 8 9 10"):
        assert question_from(nothing, lambda word: 1, 40) is None


# --- whom it yields to ----------------------------------------------------------------------


def test_a_sign_of_the_user_stops_the_model_at_once_and_what_is_made_is_kept(houses):
    gate = Gate()
    answers = [["Who grafts something in autumn, and why so?", done()], [gate, "Too late?", done()]]
    house = houses(ScriptedEngine(*answers, *[["Who is it that works there at night?", done()]] * 9))
    house.add(*TOPICS[:4])
    house.ready()
    assert gate.reached.wait(30)
    assert not house.engine.cancelled.is_set()
    house.companion.work.deepening._quiet = lambda: Quiet(3600, 10)
    house.companion.touch()
    assert house.engine.cancelled.wait(30)
    until(lambda: not house.companion.work.study.works_elsewhere)
    assert len(house.questions()) == 1
    house.companion.work.deepening._quiet = lambda: Quiet(0.3, 10)
    house.companion.work.worker.wake()
    assert house.measured()["questions"] == 4, "it goes on in the next idle time"


def test_nothing_is_asked_while_others_use_the_machine_or_a_person_has_stopped_it(houses):
    house = houses(ScriptedEngine(models=[]))
    house.load.percent = 80
    house.add(*TOPICS[:2])
    house.ready()
    ticks = counted(house)
    until(lambda: ticks() > 3)
    assert house.questions() == []
    house.client.delete("/api/embeddings/index")
    house.load.percent = 3
    until(lambda: house.companion.work.deepening.status().reason.why is Why.STOPPED)
    seen = ticks()
    until(lambda: ticks() > seen + 3)
    assert house.questions() == []
    house.client.post("/api/embeddings/index")
    assert house.measured()["questions"] == 2


def counted(house):
    """How often the worker has looked whether there is something to study."""
    tick, looks = house.companion.work.study.tick, []
    house.companion.work.upkeep._study = lambda: (looks.append(1), min(tick(), 0.05))[1]
    return lambda: len(looks)


def test_our_own_question_does_not_count_as_somebody_elses_load(houses):
    """A model that works for us makes the card busy: quiet is not counted anew because of it."""
    gate = Gate()
    house = houses(ScriptedEngine([gate, "Who is it that works there at night?", done()], models=[MODEL]))
    house.load = house.companion.work.deepening._reader = Borrowed(house)
    house.add(TOPICS[0])
    house.ready()
    assert gate.reached.wait(30)
    seen = house.load.reads
    until(lambda: house.load.reads > seen + 2)
    gate.open.set()
    assert house.measured()["without_model"] == 0


class Borrowed(FakeLoad):
    """Busy as long as the model works, and nobody can tell whose work that is."""

    def __init__(self, house):
        super().__init__()
        self.house = house
        self.reads = 0

    def read(self, own=(), *, elsewhere=False):
        self.reads += 1
        busy = self.house.companion.work.study.works_elsewhere
        return replace(super().read(own), percent=95 if busy else 3, others_percent=None if elsewhere else 3)


def test_it_can_be_switched_off_and_the_number_is_a_setting(houses):
    house = houses(quality_questions=0)
    house.add(*TOPICS)
    house.ready()
    ticks = counted(house)
    until(lambda: ticks() > 3)
    assert house.status()["activity"] == "off"
    refused = house.client.post("/api/quality")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert house.questions() == []
    assert house.client.put("/api/settings", json={"quality_questions": 3}).json()["quality_questions"] == 3
    assert house.client.put("/api/settings", json={"quality_questions": 301}).status_code == 422
    assert house.measured()["questions"] == 3


# --- which passages -------------------------------------------------------------------------


def test_questions_are_spread_over_the_documents_and_topped_up_when_the_library_grows(houses):
    house = houses(quality_questions=6)
    house.load.percent = 90
    parts = "\n\n".join(text_about(TOPICS[0], number) * 9 for number in range(40))
    house.companion.library.add(LOCAL_OWNER, "long.md", parts.encode())
    house.add(*TOPICS[1:3])
    quality = house.companion.store.quality
    chosen = [passage.doc_id for passage in quality.candidates(LOCAL_OWNER, 24, 6)]
    assert sorted(chosen.count(each) for each in set(chosen)) == [1, 1, 4]
    assert len(set(chosen[:3])) == 3, "each document has its turn before one has a second"
    house.load.percent = 3
    house.ready()
    assert house.measured()["questions"] == 6
    before = {item.question_id for item in house.questions()}
    house.add(*TOPICS[3:6])
    house.client.put("/api/settings", json={"quality_questions": 9})
    # It may be measured in between: the documents come before the setting.
    until(lambda: house.status()["latest"]["questions"] == 9, 60)
    now = house.status()
    assert now["questions"] == 9
    assert before < {item.question_id for item in house.questions()}, "the old ones stay, to compare with"
    assert len({item.doc_id for item in house.questions()}) == 6
    assert now["changes"]["lexical"]["questions"] == 6


def test_the_sample_library_is_measured_as_long_as_it_is_all_there_is(houses, monkeypatch):
    monkeypatch.setattr(upkeep, "SAMPLE_FOLDER", SAMPLE_FOLDER)
    house = houses(quality_questions=5)
    house.ready()
    now = house.measured()
    assert now["samples"]
    assert now["questions"] == 5
    house.add(TOPICS[0])
    assert not house.status()["samples"]
    assert house.status()["history"] == []
    assert house.measured()["questions"] == 1


# --- what goes with its document ------------------------------------------------------------


def held(house):
    """A document with the canary, and a question that has it, too."""
    text = text_about(f"{CANARY} keepers polish lenses")
    document = house.companion.library.add(LOCAL_OWNER, "held.md", text.encode())
    [passage] = house.companion.store.quality.candidates(LOCAL_OWNER, 10, 9)
    house.companion.store.quality.add(passage, f"Who polishes the {CANARY} of the tower?", None)
    return document


def files_with(house):
    folder = house.companion.settings.data_dir
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if CANARY[1:].encode() in path.read_bytes().lower()]


def test_a_question_of_a_deleted_document_is_found_nowhere_after_its_undo_time(houses):
    house = houses()
    library = house.companion.library
    document = held(house)
    library.delete(LOCAL_OWNER, document.doc_id)
    assert house.questions() == [], "it is hidden with its document"
    library.undo(LOCAL_OWNER, document.doc_id)
    assert len(house.questions()) == 1
    library.delete(LOCAL_OWNER, document.doc_id)
    library._now = lambda: datetime.now(UTC) + timedelta(seconds=11)
    for _ in range(3):
        library.purge_due()
    assert files_with(house) == []


def test_a_question_whose_passage_changes_is_found_nowhere_and_others_stay(houses):
    house = houses()
    document = held(house)
    house.add(*TOPICS[:1])
    [passage] = house.companion.store.quality.candidates(LOCAL_OWNER, 10, 9)
    house.companion.store.quality.add(passage, "Who is it that guides the tankers?", "llama3.2:3b")
    files = {"files": (document.name, text_about("other keepers mend nets").encode())}
    assert house.client.put(f"/api/documents/{document.doc_id}", files=files).is_success
    for _ in range(3):
        house.companion.library.purge_due()
    assert [item.made_by for item in house.questions()] == ["llama3.2:3b"]
    assert files_with(house) == []


def test_figures_outlive_the_questions_they_were_made_with(houses):
    house = houses()
    house.add(*TOPICS[:3])
    house.ready()
    before = house.measured()
    for document in house.companion.store.documents.list(LOCAL_OWNER)[1:]:
        house.companion.library.delete(LOCAL_OWNER, document.doc_id)
    now = house.measured(2)
    assert now["questions"] == 1
    assert now["history"][1] == before["latest"]
    assert now["changes"]["lexical"]["questions"] == 1


# --- measuring ------------------------------------------------------------------------------


def test_a_person_has_it_measured_now_before_deepening_and_again_when_that_is_done(houses):
    house = houses()
    house.load.percent = 90
    house.add(*TOPICS)
    house.ready()
    wish = house.client.post("/api/quality")
    assert (wish.status_code, wish.json()) == (202, {"wish": "measure"})
    first = house.measured()
    assert first["judgement"]["verdict"] == "no_deep"
    assert list(first["latest"]["figures"]) == ["lexical", "light", "hybrid", "feedback"]
    house.load.percent = 3
    second = house.measured(2)
    assert second["latest"]["deep"] == "all-mpnet-base-v2"
    assert second["latest"]["deep_passages"] == second["latest"]["passages"]
    assert set(second["changes"]) == {"lexical", "light", "hybrid", "feedback"}


def test_two_people_who_ask_at_once_get_their_figures_one_after_the_other(houses, monkeypatch):
    monkeypatch.setattr(study, "PIECE_S", 0.01)
    house = houses()
    house.load.percent = 90
    house.add(*TOPICS)
    library, quality = house.companion.library, house.companion.store.quality
    for topic in TOPICS:
        library.add("ada", f"{topic}.md", text_about(topic).encode())
    house.companion.work.study.measure_now("ada")
    house.companion.work.study.measure_now(LOCAL_OWNER)
    house.ready()
    until(lambda: quality.measurements("ada") and quality.measurements(LOCAL_OWNER), 60)
    assert quality.measurements("ada")[0].questions == len(TOPICS)


def test_it_is_not_measured_again_while_nothing_has_changed(houses):
    house = houses()
    house.add(*TOPICS[:3])
    house.ready()
    house.measured()
    ticks = counted(house)
    until(lambda: ticks() > 30)
    assert len(house.status()["history"]) == 1
    house.client.post("/api/quality")
    assert len(house.measured(2)["history"]) == 2, "unless somebody asks for it"


def test_without_a_light_embedder_nothing_is_measured_under_another_name(houses, monkeypatch):
    house = houses()
    house.load.percent = 90
    house.add(*TOPICS[:3])
    house.ready()

    def fails(text):
        raise EmbedderError("The embedder broke off.")

    monkeypatch.setattr(house.companion.library.layers.serving.embedder, "embed_query", fails)
    house.client.post("/api/quality")
    now = until(lambda: (seen := house.status())["trouble"] and seen, 30)
    assert now["trouble"] == "The embedder broke off."
    assert now["history"] == []


def test_what_was_missed_is_told_with_its_ranks_and_a_passage_that_stands_twice_counts_once(houses):
    house = houses()
    house.load.percent = 90
    twin = text_about("twins guard one gate").encode()
    for name in ("one.md", "two.md"):
        house.companion.library.add(LOCAL_OWNER, name, twin)
    house.add(*TOPICS)
    quality = house.companion.store.quality
    for passage in quality.candidates(LOCAL_OWNER, 10, 99):
        about = "twins guard one gate" in passage.text
        quality.add(passage, "twins guard gate?" if about else "nothing zzz like it?", None)
    house.ready()
    house.client.post("/api/quality")
    now = house.measured()
    missed = {each["document_name"] for each in now["misses"]}
    twins = [item for item in house.questions() if item.document_name in ("one.md", "two.md")]
    ranks = quality.measurements(LOCAL_OWNER)[0].ranks
    found = [ranks[item.question_id]["lexical"] for item in twins]
    assert found == [1, 1], "whichever of two equal passages is found, it is found"
    assert len(missed) > 1
    assert all(each["ranks"]["lexical"] is None for each in now["misses"])


# --- judging --------------------------------------------------------------------------------


def a_measurement(*pairs):
    """`pairs`: how many questions have this rank without and with the deep layer."""
    ranks = [{"feedback": without, "deep": deep} for count, without, deep in pairs for _ in range(count)]
    return Measurement(
        LOCAL_OWNER, datetime.now(UTC), "s", len(ranks), 0, 1, 9, "light", "deep", 9,
        {"feedback": Figures(0, 0, 0), "deep": Figures(0, 0, 0)}, dict(enumerate(ranks)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pairs", "verdict", "per_hundred"),
    [
        ([(10, 9, 2), (90, 1, 1)], Verdict.FINDS_MORE, 10),
        ([(10, None, 5), (2, 5, 6), (88, 1, 1)], Verdict.FINDS_MORE, 8),
        ([(10, 2, None), (90, 1, 1)], Verdict.FINDS_FEWER, -10),
        ([(20, 4, 2), (80, 1, 1)], Verdict.RANKS_HIGHER, 0),
        ([(20, 2, 4), (80, 1, 1)], Verdict.RANKS_LOWER, 0),
        ([(3, 9, 2), (1, 2, 9), (76, 1, 1), (20, 9, 9)], Verdict.NOTHING, 2),
        ([(90, 1, 1), (10, None, None)], Verdict.NOTHING, 0),
        ([(3, 9, 2), (1, 2, 9), (96, 1, 1)], Verdict.NO_ROOM, 2),
        ([(100, 1, 1)], Verdict.NO_ROOM, 0),
        ([(3, 9, 2), (5, 1, 1)], Verdict.TOO_FEW, 38),
        ([(8, 1, 1)], Verdict.TOO_FEW, 0),
    ],
)
def test_the_deep_layer_is_judged_by_more_than_chance(pairs, verdict, per_hundred):
    judgement = judge(a_measurement(*pairs))
    assert (judgement.verdict, judgement.per_hundred) == (verdict, per_hundred)


def test_a_sign_test_is_two_sided():
    assert sign_test(0, 0) == 1
    assert sign_test(5, 0) == sign_test(0, 5) == 0.0625
    assert sign_test(6, 0) < 0.05 < sign_test(6, 1)
