"""Passages: about 500 tokens, along the structure, nothing lost, always the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.domain import Place, Reading, Section
from companion.library.chunking import count_tokens, cut

SENTENCE = "The quick brown fox number {} jumps over the lazy dog. "


def reading(*sections: Section) -> Reading:
    return Reading("text", sections)


def prose(sentences: int, first: int = 0) -> str:
    return "".join(SENTENCE.format(first + number) for number in range(sentences))


def words(*texts: str) -> set[str]:
    return {word for text in texts for word in text.split()}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("  \n ", 0),
        ("word", 1),
        ("internationalization", 4),
        ("a, b.", 4),
        ("日本語", 3),
        ("한국", 2),
        ("x日y", 3),
    ],
)
def test_tokens_are_counted_by_one_rule_for_all_scripts(text, tokens):
    assert count_tokens(text) == tokens


def test_a_short_text_is_one_passage():
    (passage,) = cut(reading(Section("Hello there.\n\nGeneral.", Place(heading="A"))))
    assert passage.text == "Hello there.\n\nGeneral."
    assert passage.place == Place(heading="A")
    assert passage.tokens == count_tokens(passage.text)


def test_a_long_text_is_cut_at_sentences_into_passages_of_similar_size():
    cuts = cut(reading(Section(prose(200))))
    assert len(cuts) > 3
    assert all(passage.text.startswith("The quick") and passage.text.endswith("dog.") for passage in cuts)
    sizes = [passage.tokens for passage in cuts]
    assert min(sizes) > 300
    assert max(sizes) <= 500


def test_neighbours_inside_a_section_share_a_sentence_or_two():
    cuts = cut(reading(Section(prose(200))))
    for before, after in pairwise(cuts):
        shared = set(before.text.split(". ")) & {piece.rstrip(".") for piece in after.text.split(". ")}
        assert 1 <= len(shared) <= 2
        assert after.text.split(". ")[0] in before.text


def test_a_heading_begins_a_new_passage_and_nothing_is_shared_across_it():
    cuts = cut(
        reading(
            Section(prose(30), Place(heading="Setup > Windows")),
            Section(prose(30, 1000), Place(heading="Setup > Linux")),
        )
    )
    assert [passage.place.heading for passage in cuts] == ["Setup > Windows", "Setup > Linux"]
    assert not set(cuts[0].text.split(". ")) & set(cuts[1].text.split(". "))


def test_tiny_sections_of_one_parent_become_one_passage_named_after_it():
    sections = [
        Section(f"Point {name}\n\nOne line.", Place(heading=f"Guide > Point {name}")) for name in "abcd"
    ]
    (passage,) = cut(reading(*sections))
    assert passage.place.heading == "Guide"
    assert words(passage.text) == words(*(section.text for section in sections))


def test_a_title_alone_goes_with_the_section_below_it():
    cuts = cut(
        reading(Section("Guide", Place(heading="Guide")), Section(prose(80), Place(heading="Guide > Start")))
    )
    assert cuts[0].text.startswith("Guide\n\nThe quick")
    assert {passage.place.heading for passage in cuts} == {"Guide > Start"}


def test_a_small_section_of_another_chapter_stays_apart():
    cuts = cut(
        reading(
            Section(prose(20), Place(heading="One > Deep > Deeper")),
            Section(prose(6), Place(heading="Two > Other")),
        )
    )
    assert [passage.place.heading for passage in cuts] == ["One > Deep > Deeper", "Two > Other"]


def test_pages_are_not_mixed_unless_one_is_nearly_empty():
    cuts = cut(
        reading(
            Section(prose(20), Place(page=1)),
            Section(prose(20, 100), Place(page=2)),
            Section("Fin.", Place(page=3)),
        )
    )
    assert [passage.place.page for passage in cuts] == [1, 2]
    assert cuts[1].text.endswith("Fin.")


def test_cues_become_passages_with_the_time_of_their_first_and_last_cue():
    cues = [
        Section(SENTENCE.format(i).strip(), Place(start_s=2.0 * i, end_s=2.0 * i + 1)) for i in range(200)
    ]
    cuts = cut(reading(*cues))
    assert len(cuts) > 3
    assert cuts[0].place.start_s == 0
    assert cuts[-1].place.end_s == 399
    for before, after in pairwise(cuts):
        assert before.place.start_s < after.place.start_s < before.place.end_s < after.place.end_s
    for passage in cuts:
        first = int(passage.text.split()[5])
        assert passage.place.start_s == 2.0 * first


@pytest.mark.parametrize(
    "text",
    [
        "x" * 1_000_000,
        "word " * 200_000,
        "日" * 300_000,
        "a-" * 300_000,
        "!" * 300_000,
        " " * 1_000_000 + "end",
        "\n" * 1_000_000 + "end",
        ". " * 300_000,
    ],
    ids=["one word", "no sentence", "no spaces", "hyphens", "marks", "blanks", "lines", "dots"],
)
def test_a_text_without_structure_is_cut_hard(text):
    """So long that a step too many per letter would run into the time limit of every test."""
    cuts = cut(reading(Section(text)))
    assert all(0 < passage.tokens <= 600 and passage.text.strip() for passage in cuts)
    letters = sum(len("".join(passage.text.split())) for passage in cuts)
    assert letters >= len("".join(text.split()))


def test_nothing_comes_of_nothing():
    assert cut(reading(Section("  \n \n"), Section(""))) == []


def test_twenty_million_characters_are_cut():
    text = prose(20_000_000 // len(SENTENCE))
    assert len(cut(reading(Section(text)))) > 5000


TEXTS = st.text(st.sampled_from("abcXYZ ÄÉ日本한.!?,;-\n\t \u3002\"')]#|0123456789"), max_size=6000)
PLACES = st.builds(
    Place,
    page=st.none() | st.integers(1, 5),
    heading=st.none() | st.sampled_from(["A", "A > B", "A > C", "D > E > F"]),
    start_s=st.none() | st.floats(0, 100),
    end_s=st.none(),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.builds(Section, text=TEXTS, place=PLACES), max_size=12))
def test_every_word_is_in_a_passage_and_none_is_too_large(sections):
    whole = Reading("text", tuple(sections))
    cuts = cut(whole)
    assert cuts == cut(whole)
    assert all(passage.text.strip() and passage.tokens <= 600 for passage in cuts)
    assert all(passage.tokens == count_tokens(passage.text) for passage in cuts)
    missing = words(*(section.text for section in sections)) - words(*(passage.text for passage in cuts))
    # A sentence may also end between signs of a script without spaces.
    assert all(count_tokens(word) > 500 or "\u3002" in word for word in missing)
    for word in missing:
        assert all(sign in "".join(passage.text for passage in cuts) for sign in word)
