"""A question that a chat model makes from a passage: what it is asked, and what of its answer counts.

Pure. It does not know engines, or where passages come from.
"""

from __future__ import annotations

import re

from companion.domain import PromptMessage
from companion.library.fence import harmless
from companion.library.language import language_of, script_of
from companion.words import is_spaceless, words_in

MAX_TOKENS = 90
TEMPERATURE = 0.4
LONGEST_PASSAGE = 3000
"""Characters of a passage that the model reads."""
LONGEST_COPY = 6
"""Words in a row that a question may share with its passage: more would be looked up, not searched."""
FEWEST_LETTERS, MOST_LETTERS = 12, 240

SYSTEM = (
    "You write questions for testing a search engine. You get one passage of a document. Write one question "
    "that this passage answers and that no other text would answer as well. Ask as somebody who has not seen "
    "the passage: in your own words, without copying its phrases, without mentioning a passage, a text or a "
    "document. Write in the language of the passage. Answer with the question alone, on one line."
)
_FRAME = "The passage, between the lines:\n-----\n{text}\n-----\nThe question, in its language:"

_LINE = re.compile("-{5,}")

_MARKS = "?\uff1f\u061f"
"""Also the full-width and the Arabic one."""
_PREFACE = re.compile("(?:^|[:\uff1a])[\\s*_]*$")
"""Ends a line that is empty, or only says that a question comes."""
_LABEL = re.compile(r"^\s*(?:\*\*)?(?:question|frage|pregunta|q)(?:\*\*)?\s*:\s*(?:\*\*)?", re.IGNORECASE)
_MENTIONS = re.compile(
    r"\b(this|the|that|given|following) (passage|text|excerpt|document|paragraph|section)\b", re.IGNORECASE
)


def messages(text: str) -> tuple[PromptMessage, ...]:
    """What the model reads."""
    return (
        PromptMessage("system", SYSTEM),
        PromptMessage("user", _FRAME.format(text=_LINE.sub("----", harmless(text[:LONGEST_PASSAGE])))),
    )


def question_of(answer: str, text: str) -> str | None:
    """The question in what a model said; None if it is none, gives the passage away, or is in another
    language."""
    said = next((line for line in answer.splitlines() if not _PREFACE.search(line)), "")
    question = " ".join(_LABEL.sub("", said).strip().strip("\"'“”„«»*_` ").split())
    letters = sum(character.isalnum() + is_spaceless(character) for character in question)
    usable = (
        question.endswith(tuple(_MARKS))
        and sum(question.count(mark) for mark in _MARKS) == 1
        and FEWEST_LETTERS <= letters <= MOST_LETTERS
        and not _MENTIONS.search(question)
        and not copies(question, text)
        and same_language(question, text)
    )
    return question if usable else None


def copies(question: str, text: str, most: int = LONGEST_COPY) -> bool:
    """More than `most` words in a row stand in the text as they are."""
    words, within = list(words_in(question)), f" {' '.join(words_in(text))} "
    runs = (" ".join(words[start : start + most + 1]) for start in range(len(words) - most))
    return any(f" {run} " in within for run in runs)


def same_language(question: str, text: str) -> bool:
    """As far as scripts and common words tell: what nobody can tell is taken for the same."""
    if script_of(question) != script_of(text):
        return False
    one, other = language_of(question), language_of(text)
    return one is None or other is None or one == other
