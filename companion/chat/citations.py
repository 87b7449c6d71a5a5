"""References like [1] in an answer: cleaned while it streams, or found afterwards.

Knows brackets, code and words. It does not know models, documents or how a reference looks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from companion.chat.indented import IndentedCode
from companion.chat.verbatim import Fence, fence_behind, touched, verbatim
from companion.tuning import MATCH_SHARE, MATCH_WORDS
from companion.words import ENDS, WIDE_ENDS, size_of, words_in

LONGEST_REFERENCE = 60
DEEPEST_REFERENCE = 2
"""Brackets within brackets, as in `[[1], [2]]`."""
LONGEST_BEGINNING = 80
"""Characters of a line, behind which no fence is looked for."""

_OPENING, _CLOSING = "[【\uff3b", "]】\uff3d"
_DIGITS = "".join(chr(zero + value) for zero in (0x30, 0x660, 0x6F0, 0xFF10) for value in range(10))
"""Also Arabic, Persian and full-width ones."""
_DASHES = "\u002d\u2010\u2011\u2012\u2013\u2014\uff0d~\u301c\uff5e"
_COMMAS = ",;\u060c\u061b\u3001\uff0c\uff1b"
_INSIDE = frozenset(f"{_DIGITS}{_DASHES}{_COMMAS} \u00a0\u202f{_OPENING}{_CLOSING}")
_NUMBER = re.compile(rf"(\d+)(?:\s*[{re.escape(_DASHES)}]\s*(\d+))?")
_REFERENCE = re.compile(r"[ \t]*\[\d{1,2}\]")
_FORMULAS = {r"\(": r"\)", r"\[": r"\]", "$$": "$$"}
_ABBREVIATIONS = "Dr Mr Mrs Ms Prof St No Nr Fig Abb Vol vs bzw ca approx cf".split()
_UNABBREVIATED = r"(?<!\b[^\W\d])" + "".join(rf"(?<!\b{each})" for each in _ABBREVIATIONS)
"""Before a full stop that ends a sentence: neither one of these nor a single letter, as in “e.g.”."""
_SENTENCE = re.compile(
    rf"[^\s.!?{WIDE_ENDS}][^\n]*?"
    rf"(?:{_UNABBREVIATED}[{ENDS}]+(?=[\s\"”')]|$)|[{WIDE_ENDS}]+|(?=\n)|$)",
    re.MULTILINE,
)
_LINK = re.compile(r"\]\([^\s()]*\)")
_STOP_WORDS = frozenset(
    "about after all also an and any are as at be because been but by can could do does for from had has "
    "have how if in into is it its may more most no not of on only or other our out over so some such "
    "than that the their them then there these they this to under up was we were what when where which "
    "who will with would you your passage passages document documents according".split()
)


class _Where(Enum):
    TEXT = auto()
    SPAN = auto()
    """Code within a line."""
    BLOCK = auto()
    """A fenced block of code."""
    MATH = auto()


class CitationStream:
    """Tokens in, tokens out; references come out as `[n]`, unknown numbers not at all.

    Decides character by character, so the same text gives the same result however it is split.
    What may still become a reference is held back: `[1` may be `[1]` or `[1, 2]`.
    """

    def __init__(self, known: Collection[int]) -> None:
        self._known = frozenset(known)
        self._used: list[int] = []
        self._where = _Where.TEXT
        self._opened: Fence | None = None
        """Of the block that it is in, or was in last."""
        self._ends = ""
        """With what the span or the formula ends."""
        self._ticks = ""
        self._mark = ""
        """A backslash or a dollar that the next character may make the mark of a formula."""
        self._line = ""
        """Its beginning, as far as a fence may stand behind it."""
        self._lines = IndentedCode()
        self._line_is_code = False
        self._spaces = ""
        self._held = ""
        self._previous = "\n"
        self._removed_space = False

    @property
    def used(self) -> tuple[int, ...]:
        """Known numbers in the order of their first use."""
        return tuple(self._used)

    def feed(self, text: str) -> str:
        return "".join(self._step(character) for character in text)

    def close(self) -> str:
        """What was held back when the text ended. Nothing the second time."""
        rest = ""
        while self._held:
            rest += self._give_up()
        rest, self._spaces = rest + self._spaces, ""
        return rest

    def _step(self, character: str) -> str:
        if self._held:
            return self._continue(character)
        self._turn_of_ticks(character)
        self._turn_of_line(character)
        self._turn_of_marks(character)
        if self._where is _Where.TEXT and character == " ":
            self._spaces += character
            self._previous = character
            return ""
        if self._opens_reference(character):
            self._held = character
            return ""
        return self._pass_on(character)

    def _opens_reference(self, character: str) -> bool:
        in_text = self._where is _Where.TEXT and not self._line_is_code
        return in_text and character in _OPENING and self._previous != "\\"

    def _continue(self, character: str) -> str:
        self._held += character
        if not _may_be_reference(self._held):
            return self._give_up()
        if _is_whole(self._held):
            reference, self._held = self._held, ""
            return self._normalise(reference)
        return ""

    def _give_up(self) -> str:
        """What is held is no reference, but one may begin behind its first bracket."""
        broken, self._held = self._held, ""
        return self._pass_on(broken[0]) + self.feed(broken[1:])

    def _normalise(self, reference: str) -> str:
        numbers = _numbers(reference)
        if not numbers or _is_interval(reference, numbers) or self._is_index(numbers):
            return "".join(self._pass_on(each) for each in reference)
        known = [number for number in numbers if number in self._known]
        self._used += [number for number in known if number not in self._used]
        self._previous = "]"
        if not known:
            self._removed_space = self._removed_space or bool(self._spaces)
            self._spaces = ""
            return ""
        return self._take_spaces("[") + "".join(f"[{number}]" for number in known)

    def _is_index(self, numbers: Sequence[int]) -> bool:
        """As in “x[0] is the first”."""
        return numbers == [0] and self._previous.isalnum()

    def _pass_on(self, character: str) -> str:
        said = self._take_spaces(character) + character
        if character == "\n" and self._where is _Where.SPAN:
            # An odd backtick in a sentence must not hide the references of the rest.
            self._where = _Where.TEXT
        self._previous = character
        return said

    def _take_spaces(self, following: str) -> str:
        spaces, self._spaces = self._spaces, ""
        if self._removed_space and not spaces and (following.isalnum() or following == "["):
            spaces = " "
        self._removed_space = False
        return spaces

    def _turn_of_line(self, character: str) -> None:
        """Follow the beginnings of lines: with their first letter they may be code."""
        blank = not self._line.strip(" \t")
        if character == "\n":
            if blank:
                self._lines.blank()
                self._where = _Where.TEXT if self._where is _Where.MATH else self._where
            self._line, self._line_is_code = "", False
            return
        if blank and character not in " \t":
            self._begin_line(character)
        if len(self._line) < LONGEST_BEGINNING:
            self._line += character

    def _begin_line(self, first: str) -> None:
        if self._where is _Where.BLOCK and self._opened and self._opened.is_left_by(first):
            self._where = _Where.TEXT
        self._line_is_code = self._where is _Where.TEXT and self._lines.is_code(self._line, first)

    def _turn_of_ticks(self, character: str) -> None:
        """Follow a run of ` or ~; when it ends, code may have begun or ended."""
        if character in "`~" and (not self._ticks or self._ticks[0] == character):
            self._ticks += character
            return
        ticks, self._ticks = self._ticks, character if character in "`~" else ""
        if ticks:
            self._end_of_ticks(ticks)

    def _end_of_ticks(self, ticks: str) -> None:
        fence = fence_behind(self._line.removesuffix(ticks), ticks)
        if self._where is _Where.BLOCK:
            if fence and self._opened and fence.closes(self._opened):
                self._where = _Where.TEXT
        elif self._where is _Where.SPAN:
            if ticks == self._ends:
                self._where = _Where.TEXT
        elif fence:
            self._where, self._opened = _Where.BLOCK, fence
        elif self._where is _Where.TEXT and ticks[0] == "`":
            self._where, self._ends = _Where.SPAN, ticks

    def _turn_of_marks(self, character: str) -> None:
        """Follow the marks of formulas, in which brackets are brackets."""
        mark = self._mark + character
        escaped = self._mark == "\\"
        self._mark = "" if escaped or mark == "$$" or character not in "\\$" else character
        if self._where is _Where.MATH and mark == self._ends:
            self._where = _Where.TEXT
        elif self._where is _Where.TEXT and not self._line_is_code and mark in _FORMULAS:
            self._where, self._ends = _Where.MATH, _FORMULAS[mark]


def _may_be_reference(held: str) -> bool:
    """Whether more characters can still make this a reference, or it is one."""
    if len(held) > LONGEST_REFERENCE:
        return False
    if held[0] == "【" and "†" in held:
        return bool(re.fullmatch(r"【\d{1,2}†[^【\n]*", held))
    if held[0] == "【" and re.fullmatch(r"【\d{1,2}†", held):
        return True
    return set(held) <= _INSIDE and _depth(held) <= DEEPEST_REFERENCE and not re.search(r"\d{3}", held)


def _is_whole(held: str) -> bool:
    return _depth(held) == 0


def _depth(held: str) -> int:
    """Brackets that are open."""
    return sum(held.count(each) for each in _OPENING) - sum(held.count(each) for each in _CLOSING)


def _numbers(reference: str) -> list[int]:
    """`[1, 3-5]` is 1, 3, 4, 5; in order, each once."""
    found: dict[int, None] = {}
    for first, last in _NUMBER.findall(reference.partition("†")[0]):
        for number in range(int(first), int(last or first) + 1):
            found[number] = None
    return list(found)


def _is_interval(reference: str, numbers: Sequence[int]) -> bool:
    """Passages are counted from one: `[0, 1]` is a range of values. Not what has brackets within."""
    return 0 in numbers and len(numbers) > 1 and not set(reference[1:-1]) & set(_OPENING)


def without_references(text: str) -> str:
    """The text of an earlier answer: its numbers mean nothing in another turn. Code keeps its own."""
    kept = verbatim(text)
    return _REFERENCE.sub(lambda found: found[0] if touched(found.start(), found.end(), kept) else "", text)


# --- references found afterwards ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Matched:
    """An answer with references that were found by comparing words."""

    text: str
    numbers: tuple[int, ...]
    """Those found, in the order of the text."""


def match_sentences(answer: str, passages: Mapping[int, str], cited: Collection[int] = ()) -> Matched:
    """Give each sentence without a reference the number of the passage it repeats, if there is one.

    A word counts more the fewer passages have it, and most when none has it: a sentence
    with words of its own is not proven by a passage. What repeats a passage that the model
    `cited` elsewhere stays as it is: the number would read as if the model had set it here, too.
    """
    words = {number: words_of(text) for number, text in passages.items()}
    pieces: list[str] = []
    numbers: dict[int, None] = {}
    end = 0
    for start, stop in _sentences(answer):
        if _REFERENCE.search(answer[start:stop]) or _REFERENCE.match(answer, stop):
            continue
        number = _best_passage(words_of(answer[start:stop]), words)
        if number is None or number in cited:
            continue
        numbers[number] = None
        at = start + _end_of_words(answer[start:stop])
        pieces += [answer[end:at], f" [{number}]"]
        end = at
    return Matched("".join([*pieces, answer[end:]]), tuple(numbers))


def _sentences(answer: str) -> Iterator[tuple[int, int]]:
    code = verbatim(answer)
    for match in _SENTENCE.finditer(answer):
        start, stop = match.span()
        cut = touched(start, stop, code)
        # Code within a sentence is part of it; nothing but code, or a cut through it, is no sentence.
        whole = all(start <= begin and end <= stop for begin, end in cut) and (start, stop) not in cut
        if whole and not match[0].startswith(("#", "|")):
            yield start, stop


def _end_of_words(sentence: str) -> int:
    """Where its number goes: before what ends it, but behind a link, which it would break."""
    link = max((found.end() for found in _LINK.finditer(sentence)), default=0)
    return max(link, len(sentence.rstrip(f" \t{ENDS}{WIDE_ENDS}\"”')*_")))


def _best_passage(sentence: frozenset[str], passages: Mapping[int, frozenset[str]]) -> int | None:
    if size_of(sentence) < MATCH_WORDS:
        return None
    weights = {word: _weight(word, passages) for word in sentence}
    total = sum(weights.values())
    best, number = MATCH_SHARE, None
    for candidate, words in passages.items():
        shared = sentence & words
        share = sum(weights[word] for word in shared) / total
        if size_of(shared) >= MATCH_WORDS and (share > best or (number is None and share == best)):
            best, number = share, candidate
    return number


def _weight(word: str, passages: Mapping[int, frozenset[str]]) -> float:
    having = sum(word in words for words in passages.values())
    return math.log(1 + len(passages) / (having or 0.5))


def words_of(text: str) -> frozenset[str]:
    """The telling words of a text, without their endings."""
    found = (word for word in words_in(text.replace("_", " ")) if len(word) > 1)
    return frozenset(_stem(word) for word in found if word not in _STOP_WORDS)


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word
