"""Words in any script, and that the full text knows the same ones."""

# ruff: noqa: RUF001 texts in their own scripts

import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from companion.chat.citations import match_sentences
from companion.chat.excerpt import excerpt
from companion.chat.followup import leans_on_history, with_topic
from companion.chat.prompt import Exchange
from companion.chat.quoting import quotables, split
from companion.chat.relevance import is_relevant
from companion.chat.tokens import Calibration
from companion.domain import Reading, Section
from companion.library.chunking import cut
from companion.library.language import foreign_share
from companion.library.ranking import search_terms
from companion.quality.invention import copies, question_of
from companion.storage.fulltext import create_full_text
from companion.storage.store import Store
from companion.ui.render.passages import passage_text
from companion.ui.render.quotations import quotations
from companion.words import BORDER, words_in
from tests.fakes import hit

SPACELESS = json.loads((Path(__file__).parent / "languages" / "spaceless.json").read_text("utf-8"))
COFFEE, TEA = SPACELESS["passages"]["zh-warranty"], SPACELESS["passages"]["zh-tea"]

INSERT = (
    "INSERT INTO document_chunks (chunk_id, doc_id, chunk_index, text, chroma_id, seq)"
    " VALUES (:id, 'd', :n, :text, :id, :n)"
)
LETTERS = "aBzé ßẞ.-_7。、「」保修期的ひカー々ヴ한국어ชาเขียวที่كِتابٌأـىहिन्दी🎂\ufe0f\U00020000"
SCRIPTS = st.text(st.sampled_from(LETTERS), max_size=40)


class Shelf:
    """Passages in a database of their own."""

    def __init__(self, folder):
        self.store = Store.open(folder / "companion.db")
        self.raw = sqlite3.connect(folder / "companion.db")
        self.raw.execute("INSERT INTO documents (doc_id, source_type) VALUES ('d', 'text')")
        self.raw.commit()

    def put(self, **passages):
        rows = [{"id": key, "n": n, "text": text} for n, (key, text) in enumerate(passages.items(), 1)]
        self.raw.executemany(INSERT, rows)
        self.raw.commit()

    def ask(self, question, owners=("local",)):
        words = self.store.words
        terms = search_terms(question, lambda term: words.frequency(term, owners), words.passages(owners))
        return [chunk_id for chunk_id, _ in words.search(owners, terms, 50)]

    def index(self):
        """Everything that the full text holds."""
        self.raw.execute("DROP TABLE IF EXISTS temp.held")
        self.raw.execute("CREATE VIRTUAL TABLE temp.held USING fts5vocab(main, passages_fts, 'instance')")
        return self.raw.execute("SELECT term, doc, offset FROM held ORDER BY 1, 2, 3").fetchall()

    def close(self):
        self.raw.close()
        self.store.close()


@pytest.fixture
def shelf(tmp_path):
    shelf = Shelf(tmp_path)
    yield shelf
    shelf.close()


# --- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Fox's den, 3.5 m", ["the", "fox", "s", "den", "3", "5", "m"]),
        ("Straße STRASSE Müller", ["strasse", "strasse", "müller"]),
        ("保修期三年", ["保修", "修期", "期三", "三年"]),
        ("茶。", ["茶"]),
        ("使用AI助手", ["使用", "ai", "助手"]),
        ("コーヒー", ["コー", "ーヒ", "ヒー"]),
        ("كِتَابٌ كتــاب أحمد", ["كتاب", "كتاب", "احمد"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("", []),
    ],
)
def test_words_of_a_text_are_these(text, words):
    assert list(words_in(text)) == words


def test_sentences_end_in_every_script():
    assert BORDER.split("One. Two! 三年。四年？「五年。」六年 هل؟ نعم. ہاں۔ ہے") == [
        "One.", "Two!", "三年。", "四年？", "「五年。", "六年 هل؟", "نعم.", "ہاں۔", "ہے"
    ]  # fmt: skip


# --- the full text --------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["questions", "held_out"])
def test_words_alone_put_the_right_passage_first_in_chinese_japanese_korean_and_thai(shelf, part):
    shelf.put(**SPACELESS["passages"])
    for question, right in SPACELESS[part]:
        assert shelf.ask(question)[0] == right, question


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("茶", "茶叶很香"),
        ("茶", "新鲜的绿茶"),
        ("茶", "喝茶。"),
        ("X200的电池", "型号X200支持5G"),
        ("5G", "型号X200支持5G网络"),
        ("Wie lang ist die Straße?", "Die STRASSE ist lang."),
        ("Strasse", "an der Straße"),
        ("Muller", "Herr Müller"),
        ("كتاب", "قرأت الكِتَابَ و كِتَابٌ آخر"),
        ("أحمد", "احمد هنا"),
        ("المدرسه", "المدرسة كبيرة"),
        ("हिन्दी", "यह हिन्दी है"),
        ("ΟΔΟΣ", "η οδος"),
    ],
)
def test_a_word_is_found_however_it_is_spelt(shelf, question, text):
    shelf.put(right=text, other="Something else altogether.")
    assert shelf.ask(question) == ["right"]


def test_compound_words_of_german_are_found_whole_only(shelf):
    shelf.put(right="Die Garantiezeit beträgt drei Jahre.")
    assert shelf.ask("Garantiezeit") == ["right"]
    assert shelf.ask("Zeit") == []


@settings(max_examples=60, deadline=None)
@given(text=SCRIPTS)
def test_every_word_of_a_text_finds_it(tmp_path_factory, text):
    shelf = Shelf(tmp_path_factory.mktemp("any"))
    shelf.put(it=text)
    for word in words_in(text):
        if any(map(str.isalnum, word)):
            assert shelf.store.words.search(["local"], [word], 5), word
    shelf.close()


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(SCRIPTS, min_size=3, max_size=3))
def test_after_changes_the_full_text_holds_what_one_made_anew_holds(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("any")
    shelf = Shelf(folder)
    first, second, third = texts
    shelf.put(a=first, b=second, c=third)
    shelf.raw.execute("UPDATE document_chunks SET text = ? WHERE chunk_id = 'b'", [first + second])
    shelf.raw.execute("UPDATE document_chunks SET seq = 9 WHERE chunk_id = 'a'")
    shelf.raw.execute("DELETE FROM document_chunks WHERE chunk_id = 'c'")
    shelf.raw.commit()
    shelf.raw.execute("INSERT INTO passages_fts(passages_fts) VALUES ('integrity-check')")
    shelf.raw.commit()
    kept = shelf.index()
    engine = create_engine(f"sqlite:///{folder / 'companion.db'}")
    with engine.begin() as writing:
        create_full_text(writing)
    engine.dispose()
    assert shelf.index() == kept
    shelf.close()


def test_with_several_people_the_same_passages_are_found_of_ones_own_only(shelf):
    shelf.put(**SPACELESS["passages"])
    shelf.store.words.private = True
    for question, right in SPACELESS["questions"]:
        assert shelf.ask(question)[0] == right, question
    assert shelf.ask("咖啡机的保修期", owners=("somebody",)) == []
    assert shelf.store.words.frequency("茶", ["local"]) == 2
    assert shelf.store.words.frequency("茶", ["somebody"]) == 0


def test_words_of_both_kinds_are_weighed_together(shelf):
    shelf.put(
        right="机型RX500的保修期为三年。", other="机型RX200的保修期为一年。", english="The RX500 is blue.",
        **{f"more{n}": f"Passage {n} about a machine." for n in range(40)},
    )  # fmt: skip
    assert shelf.ask("RX500的保修期是多久？") == ["right", "other", "english"]


# --- what compares texts --------------------------------------------------------------------


def test_a_sentence_without_spaces_is_matched_to_its_passage():
    answer = "咖啡机自购买之日起保修三十六个月。今天天气很好，我们去公园散步。"
    matched = match_sentences(answer, {1: TEA, 2: COFFEE})
    assert matched.text == "咖啡机自购买之日起保修三十六个月 [2]。今天天气很好，我们去公园散步。"
    assert matched.numbers == (2,)


def test_an_arabic_sentence_is_matched_whatever_its_vowel_signs():
    passage = "تبلغ مدة ضمان الغسالة سنتين من تاريخ الشراء."
    assert match_sentences("مُدَّةُ ضَمَانِ الغسّالة سنتين.", {1: passage}).numbers == (1,)


def test_most_of_a_questions_letter_pairs_make_a_passage_relevant_and_a_few_do_not():
    far = [hit(1, COFFEE, similarity=0.1)]
    assert is_relevant("咖啡机的保修期是多久？", far, 0.25)
    assert not is_relevant("火山喷发后形成什么岩石？", far, 0.25)
    assert not is_relevant("RX9咖啡机的保修期是多久？", far, 0.25), "a name that is not there"


def test_an_excerpt_is_around_the_sentence_that_was_asked_for():
    text = TEA * 8 + COFFEE + TEA * 8
    assert "三十六个月" in excerpt(text, "咖啡机的保修期", 80, Calibration())


def test_what_may_be_quoted_are_sentences():
    assert split(COFFEE) == [
        "本公司生产的咖啡机自购买之日起保修三十六个月。", "保修期内，因材料或工艺缺陷造成的故障可免费维修。"
    ]  # fmt: skip
    first = quotables("保修几个月？", {1: TEA, 2: COFFEE})[0]
    assert first.number == 2
    assert first.sentences[0].startswith("本公司")


def test_a_quotation_without_spaces_is_marked():
    answer = "咖啡机保修期内，因材料或工艺缺陷造成的故障可免费维修。[2]别的。"
    assert quotations(answer, 2) == ("咖啡机保修期内，因材料或工艺缺陷造成的故障可免费维修",)
    quoted = quotations("保修期内，因材料或工艺缺陷造成的故障可免费维修。[2]别的。", 2)
    marked = passage_text(COFFEE, "text", quoted)
    assert "<mark>保修期内，因材料或工艺缺陷造成的故障可免费维修</mark>" in marked
    assert "<mark>" not in passage_text(COFFEE, "text", ("保修",))


def test_follow_ups_are_told_in_scripts_without_spaces():
    history = [Exchange("咖啡机的保修期是多久？", "三十六个月。")]
    for question in ("为什么？", "なぜですか？", "왜 그런가요?", "绿茶呢？"):
        assert leans_on_history(question, history), question
    assert not leans_on_history("图书馆一次可以借几本书？", history)
    terms = search_terms(with_topic("为什么？", history), lambda _word: 1, 100)
    assert {"咖啡", "保修"} <= set(terms)


def test_a_made_question_that_copies_its_passage_is_none():
    assert copies("因材料或工艺缺陷造成的故障怎么办？", COFFEE)
    assert question_of("机器坏了多长时间内可以免费修？", COFFEE) == "机器坏了多长时间内可以免费修？"


def test_long_texts_without_spaces_are_cut_at_sentences():
    for sentence, mark in (
        ("保修期内造成的故障可免费维修。", "。"),
        ("هل تبلغ مدة ضمان الغسالة سنتين؟ ", "؟"),
    ):
        passages = cut(Reading("text", (Section(sentence * 120),)))
        assert len(passages) > 1
        assert all(passage.text.endswith(mark) for passage in passages)
        assert all(passage.tokens <= 550 for passage in passages)


def test_a_language_is_told_by_script_and_common_words():
    english = "The keeper of the lighthouse is paid by the town and lives in it."
    german = "Der Wärter ist von der Stadt bezahlt und wohnt nicht in dem Turm."
    assert foreign_share([english, "RX500 2024", ""]) == 0
    assert foreign_share([german, COFFEE, "تبلغ مدة الضمان", english]) == 0.75
