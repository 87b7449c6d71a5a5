"""Words and sentences in any script: where they begin and end, and which spellings are one word.

Knows scripts. It does not know which words tell anything, nor where a text comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

SPACELESS = (
    "\u0e00-\u0e3a\u0e40-\u0eff"  # Thai, Lao
    "\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u17dc-\u17ff"  # Burmese, Khmer
    "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"  # Korean: with spaces, but endings hang on words
    "\u2e80-\u2fdf\u3005-\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u312f\u31a0-\u31ff\uff66-\uff9f"  # Japanese syllables, Bopomofo
)
"""Letters of scripts in which words do not stand apart, as ranges for brackets of `re` and of GLOB."""

MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0900-\u0963\u0966-\u096f\u0971-\u0dff"
)
r"""Signs on letters, and the scripts of India with theirs: `\w` would end a word at each of them."""

FOLDED = {
    "ß": "ss",
    "ẞ": "ss",
    **dict.fromkeys("\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652\u0670\u0640", ""),
    **dict.fromkeys("أإآٱ", "\u0627"),
    "ى": "ي",
    "ة": "\u0647",
}
"""Spellings that are one word: ß, and of Arabic the vowel signs, the stretching and the forms of alef, ya
and ta; as Lucene's Arabic normaliser has them."""
_FOLD = str.maketrans(FOLDED)

_RUN = re.compile(rf"[{SPACELESS}]+|(?:(?![{SPACELESS}])[\w{MARKS}])+")
_SPACELESS = re.compile(f"[{SPACELESS}]")

ENDS = ".!?؟۔।"  # noqa: RUF001 the Urdu full stop is meant
"""Marks that end a sentence where white space follows, also in Arabic, Urdu and Hindi …"""
WIDE_ENDS = "。\uff01\uff1f\uff61"
"""… and those of Chinese and Japanese, where nothing need follow."""
_CLOSING = "」』”’\uff09"
BORDER = re.compile(
    rf"(?<=[{ENDS}…])[\"'”’»)]*\s+(?=\S)|(?<=[{WIDE_ENDS}])[{_CLOSING}]*\s*(?=[^\s{_CLOSING}{WIDE_ENDS}])|\n+"
)
"""Between two sentences of a running text."""


def words_in(text: str) -> Iterator[str]:
    """In their order and in small letters. Where words do not stand apart, each two neighbouring letters
    count as one; so does a letter all by itself.

    >>> list(words_in("Die Straße"))
    ['die', 'strasse']
    >>> list(words_in("AI助手は"))
    ['ai', '助手', '手は']
    """
    for run in _RUN.findall(text):
        run = run.translate(_FOLD).casefold()
        if len(run) > 1 and is_spaceless(run[0]):
            yield from (run[at : at + 2] for at in range(len(run) - 1))
        elif run:
            yield run


def size_of(words: Iterable[str]) -> float:
    """How many words these are, about: of letter pairs it takes two to say as much as a word."""
    return sum(0.5 if is_spaceless(word) else 1 for word in words)


def is_spaceless(text: str) -> bool:
    """Whether any letter is of a script in which words do not stand apart."""
    return _SPACELESS.search(text) is not None
