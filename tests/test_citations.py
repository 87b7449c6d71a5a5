"""References like [1]: what a model writes, and what a person reads."""

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from companion.chat.citations import CitationStream, match_sentences, without_references


def read(*tokens, known=(1, 2, 3, 4)):
    stream = CitationStream(known)
    text = "".join(stream.feed(token) for token in tokens) + stream.close()
    return text, stream.used


@pytest.mark.parametrize(
    ("written", "shown", "used"),
    [
        ("Water boils [1].", "Water boils [1].", (1,)),
        ("Both say so [1][2].", "Both say so [1][2].", (1, 2)),
        ("Both say so [2, 1].", "Both say so [2][1].", (2, 1)),
        ("Both say so [1; 3].", "Both say so [1][3].", (1, 3)),
        ("All say so [1-3].", "All say so [1][2][3].", (1, 2, 3)),
        ("All say so [1\u20113].", "All say so [1][2][3].", (1, 2, 3)),
        ("All say so [1\u20143].", "All say so [1][2][3].", (1, 2, 3)),
        ("如此【1、3】。", "如此[1][3]。", (1, 3)),
        ("如此[1\uff0c2]。", "如此[1][2]。", (1, 2)),
        ("そうです\uff3b\uff12\uff3d。", "そうです[2]。", (2,)),
        ("هكذا [\u0661، \u0662].", "هكذا [1][2].", (1, 2)),
        ("So it is 【1】.", "So it is [1].", (1,)),
        ("So it is 【2†guide.md】.", "So it is [2].", (2,)),
        ("So it is [[4]].", "So it is [4].", (4,)),
        ("So it is [[4], [2]].", "So it is [4][2].", (4, 2)),
        ("First [2], then [1], then [2].", "First [2], then [1], then [2].", (2, 1)),
        ("Ends with [1]", "Ends with [1]", (1,)),
        ("An open [1 [2] bracket", "An open [1 [2] bracket", (2,)),
    ],
)
def test_every_way_to_write_a_reference_reads_the_same(written, shown, used):
    assert read(written) == (shown, used)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Nobody said so [9].", "Nobody said so."),
        ("One of them did [9][1].", "One of them did [1]."),
        ("Nobody [9] said so.", "Nobody said so."),
        ("Nobody [9]said so.", "Nobody said so."),
        ("One of them did [1, 9].", "One of them did [1]."),
        ("[7] Nobody.", " Nobody."),
        ("Counted from zero [0].", "Counted from zero."),
    ],
)
def test_a_number_without_a_passage_is_not_shown(written, shown):
    assert read(written)[0] == shown


@pytest.mark.parametrize(
    "written",
    [
        "In code `a[1]` stays.",
        "```python\nprint(a[9])\n```\n",
        "~~~\na[9]\n~~~\n",
        "1. Run:\n\n    ```java\n    a[9]\n    ```\n",
        "10. ```java\n    a[9]\n    ```\n",
        "> ```\n> a[9]\n> ```\n",
        "```\n    ```\na[9]\n```\n",
        r"The value \(x \in [1, 2]\) holds.",
        r"So is \[x \in [1, 2]\] and $$[1,3]$$, whatever it costs.",
        "Ask x[0] for the first.",
        "``a ` [9]`` stays",
        "As in\n\n    a = b[9]\n    [9]\n\n    c\n",
        "As in\n\n\ta = b[9]\n",
        "- [ ] a task\n- [x] done",
        "[a link](https://example.org)",
        "In [2024] it rained [[deeply]].",
        "A share lies in [0, 1], and a sign in [0-2].",
        r"Escaped \[9] stays",
        "Brackets [ without end",
        "",
        "two  spaces   stay \n and\ttabs",
    ],
)
def test_what_is_no_reference_stays_as_it_is(written):
    assert read(written) == (written, ())


@pytest.mark.parametrize(
    "code",
    [
        "```\na[9]\n```\n",
        "1. ```bash\n   ls\n   ```\n2. Then",
        "> ```\n> a[9]\n\nThen",
        "> ```\n> a[9]\n> ```\n",
        r"\(x\)",
        "$$x$$",
        r"A price of \$$5, \(not closed" + "\n\n",
        r"A backslash \\(here)",
    ],
)
def test_behind_code_and_formulas_references_count_again(code):
    assert read(code + " it says so [2].") == (code + " it says so [2].", (2,))


def test_references_after_code_count_again():
    text = "Use `a[9]` [1].\n```\nb[9]\n```\nThat is all [2][9]."
    assert read(text) == ("Use `a[9]` [1].\n```\nb[9]\n```\nThat is all [2].", (1, 2))


def test_what_is_set_in_under_an_item_or_in_a_paragraph_is_no_code():
    for text in ("- An item\n\n    goes on [1][9].", "A line\n    goes on [1][9].", "    At once [1][9]."):
        assert read(text) == (text.replace("[9]", ""), (1,))
    text = "- An item\n\nA text\n\n    a[9]\n\nand so on [1]."
    assert read(text) == (text, (1,))


def test_an_odd_backtick_hides_references_of_its_line_only():
    assert read("It's 5` long [9].\nAnd [9] so on [1].") == ("It's 5` long [9].\nAnd so on [1].", (1,))


def test_the_beginning_of_a_reference_is_held_back_until_it_is_clear():
    stream = CitationStream([1])
    assert stream.feed("Yes [1") == "Yes"
    assert stream.feed("]") == " [1]"
    assert stream.feed(" [") == ""
    assert stream.feed("x") == " [x"


answers = st.text(alphabet=st.sampled_from(list("ab. 012345[]【】†`~,-\n\\()$>")), max_size=60)


@given(text=answers, cuts=st.lists(st.integers(0, 60), max_size=12))
def test_a_text_reads_the_same_however_it_is_split(text, cuts):
    places = sorted({0, len(text), *[cut for cut in cuts if cut < len(text)]})
    tokens = [text[start:end] for start, end in pairwise(places)]
    assert read(*tokens) == read(text)


@given(text=st.text(alphabet=st.sampled_from(list("ab. 012349[]【】,-\n")), max_size=60))
@example("[0 [9]]")
def test_no_text_smuggles_in_a_number_without_a_passage(text):
    shown, _ = read(text)
    assert {int(number) for number in re.findall(r"\[(\d{1,2})\]", shown)} <= {1, 2, 3, 4}


@given(text=answers)
def test_reading_twice_changes_nothing_more(text):
    once, used = read(text.replace("`", "").replace("~", "").replace("\\", ""))
    assert read(once)[1] == used


def test_numbers_of_an_earlier_turn_are_removed():
    assert without_references("It is blue [1][2], mostly [12]. a[i]") == "It is blue, mostly. a[i]"


def test_what_is_asked_next_about_code_is_asked_about_the_code_as_it_was():
    code = "```python\nreturn xs[0] + xs[12]\n```"
    assert without_references(f"So [1]:\n\n{code}\n\nSee `a[3]` [1].") == f"So:\n\n{code}\n\nSee `a[3]`."


PASSAGES = {
    1: "Backups are written every night at three to the folder named archive.",
    2: "The deep embedder reads the library while the computer is idle and stops when you type.",
}


def test_a_sentence_that_repeats_a_passage_is_matched_to_it():
    answer = "The backups are written every night, to the archive folder. I hope this helps you today!"
    matched = match_sentences(answer, PASSAGES)
    assert matched.text == (
        "The backups are written every night, to the archive folder [1]. I hope this helps you today!"
    )
    assert matched.numbers == (1,)


def test_each_sentence_is_matched_by_itself():
    answer = (
        "- While the computer is idle, the deep embedder reads the library.\n"
        "- Backups are written every night"
    )
    matched = match_sentences(answer, PASSAGES)
    assert matched.text == (
        "- While the computer is idle, the deep embedder reads the library [2].\n"
        "- Backups are written every night [1]"
    )
    assert matched.numbers == (2, 1)


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (
            "Backups are written every night at three, says Dr. Ames, to the folder named archive.",
            "Backups are written every night at three, says Dr. Ames, to the folder named archive [1].",
        ),
        (
            "Every night at three `backup` is run, and backups are written to the folder `archive`.",
            "Every night at three `backup` is run, and backups are written to the folder `archive` [1].",
        ),
        (
            "- Every night at three, backups are written to the folder `archive`",
            "- Every night at three, backups are written to the folder `archive` [1]",
        ),
        (
            "Backups are written every night at three to the folder named [archive](https://ex.org).",
            "Backups are written every night at three to the folder named [archive](https://ex.org) [1].",
        ),
    ],
)
def test_the_number_stands_at_the_end_of_the_sentence_and_breaks_nothing(answer, shown):
    assert match_sentences(answer, PASSAGES).text == shown


@pytest.mark.parametrize(
    "answer",
    [
        "The moon is made of green cheese and nobody knows why.",
        "Backups exist.",
        "# Backups are written every night to the archive folder",
        "```\nBackups are written every night to the archive folder.\n```",
        "So:\n\n    Backups are written every night to the archive folder",
        "`Backups are written every night to the archive folder`",
        "`Yes. Backups are written every night at three to the folder named archive. No`",
        "| Backups are written every night | archive folder |",
        "The night archive of the national museum was founded by a rich merchant.",
        "",
    ],
)
def test_what_no_passage_says_is_not_matched(answer):
    assert match_sentences(answer, PASSAGES) == match_sentences(answer, {})
    assert match_sentences(answer, PASSAGES).text == answer


def test_a_sentence_that_has_its_reference_is_left_alone():
    for answer in (
        "Backups are written every night to the archive folder [7].",
        "Backups are written every night to the archive folder. [7]",
        "Backups [7] are written every night to the archive folder.",
    ):
        assert match_sentences(answer, PASSAGES) == match_sentences(answer, {})


def test_beside_references_of_the_model_only_other_passages_are_matched():
    answer = (
        "Backups are written every night [1]. They go to the folder named archive, every night at three. "
        "The deep embedder reads the library while the computer is idle."
    )
    matched = match_sentences(answer, PASSAGES, cited={1})
    assert matched.text == answer.removesuffix(".") + " [2]."
    assert matched.numbers == (2,)
