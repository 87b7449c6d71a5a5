"""Whether anything that was found has to do with the question.

Knows similarities and words. It does not know how a search is done, or what is said when not.
"""

from __future__ import annotations

from collections.abc import Sequence

from companion.chat.citations import words_of
from companion.domain import Hit
from companion.library.ranking import STOP_WORDS, telling_part
from companion.tuning import PAIRS_HELD
from companion.words import is_spaceless


def is_relevant(question: str, hits: Sequence[Hit], least: float) -> bool:
    """Whether a passage is as similar as `least`, a cosine, or holds every telling word.

    Some words in common prove nothing: almost every question shares some with a library. All of
    them do: a number or a name means little to an embedder. Where words do not stand apart, a share
    of the letter pairs stands for them. Unknown similarity counts as enough, and at 0 whatever was
    found, also what points the other way.
    """
    if least <= 0:
        return bool(hits)
    asked = words_of(telling_part(question)) - STOP_WORDS
    return any(
        hit.similarity is None or hit.similarity >= least or _holds(hit.passage.text, asked) for hit in hits
    )


def _holds(text: str, words: frozenset[str]) -> bool:
    missing = words - words_of(text)
    pairs = sum(map(is_spaceless, words))
    if not all(map(is_spaceless, missing)):
        return False
    return len(missing) <= (1 - PAIRS_HELD) * pairs if pairs else bool(words)
