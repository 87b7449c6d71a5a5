import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from companion.library import ranking

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


def test_feedback_asks_for_what_the_best_passages_say():
    vectors = {key: np.eye(4, dtype=np.float32)[[number]] for number, key in enumerate("abcd")}
    query = ranking.feedback_query({"a": 1.0, "b": 0.5, "c": 0.25, "d": 0.1}, vectors)
    assert query is not None
    assert np.allclose(np.linalg.norm(query), 1)
    assert query[0] > query[1] > query[2] > 0
    assert query[3] == 0, "only the best three are asked"


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
    assert len(ranking.search_terms(question, lambda _w: 1, 10)) == ranking.MAX_TERMS


@given(st.integers(1, 40), st.integers(1, 60))
def test_exact_search_finds_the_nearest_first(rows, count):
    matrix = np.random.default_rng(rows).normal(size=(rows, 8)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    found = ranking.exact(matrix[0], [str(i) for i in range(rows)], matrix, count)
    assert len(found) == min(rows, count)
    assert found[0][0] == "0"
    assert [score for _key, score in found] == sorted((s for _k, s in found), reverse=True)
