import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from companion.library import ranking
from companion.tuning import QUESTION_TERMS

SCORES = st.dictionaries(st.text(min_size=1, max_size=4), st.floats(-50, 50), max_size=30)


@given(SCORES, SCORES, st.floats(0, 1))
def test_a_mix_stays_between_nothing_and_one(first, second, share):
    mixed = ranking.mix(first, second, share)
    assert set(mixed) == set(first) | set(second)
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in mixed.values())


@given(SCORES)
def test_stretching_keeps_the_order(scores):
    stretched = ranking.min_max(scores)
    for one in scores:
        for other in scores:
            if scores[one] < scores[other]:
                assert stretched[one] <= stretched[other]


def test_only_the_best_two_hundred_of_a_list_count():
    many = {f"{number:03d}": float(number) for number in range(300)}
    mixed = ranking.mix(many, {}, 0.5)
    assert "299" in mixed
    assert "099" not in mixed


def test_a_share_of_one_leaves_the_second_ranking_alone():
    assert ranking.top(ranking.mix({"a": 1.0, "b": 0.0}, {"b": 3.0, "a": 1.0}, 1.0), 1) == {"b": 1.0}


LIGHT = {f"{number:03d}": 0.6 - number / 1000 for number in range(200)}


def test_what_a_single_passage_says_is_found_though_it_means_little_to_an_embedder():
    for holder in ("199", "elsewhere"):
        assert list(ranking.top(ranking.fuse(LIGHT, {holder: 7.5}), 1)) == [holder]


def test_a_word_of_many_passages_does_not_beat_a_meaning():
    words = {f"{number:03d}": 2.0 + number % 3 for number in range(200)}
    near = LIGHT | {"007": 0.95}
    assert list(ranking.top(ranking.fuse(near, words), 1)) == ["007"]


@given(SCORES)
def test_standard_scores_keep_the_order_and_begin_at_nothing(scores):
    told = ranking.standard(scores)
    assert set(told) == set(scores)
    assert all(score >= 0 for score in told.values())
    for one in scores:
        for other in scores:
            if scores[one] < scores[other]:
                assert told[one] <= told[other]


def test_a_library_of_one_passage_is_ranked_too():
    assert ranking.fuse({"a": 0.4}, {"a": 1.2})["a"] > 1
    assert ranking.fuse({"a": 0.4}, {}) == {"a": 0.5}
    assert ranking.fuse({}, {}) == {}


def test_in_a_small_library_a_word_of_one_long_document_outweighs_what_only_seems_alike():
    light = {f"other {number}": 0.2 + number / 300 for number in range(60)} | {"alike": 0.48}
    lexical = {f"part {number}": 7.5 for number in range(6)}
    assert set(ranking.top(ranking.fuse(light, lexical), 6)) == set(lexical)


def test_feedback_asks_for_what_the_best_passages_say():
    vectors = {key: np.eye(4, dtype=np.float32)[[number]] for number, key in enumerate("abcd")}
    query = ranking.feedback_query({"a": 1.0, "b": 0.5, "c": 0.25, "d": 0.1}, vectors)
    assert query is not None
    assert np.allclose(np.linalg.norm(query), 1)
    assert query[0] > query[1] > 0
    assert query[2] == query[3] == 0, "only the best two are asked"


def test_no_feedback_without_vectors():
    assert ranking.feedback_query({"a": 1.0}, {}) is None


def test_words_that_are_everywhere_are_dropped():
    frequency = {"gradio": 3, "library": 900}.get
    assert ranking.search_terms("What is the Gradio library?", lambda w: frequency(w, 0), 1000) == ["gradio"]


def test_a_question_of_common_words_only_keeps_them():
    assert ranking.search_terms("what is it", lambda _w: 1000, 1000) == ["what", "is", "it"]
    assert ranking.search_terms("the library", lambda _w: 1000, 1000) == ["library"]


def test_a_very_long_question_is_cut():
    question = " ".join(f"word{number}" for number in range(10_000))
    assert len(ranking.search_terms(question, lambda _w: 1, 10)) == QUESTION_TERMS


@given(st.integers(1, 40), st.integers(1, 60))
def test_exact_search_finds_the_nearest_first(rows, count):
    matrix = np.random.default_rng(rows).normal(size=(rows, 8)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    found = ranking.exact(matrix[0], [str(i) for i in range(rows)], matrix, count)
    assert len(found) == min(rows, count)
    assert found[0][0] == "0"
    assert [score for _key, score in found] == sorted((s for _k, s in found), reverse=True)
