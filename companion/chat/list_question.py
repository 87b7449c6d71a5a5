"""Questions about the library itself, such as “which files do you have?”, told from all others.

Knows words and days. It does not know documents: whether one of a name is there, others see.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from companion.chat.days import WHEN, Days, days_of

# A whole question must fit, word for word: one that only looks like these is searched for as usual.
LONGEST = 200
"""Characters; a longer text is about something else."""


class Wanted(StrEnum):
    """What somebody wants to know of the library."""

    NAMES = "names"
    NUMBER = "number"
    NEWEST = "newest"
    OLDEST = "oldest"
    LARGEST = "largest"
    SMALLEST = "smallest"
    BY_NAME = "by name"
    """Whether there is anything of a name, or from somebody."""
    OUTLINE = "outline"
    """What is in one document."""
    FACTS = "facts"
    """Kind, size, day and state of one document."""


@dataclass(frozen=True, slots=True)
class ListQuestion:
    """What is asked about the library's list."""

    wanted: Wanted
    kind: str | None = None
    """A source type; None: all."""
    days: Days | None = None
    name: str | None = None
    """Of one document, or a part of names, as it was typed."""
    impersonal: bool = False
    """It names neither the library nor somebody's doing, and may be about what the documents tell."""


KINDS = {
    "pdf": "pdf",
    "e-mail": "email",
    "email": "email",
    "mail": "email",
    "notebook": "notebook",
    "transcript": "transcript",
    "subtitle": "transcript",
    "table": "csv",
    "spreadsheet": "csv",
    "csv": "csv",
    "web page": "html",
    "html": "html",
    "word": "docx",
    "docx": "docx",
    "markdown": "markdown",
    "text": "text",
    "xml": "xml",
}
_EVERYDAY = ("word", "text", "table")
"""“How many words are there?” is not about documents, “how many word files” is."""


def _any_of(words: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


_KIND = _any_of(KINDS)
_FILES = "(?:file|document|doc)s?"
_NOUN = rf"(?:(?:{_any_of(KINDS.keys() - set(_EVERYDAY))})s?|(?:(?:{_KIND})s? )?{_FILES})"
_OF_KIND = re.compile(rf"\b({_KIND})s?\b")
_OWN = r"(?:(?:all|any)(?: of)? )?(?:(?:the|my|your|our) )?(?:own )?"
_LIBRARY = r"(?:in|of|to|into|from|for) (?:the|my|your|our|this) (?:library|collection|documents|list)"
_NOW = r"(?: (?:now|right now|currently|at the moment|so far|already|here|there|at all|in total|altogether))?"
_HAVE = (
    r"(?:do (?:you|i|we) (?:currently |already )?(?:have(?: access to)?|know|know of|see|own)|"
    r"have (?:you|i|we)(?: got)?|are (?:there|here)|"
    r"are (?:available|loaded|stored|indexed|searchable|uploaded|added|listed)|are in scope|exist|"
    r"can (?:you|i|we) (?:see|read|search|access|ask about)|"
    r"(?:have|did) (?:i|we) (?:add|upload|give you|given you|import)(?:ed)?|"
    r"(?:were|was) (?:added|uploaded|imported)|(?:has|have) been (?:added|uploaded|imported)|"
    r"are(?: currently| now| already)?)"
)
_TAIL = rf"(?: {_LIBRARY})?(?: (?:from |added )?(?P<when>{WHEN}))?{_NOW}"
_IS_THERE = r"(?:do (?:you|i|we) have|are there|is there|have (?:you|i|we) got)"
_ANY = rf"(?:anything|something|(?:any |an? )?{_NOUN})"
_SHOW = r"(?:(?:list|show|name)(?: me)?(?: a list of| the names of)?|give me (?:a list of|the names of))"
_YOU_HAVE = r"(?:that )?(?:you|i|we) (?:have|added|uploaded|know)"
_ADDED = r"(?:already |ever )?(?:add|upload|import|give you|given you)(?:ed)?"
_LAST = "newest|latest|most recent"
_DOCUMENT = rf"(?:(?:the|my) )?(?:(?:file|document) )?(?P<name>\S.*?)(?: {_LIBRARY})?"

_NAMES_OR_NUMBER = (
    rf"(?:what|which) {_NOUN} {_HAVE}{_TAIL}",
    rf"{_SHOW} (?:all|my|your|our|all (?:of )?(?:the|my|your|our)) {_NOUN}(?: {_YOU_HAVE})?{_TAIL}",
    rf"{_SHOW} (?:the )?{_NOUN} {_YOU_HAVE}{_TAIL}",
    rf"(?:list|show|name)(?: me)?(?: the)? {_FILES}",
    rf"(?:show|give|list)(?: me)? (?:a|the) (?:full |complete )?list of {_OWN}{_NOUN}{_TAIL}",
    rf"what are (?:all )?(?:the (?:names|titles) of )?(?:all )?(?:my|your|our) {_NOUN}{_TAIL}",
    rf"(?:did|have) (?:i|we) {_ADDED} {_ANY}(?: {_LIBRARY})? (?P<when>{WHEN})",
    rf"what (?:is|do (?:you|i|we) have) {_LIBRARY}{_NOW}",
    rf"what (?:did|have) (?:i|we) {_ADDED}(?: {_LIBRARY})? (?:from )?(?P<when>{WHEN})",
    rf"what (?:was|has been) (?:added|uploaded|imported)(?: {_LIBRARY})? (?P<when>{WHEN})",
    rf"{_IS_THERE} {_ANY}(?: {_LIBRARY})? (?:from |added |of )(?P<when>{WHEN})",
    rf"(?:is|are) there {_ANY} {_LIBRARY}",
    rf"(?:what|which) {_NOUN} {_YOU_HAVE}{_TAIL}",
    rf"do (?:you|i|we) have (?:any {_NOUN}|{_FILES}){_TAIL}",
    rf"what is new(?: {_LIBRARY})? (?P<when>{WHEN})",
)
_SHAPES: tuple[tuple[Wanted, str], ...] = (
    *((Wanted.NAMES, shape) for shape in _NAMES_OR_NUMBER),
    (Wanted.NUMBER, rf"how many {_NOUN}(?: {_HAVE})?{_TAIL}"),
    (Wanted.NUMBER, rf"(?:what is )?(?:the )?(?:total )?number of {_OWN}{_NOUN}{_TAIL}"),
    (Wanted.NUMBER, r"how (?:large|big) is (?:the|my|your|our) (?:library|collection)"),
    (
        Wanted.NEWEST,
        rf"(?:what|which(?: {_NOUN})?) (?:(?:did|have) (?:i|we) {_ADDED}|(?:was|were) (?:added|uploaded))"
        rf"(?: {_LIBRARY})? (?:last|recently|lately|most recently)",
    ),
    *(
        (wanted, shape.format(words))
        for shape in (
            rf"(?:what|which) {_NOUN} is (?:the|my|your|our) (?:{{}})(?: {_FILES})?(?: {_LIBRARY})?",
            rf"(?:what|which) is (?:the|my|your|our) (?:{{}}) {_NOUN}(?: {_LIBRARY})?",
        )
        for wanted, words in (
            (Wanted.NEWEST, _LAST),
            (Wanted.OLDEST, "oldest"),
            (Wanted.LARGEST, "largest|biggest|longest"),
            (Wanted.SMALLEST, "smallest|shortest"),
        )
    ),
    (Wanted.NEWEST, rf"what is new {_LIBRARY}"),
    (
        Wanted.NEWEST,
        rf"(?:what|which) (?:is|was) the (?:last|{_LAST}) (?:thing|{_NOUN})(?: that)? "
        rf"(?:i|we)(?: have)? {_ADDED}",
    ),
    (Wanted.BY_NAME, rf"{_IS_THERE} {_ANY} (?:from|by|named|called) {_DOCUMENT}"),
    (
        Wanted.BY_NAME,
        rf"(?:which|what) {_NOUN} (?:are|is|do (?:you|i|we) have) (?:from|by|named|called) {_DOCUMENT}",
    ),
    (Wanted.BY_NAME, rf"what do (?:you|i|we) have (?:from|by) {_DOCUMENT}"),
    (Wanted.OUTLINE, rf"what is (?:in|inside) {_DOCUMENT}"),
    (Wanted.OUTLINE, rf"what does {_DOCUMENT} (?:contain|hold|cover)"),
    (
        Wanted.OUTLINE,
        rf"(?:show (?:me )?|what is )?the (?:outline|contents|table of contents|structure) of {_DOCUMENT}",
    ),
    (
        Wanted.OUTLINE,
        rf"(?:what|which) (?:chapters|sections|headings) (?:are in|does|has) {_DOCUMENT}(?: have)?",
    ),
    (Wanted.FACTS, rf"how (?:large|big|long) is {_DOCUMENT}"),
    (Wanted.FACTS, rf"how many (?:pages|passages) (?:are in|does|has) {_DOCUMENT}(?: have)?"),
    (Wanted.FACTS, rf"when (?:(?:did|have) (?:i|we) {_ADDED}|was) {_DOCUMENT}(?: (?:added|uploaded))?"),
    (Wanted.FACTS, rf"(?:did|have) (?:i|we) {_ADDED} {_DOCUMENT}(?: yet| already)?"),
    (Wanted.FACTS, rf"(?:do (?:you|i|we) have|have you got|do you know|can you (?:see|read)) {_DOCUMENT}"),
    (
        Wanted.FACTS,
        rf"is {_DOCUMENT} (?:there|{_LIBRARY}|searchable|ready|indexed|read|available)(?: yet| already)?",
    ),
    (Wanted.FACTS, rf"why (?:was|is|could) {_DOCUMENT} not (?:be )?read"),
    (Wanted.FACTS, rf"(?:what|which) (?:kind|type|format|sort) (?:of (?:file|document) )?is {_DOCUMENT}"),
    (Wanted.FACTS, rf"what is the (?:state|status|size) of {_DOCUMENT}"),
)
_COMPILED = tuple((wanted, re.compile(shape)) for wanted, shape in _SHAPES)
_POLITE = re.compile(
    r"^(?:(?:hi|hello|hey|ok|okay|thanks|thank you|so|and|now|please|well)\b[,!.]? |"
    r"(?:can|could|would|will) you (?:please )?(?=list|show|name|tell)|(?:please )?tell me |"
    r"i (?:want|would like|'d like) to know )+"
)
_PERSONAL = re.compile(rf"\b(?:i|we|you|my|our|your)\b|{_LIBRARY}")
_OTHER_DAYS = re.compile(rf"(?:(?:and|what about|how about|or) )+(?P<when>{WHEN})")

_OF_THESE = re.compile(
    r"(?:and )?(?P<number>how many)(?: (?:are|is) (?:there|they|those|these|it))?|"
    rf"(?:and )?(?:(?P<count>how many)|which|what)(?: ones)?(?: of (?:them|those|these))? are {_NOUN}|"
    rf"(?:(?:and|or|what about|how about) )+(?:the |any )?{_NOUN}"
)


def list_question(text: str, today: date, before: Sequence[str] = ()) -> ListQuestion | None:
    """What a question wants of the library's list; None if it is a question like all others.

    `before` are the questions before it: “and yesterday?” asks the same of other days, “how many of
    them are PDFs?” of one kind.
    """
    if len(text) > LONGEST:
        return None
    plain = _plain(text)
    asked = list_question(before[-1], today, before[:-1]) if before and _is_short(plain) else None
    return (asked and _of_the_same(asked, plain, today)) or _by_shape(_POLITE.sub("", plain), today)


def _is_short(plain: str) -> bool:
    return bool(_OTHER_DAYS.fullmatch(plain) or _OF_THESE.fullmatch(plain))


def _of_the_same(asked: ListQuestion, plain: str, today: date) -> ListQuestion | None:
    """What was asked before, of other days or of fewer documents."""
    if other := _OTHER_DAYS.fullmatch(plain):
        days = days_of(other["when"], today)
        return replace(asked, days=days) if asked.days and days else None
    these = _OF_THESE.fullmatch(plain)
    if not these or asked.wanted not in (Wanted.NAMES, Wanted.NUMBER):
        return None
    kind = _OF_KIND.search(plain)
    counted = these["number"] or these["count"]
    return replace(
        asked,
        wanted=Wanted.NUMBER if counted else asked.wanted,
        kind=asked.kind if these["number"] else kind and KINDS[kind[1]],
    )


def _by_shape(plain: str, today: date) -> ListQuestion | None:
    for wanted, shape in _COMPILED:
        found = shape.fullmatch(plain)
        if found:
            parts = found.groupdict()
            when, name = parts.get("when"), parts.get("name")
            days = days_of(when, today) if when else None
            if when and days is None:
                return None
            # What stands in a name is no kind.
            kind = _OF_KIND.search(plain[: found.start("name")] if name else plain.removesuffix(when or ""))
            return ListQuestion(
                wanted,
                KINDS[kind[1]] if kind else None,
                days,
                name and _bare(name),
                impersonal=not _PERSONAL.search(plain),
            )
    return None


def _plain(text: str) -> str:
    text = " ".join(text.casefold().replace("’", "'").split()).rstrip("?!. ")
    text = re.sub(r",? (?:please|thanks|thank you)$", "", text).rstrip("?!. ")
    return re.sub(r"^(what|which|who)'?s\b", r"\1 is", text)


def _bare(name: str) -> str:
    return name.strip("\"'“”„«»` ")
