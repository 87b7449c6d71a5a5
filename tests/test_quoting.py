import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.chat.quoting import Quotable, quotables, quotation, split, thought
from companion.domain import ChatRequest, EngineDone, PromptMessage, Token
from companion.inference.builtin import Builtin

GUIDE = """## How do I add documents?

To add documents, open the Documents tab. Several files can be added at once. The tab shows the progress.
Each file is read alone.

- A broken file says "why" it was not read.
"""


def test_only_whole_sentences_are_quoted_and_no_headings():
    assert split(GUIDE) == [
        "To add documents, open the Documents tab.",
        "Several files can be added at once.",
        "The tab shows the progress.",
        "Each file is read alone.",
        'A broken file says "why" it was not read.',
    ]


def test_a_quotation_begins_where_the_words_of_the_question_stand():
    found = quotables("How do I add documents?", {1: GUIDE, 2: "Bees make honey from nectar."})
    assert found[0] == Quotable(1, tuple(split(GUIDE)[:3]))
    assert all(choice.number == 1 for choice in found)


def test_without_a_word_in_common_every_sentence_may_begin_one():
    found = quotables("Wherefore?", {1: GUIDE, 2: "Bees make honey from nectar."})
    assert [choice.number for choice in found] == [1, 1, 1, 1, 1, 2]


def test_where_there_is_nothing_to_quote_the_model_is_free():
    assert quotation(quotables("What?", {1: "# Only a heading"})) is None
    assert thought("Well: ", []) is None


def test_the_grammar_allows_one_to_three_sentences_in_a_row():
    rule = quotation([Quotable(2, ("One is here.", 'Two "quoted".', "Three\\3."))])
    assert rule == r'root ::= "One is here. [2]" (" " "Two \"quoted\". [2]" (" " "Three\\3. [2]")?)?'


@given(st.text(), st.text())
def test_any_text_gives_a_grammar_or_none(question, text):
    rule = quotation(quotables(question, {1: text}))
    assert rule is None or rule.startswith('root ::= "')
    assert rule is None or "\n" not in rule


@pytest.mark.weights
@pytest.mark.parametrize(
    "text", [GUIDE, 'Odd signs: \\ " ] [1] {x} ~ `y` – “z” 蜂蜜 are kept in a quotation.']
)
def test_the_built_in_model_says_nothing_but_the_quotation(builtin_gguf, text):
    async def ask():
        engine = Builtin(lambda: builtin_gguf)
        name = (await engine.models())[0].name
        question = "How do I add documents and signs?"
        choices = quotables(question, {1: text})
        request = ChatRequest(
            name,
            (PromptMessage("user", f"{text}\n\n{question}"),),
            2048,
            128,
            0.0,
            grammar=quotation(choices),
        )
        pieces = [piece async for piece in engine.stream(request)]
        await engine.close()
        assert isinstance(pieces[-1], EngineDone)
        return choices, "".join(piece.text for piece in pieces if isinstance(piece, Token))

    choices, said = asyncio.run(ask())
    allowed = {
        " ".join(f"{sentence} [1]" for sentence in choice.sentences[:count])
        for choice in choices
        for count in range(1, 4)
    }
    assert said in allowed
