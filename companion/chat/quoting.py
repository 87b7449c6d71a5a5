"""What a model too small to write may quote: sentences of the passages, one to three in a row.

Knows sentences, words and llama.cpp's grammar notation, and is pure. It does not know prompts,
engines or which model is small.

A model of 135 million parameters does not write correct sentences about a text, but it does
choose well among those that are there. So its sampling is bound by a grammar to quote: whatever
it picks is true to the passage and carries the passage's number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

from companion.words import BORDER, is_spaceless, words_in

LONGEST_SENTENCE = 320
SHORTEST_SENTENCE = 15
"""Characters."""
SENTENCES_IN_A_ROW = 3
LONGEST_ROW = 600
"""Characters: an answer of the small profile ends at 256 tokens."""
MOST_BEGINNINGS = 24
STEM = 5
"""Words that share so many first letters count as forms of one word."""

_HEADING = re.compile(r"^#{1,6}\s")
_MARKER = re.compile(r"^(?:[-*+>|]|\d+[.)])\s+")
_EMPTY_WORDS = frozenset(
    "a about an and are as at be by can could did do does for from has have how i in is it its me my of on or"
    " our she should that the their them there these they this to was we were what when where which who why"
    " will with would you your".split()
)


@dataclass(frozen=True, slots=True)
class Quotable:
    """Sentences of one passage that stand in a row."""

    number: int
    """Of the passage, as cited."""
    sentences: tuple[str, ...]


def quotables(question: str, passages: Mapping[int, str]) -> list[Quotable]:
    """Where a quotation may begin: at the sentences that share the most words with the question.

    `passages` maps a number to a text, best first. Without a word in common every sentence may
    begin one.
    """
    asked = _stems(question)
    found = [
        (
            len(asked & _stems(sentences[start])),
            Quotable(number, _row(sentences[start:])),
        )
        for number, text in passages.items()
        for sentences in [split(text)]
        for start in range(len(sentences))
    ]
    most = max((shared for shared, _ in found), default=0)
    # Half of the best will do: the model is to choose, not the count of words.
    return [quotable for shared, quotable in found if 2 * shared >= most][:MOST_BEGINNINGS]


def split(text: str) -> list[str]:
    """Sentences that can be quoted: without headings, list markers, and what is too short or long."""
    lines = (line for line in text.splitlines() if not _HEADING.match(line))
    sentences = (_MARKER.sub("", part.strip()) for part in BORDER.split("\n".join(lines)))
    return [part for part in sentences if _shortest(part) <= len(part) <= LONGEST_SENTENCE]


def _shortest(sentence: str) -> int:
    """A letter of a script without spaces says as much as two or three of an alphabet."""
    return SHORTEST_SENTENCE // 2 if is_spaceless(sentence) else SHORTEST_SENTENCE


def _row(sentences: Sequence[str]) -> tuple[str, ...]:
    lengths = accumulate(len(sentence) for sentence in sentences)
    fitting = sum(length <= LONGEST_ROW for length in islice(lengths, SENTENCES_IN_A_ROW))
    return tuple(sentences[: max(fitting, 1)])


def quotation(choices: Sequence[Quotable]) -> str | None:
    """GBNF in which an answer is one of the quotations, each sentence with its number.

    None where there is nothing to quote.
    """
    if not choices:
        return None
    return "root ::= " + " | ".join(_rule(choice) for choice in choices)


def thought(beginning: str, choices: Sequence[Quotable]) -> str | None:
    """GBNF in which a thought is `beginning` and one sentence; None where there is nothing to quote."""
    if not choices:
        return None
    sentences = " | ".join(_literal(choice.sentences[0]) for choice in choices)
    return f"root ::= {_literal(beginning)} ({sentences})"


def _rule(choice: Quotable) -> str:
    first, *more = (_literal(f"{sentence} [{choice.number}]") for sentence in choice.sentences)
    rest = ""
    for sentence in reversed(more):
        rest = f'(" " {sentence}{" " + rest if rest else ""})?'
    return f"{first} {rest}".strip()


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", " ").replace("\n", " ")
    return f'"{escaped}"'


def _stems(text: str) -> set[str]:
    return set(_stemmed(words_in(text)))


def _stemmed(words: Iterable[str]) -> Iterable[str]:
    return (word[:STEM] for word in words if word not in _EMPTY_WORDS)
