"""A question made without a chat model: the telling words of a passage's most telling sentence.

The words are what somebody types who remembers some of it: neither the rarest, which would find the passage
by themselves, nor the commonest. A simulated known-item query, after Azzopardi and de Rijke, SIGIR 2006.
Pure: counts come in as a function. It does not know stores or models.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import log

from companion.library.ranking import STOP_WORDS

MANY = 3
"""Words of a question: with five of them words alone found every passage of ADI at the first place."""
SHORTEST_SENTENCE, LONGEST_SENTENCE = 6, 45
"""Words; what is shorter is a heading, what is longer is a table."""
SHORTEST_WORD = 3

_SENTENCE = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s+|\n+")
_WORD = re.compile(r"[^\W\d_][\w'’-]*")

Frequency = Callable[[str], int]
"""How many passages have a word, or a form of it."""


def question_from(text: str, frequency: Frequency, total: int) -> str | None:
    """None where no sentence has enough words that tell something."""
    counts: dict[str, int] = {}

    def count(word: str) -> int:
        if word not in counts:
            counts[word] = frequency(word)
        return counts[word]

    def rarity(words: list[str]) -> float:
        return sum(log((total + 1) / (count(word.casefold()) + 0.5)) for word in words) / len(words)

    chosen = [words for sentence in _SENTENCE.split(text) if (words := _telling(sentence, count))]
    if not chosen:
        return None
    best = max(chosen, key=rarity)
    return f"{' '.join(best)}?"


def _telling(sentence: str, count: Frequency) -> list[str]:
    """The words to ask for, in their order; none if there are too few."""
    words = _WORD.findall(sentence)
    if not SHORTEST_SENTENCE <= len(words) <= LONGEST_SENTENCE:
        return []
    known = {word.casefold(): word for word in words if _says_something(word)}
    rarest_first = sorted(known, key=lambda key: (count(key), key))
    elsewhere = [key for key in rarest_first if count(key) > 1]
    # Where too few stand in other passages, at least the rarest one is left out.
    usable = elsewhere if len(elsewhere) >= MANY else rarest_first[1:]
    if len(usable) < MANY:
        return []
    first = (len(usable) - MANY) // 2
    kept = set(usable[first : first + MANY])
    return [word for key, word in known.items() if key in kept]


def _says_something(word: str) -> bool:
    return len(word) >= SHORTEST_WORD and word.casefold() not in STOP_WORDS
