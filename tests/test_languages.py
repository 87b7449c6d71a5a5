"""Documents in German, Chinese and Arabic through the front door, with the real light embedder."""

# ruff: noqa: RUF001 texts in their own scripts

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from companion.api.doors import doors
from companion.app import build
from companion.chat.prompt import NOTHING_FOUND
from companion.config import Settings
from companion.domain import LOCAL_OWNER
from companion.library.ranking import search_terms
from tests.fakes import FakeEmbedder, ScriptedEngine, done

pytestmark = pytest.mark.weights

TEXTS = {
    "garantie.txt": (
        "Die Garantie der Waschmaschine gilt zwei Jahre ab dem Kauf. Müller & Söhne in der Königstraße "
        "repariert sie in dieser Zeit kostenlos."
    ),
    "turm.txt": "Der Leuchtturm von Skagen ist grün gestrichen und im Sommer täglich geöffnet.",
    "咖啡机.txt": "本公司生产的咖啡机自购买之日起保修三十六个月。保修期内的故障可免费维修。",
    "图书馆.txt": "市图书馆周一闭馆，其余时间早上九点开门。每位读者一次最多可以借阅十本书。",
    "الغسالة.txt": "تبلغ مُدَّة ضَمَان الغسّالة سنتين من تاريخ الشراء. يُصلَح العطل مجانًا خلال هذه المدة.",
    "المكتبة.txt": "تفتح المكتبة أبوابها من التاسعة صباحًا، وتغلق يوم الاثنين. يمكن استعارة عشرة كتب.",
}
ASKED = [
    ("Wie lange gilt die Garantie der Waschmaschine?", "garantie.txt"),
    ("Wer repariert in der KÖNIGSTRASSE?", "garantie.txt"),
    ("Welche Farbe hat der Leuchtturm?", "turm.txt"),
    ("咖啡机的保修期是多久？", "咖啡机.txt"),
    ("一次可以借几本书？", "图书馆.txt"),
    ("ما مدة ضمان الغسالة؟", "الغسالة.txt"),
    ("متى تغلق المكتبه؟", "المكتبة.txt"),
]


class House:
    def __init__(self, folder, light):
        self.engine = ScriptedEngine()
        self.companion = build(
            Settings(data_dir=folder / "data", offline=True), engines=[self.engine], light=light
        )
        self.client = TestClient(Starlette(routes=doors(self.companion)), base_url="http://127.0.0.1:7860")

    def add(self, **texts):
        for name, text in texts.items():
            answer = self.client.post("/api/documents", files={"files": (name, text.encode())})
            assert answer.is_success, answer.text

    def first(self, question):
        hits = self.client.get("/api/search", params={"q": question}).json()["hits"]
        return hits[0]["document_name"]

    def answers(self, question, said):
        self.engine.scripts = [[said, done()]]
        session_id = self.client.post("/api/sessions", json={"thinking_mode": "rag"}).json()["session_id"]
        return self.client.post(f"/api/sessions/{session_id}/messages", json={"content": question}).json()

    def conditions(self):
        return {each["code"]: each for each in self.client.get("/api/health").json()["conditions"]}


@pytest.fixture(scope="module")
def house(tmp_path_factory, light_embedder):
    house = House(tmp_path_factory.mktemp("languages"), light_embedder)
    house.add(**TEXTS)
    house.companion.library.open_index()
    yield house
    house.companion.close()


@pytest.mark.parametrize(("question", "name"), ASKED)
def test_words_and_meanings_together_find_the_right_document(house, question, name):
    assert house.first(question) == name


@pytest.mark.parametrize(("question", "name"), ASKED)
def test_words_alone_find_the_right_document(tmp_path, question, name):
    house = House(tmp_path, FakeEmbedder())
    house.companion.library.add(LOCAL_OWNER, "other.txt", b"The tower of the sea is painted red.")
    house.add(**TEXTS)
    store = house.companion.store
    terms = search_terms(question, store.words.frequency, store.words.passages())
    best = store.words.search([LOCAL_OWNER], terms, 1)[0][0]
    assert store.passages.by_id([best])[best][1] == name
    house.companion.close()


@pytest.mark.parametrize(
    ("question", "said", "name"),
    [
        (ASKED[0][0], "Die Garantie der Waschmaschine gilt zwei Jahre.", "garantie.txt"),
        (ASKED[3][0], "咖啡机自购买之日起保修三十六个月。", "咖啡机.txt"),
        (ASKED[5][0], "مدة ضمان الغسالة سنتين من تاريخ الشراء.", "الغسالة.txt"),
    ],
)
def test_an_answer_in_the_language_of_a_document_is_matched_to_it(house, question, said, name):
    message = house.answers(question, said)
    assert message["content"] != NOTHING_FOUND
    assert [each["document_name"] for each in message["sources"] if each["matched"]] == [name]
    end = said[-1]
    assert message["content"].startswith(said.removesuffix(end) + " [")
    assert message["content"].endswith("]" + end)


@pytest.mark.parametrize(
    "question", ["茶", "？？？", "ـــ", "\u064b\u064c", "保" * 5000, '"" OR 茶*', "\u0e34", "ß", "🎂"]
)
def test_whatever_is_asked_is_answered(house, question):
    found = house.client.get("/api/search", params={"q": question})
    assert found.status_code == 200
    assert house.answers(question, "…")["state"] == "complete"


def test_a_multilingual_embedder_is_advised_where_many_documents_are_not_in_english(tmp_path):
    house = House(tmp_path, FakeEmbedder())
    house.add(**{f"{n}.txt": f"The keeper number {n} is at the door of the tower." for n in range(3)})
    assert "english_embedder" not in house.conditions()
    house.add(**TEXTS)
    told = house.conditions()["english_embedder"]
    assert "all-MiniLM-L6-v2 was made for English" in told["sentence"]
    assert told["action"]["code"] == "choose_embedder"
    for document in house.client.get("/api/documents").json()["documents"]:
        if document["name"] in TEXTS:
            house.client.delete(f"/api/documents/{document['doc_id']}")
    assert "english_embedder" not in house.conditions()
    house.add(**TEXTS)
    house.companion.store.settings.save({"embed_light": "paraphrase-multilingual-MiniLM-L12-v2"})
    assert "english_embedder" not in house.conditions()
    house.companion.close()
