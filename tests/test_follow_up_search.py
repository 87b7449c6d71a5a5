"""Follow-ups over the sample library with the real light embedder: what they lean on helps them."""

import pytest

from companion.chat.followup import leans_on_history
from companion.chat.prompt import Exchange
from tests import conversations
from tests.conversations import score, talks

pytestmark = pytest.mark.weights

HISTORY = (Exchange("A question?", "An answer."),)


@pytest.fixture(scope="module")
def library(light_embedder, tmp_path_factory):
    with conversations.sample_library(tmp_path_factory.mktemp("talks"), light_embedder) as library:
        yield library


def test_each_answer_stands_in_the_sample_library(library):
    passages = [
        (document.name, passage.text)
        for document in library.documents("local")
        for passage in library.passages("local", document.doc_id)
    ]
    for talk in talks():
        for turn in talk.turns:
            for name, words in turn.answers:
                assert any(name == there and words in text for there, text in passages), (name, words)


@pytest.mark.parametrize("tuned_on", [True, False], ids=["tuned on", "held out"])
def test_follow_ups_are_found_better_than_as_they_were_typed(library, tuned_on):
    chosen = [talk for talk in talks() if talk.tuned_on is tuned_on]
    raw = score(library, chosen, conversations.raw)
    always = score(library, chosen, conversations.concatenated)
    ours = score(library, chosen, conversations.ours)
    assert ours.recall > raw.recall
    assert ours.mrr > raw.mrr
    assert ours.mrr >= always.mrr - 0.02


def test_whole_questions_are_not_changed_by_the_follow_ups_around_them(library):
    """All later questions: always putting the last question before them costs those that stand alone."""
    ours = score(library, talks(), conversations.ours, all_later=True)
    assert ours.mrr > score(library, talks(), conversations.concatenated, all_later=True).mrr


def test_few_questions_are_rewritten_without_need():
    whole = conversations.whole_questions()
    needless = [question for question in whole if leans_on_history(question, HISTORY)]
    assert len(needless) <= len(whole) * 0.05, needless


def test_most_follow_ups_are_recognised():
    leaning = conversations.follow_ups()
    missed = [question for question in leaning if not leans_on_history(question, HISTORY)]
    assert len(missed) <= len(leaning) * 0.2, missed
