"""Pieces of texts: neighbours joined, questions and passages shortened to what they are about.

Pure: texts in, texts out. It does not know documents, prompts or windows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from companion.chat.tokens import Calibration
from companion.words import ENDS, WIDE_ENDS, is_spaceless, words_in

LONGEST_OVERLAP = 600
"""Characters that two neighbouring passages may share."""


def join(first: str, second: str) -> str:
    """Two neighbouring passages as one text; what both have at the border is kept once."""
    for length in range(min(len(first), len(second), LONGEST_OVERLAP), 11, -1):
        if first.endswith(second[:length]):
            return first + second[length:]
    return f"{first}\n{second}"


def cut_middle(text: str, room: int, calibration: Calibration) -> str:
    """Long questions usually ask at their beginning or at their end."""
    if calibration.tokens(text) <= room:
        return text
    half = calibration.characters(room, text) // 2
    while half > 0:
        shorter = f"{text[:half]}\n[…]\n{text[len(text) - half :]}"
        if calibration.tokens(shorter) <= room:
            return shorter
        half = half * 9 // 10
    return ""


_SENTENCE = re.compile(
    rf".+?(?:(?<=[{ENDS}])\s+|(?<=[{WIDE_ENDS}])(?![{WIDE_ENDS}」』”])\s*|\n+|$)", re.DOTALL
)


def excerpt(text: str, question: str, tokens: int, calibration: Calibration) -> str:
    """The sentences around the one that shares most words with the question.

    Whole sentences, except where a single one is too long. Empty if there is no room.
    """
    if calibration.tokens(text) <= tokens:
        return text
    # With the white space behind them: a heading must keep its line.
    sentences: list[str] = [each for each in _SENTENCE.findall(text) if each.strip()]
    if not sentences or tokens < 8:
        return ""
    asked = _words(question)
    shared = [len(asked & _words(sentence)) for sentence in sentences]
    first = last = shared.index(max(shared))
    best = sentences[first]
    if calibration.tokens(best) > tokens:
        return best[: calibration.characters(tokens - 1, best)].rstrip()
    while True:
        # What follows usually explains more than what comes before.
        if last + 1 < len(sentences) and _fits(sentences[first : last + 2], tokens, calibration):
            last += 1
        elif first > 0 and _fits(sentences[first - 1 : last + 1], tokens, calibration):
            first -= 1
        else:
            return "".join(sentences[first : last + 1]).strip()


def _words(text: str) -> set[str]:
    # A letter pair is a word; two letters of an alphabet mostly only join words.
    return {word for word in words_in(text) if len(word) > 2 or is_spaceless(word)}


def _fits(sentences: Sequence[str], tokens: int, calibration: Calibration) -> bool:
    return calibration.tokens("".join(sentences).strip()) <= tokens
