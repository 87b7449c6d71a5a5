"""What an answer takes from a passage: the sentences and quotations that carry its number.

Knows how answers cite. It does not know passages: whether the words stand there is seen there.
"""

from __future__ import annotations

import re

from companion.words import BORDER, ENDS, WIDE_ENDS

_NUMBERS = r"(?:\[\d{1,3}\]\s*)+"
_LATE = re.compile(rf"([{ENDS}…{WIDE_ENDS}][\"'”’»)」』]*)\s*({_NUMBERS})")
"""A citation behind the full stop belongs to the sentence before it."""
_MARKER = re.compile(r"^\s*(?:[-*+>]|\d+[.)]|#{1,6})\s+")
_MARKS = re.compile(r"\*+|(?<!\w)_+|_+(?!\w)|`+")
_IN_QUOTES = re.compile(r"“([^”]+)”|«([^»]+)»|„([^“]+)“|\"([^\"]+)\"|「([^」]+)」")
_EDGES = f" \t,;:…\"'“”’»«()「」『』，、{ENDS}{WIDE_ENDS}"  # noqa: RUF001 wide marks are meant


def quotations(answer: str, number: int) -> tuple[str, ...]:
    """What may be quoted under `[number]`: whole sentences, and what stands in quotation marks."""
    in_order = _LATE.sub(r" \2\1 ", answer)
    found: list[str] = []
    for sentence in BORDER.split(in_order):
        if f"[{number}]" in sentence:
            bare = _MARKS.sub("", re.sub(_NUMBERS, "", _MARKER.sub("", sentence)))
            found += [bare, *(next(filter(None, match)) for match in _IN_QUOTES.findall(bare))]
    return tuple(dict.fromkeys(filter(None, (" ".join(words.split()).strip(_EDGES) for words in found))))
