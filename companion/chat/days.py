"""Days as people name them: “yesterday”, “last week”, “in March”.

Pure: words and the day that is today in, days out. It does not know clocks or zones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

_NUMBER = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "few": 3, "couple of": 2}
_WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_MONTHS = "january february march april may june july august september october november december".split()
_MONTH = "|".join(_MONTHS)
_NTH = r"\d{1,2}(?:st|nd|rd|th)?"
_DATE = (
    rf"\d{{4}}-\d\d-\d\d|(?:{_MONTH}) {_NTH}(?:,? \d{{4}})?|(?:the )?{_NTH} (?:of )?(?:{_MONTH})(?: \d{{4}})?"
)
_SPAN = r"(?:this|last) (?:week|month|year)"
WHEN = (
    rf"(?:today|yesterday|the day before yesterday|(?:\d{{1,3}}|{'|'.join(_NUMBER)}|an?|one) days? ago|"
    rf"{_SPAN}|the (?:last|past) (?:week|month|year)|"
    rf"(?:in |within |during )?the (?:last|past) (?:\d{{1,3}}|{'|'.join(_NUMBER)}) (?:day|week|month|year)s?|"
    rf"(?:on |last |since )?(?:{'|'.join(_WEEKDAYS)})|(?:on |since )?(?:{_DATE})|"
    rf"since (?:yesterday|{_SPAN})|(?:in|since) (?:{_MONTH})(?: \d{{4}})?|(?:in|since) (?:19|20)\d\d)"
)
"""A pattern of all that `days_of` understands, in lower case."""


@dataclass(frozen=True, slots=True)
class Days:
    """From the first to the last of them, both included."""

    first: date
    last: date
    words: str


def days_of(words: str, today: date) -> Days | None:
    """The days that words such as “last week” mean, as seen from `today`; weeks begin on Monday.

    None also for days that no calendar has, such as February 30, or those of ten thousand years ago.
    """
    plain = re.sub(r"^(?:in|on|within|during|since) ", "", words)
    try:
        span = _known(plain, today) or _stretch(plain, today) or _day(plain, today) or _named(plain, today)
    except (ValueError, OverflowError):
        return None
    if span is None:
        return None
    first, last = span
    return Days(first, today if words.startswith("since ") else last, words)


def _known(words: str, today: date) -> tuple[date, date] | None:
    monday = today - timedelta(days=today.weekday())
    first_of_month, first_of_year = today.replace(day=1), today.replace(month=1, day=1)
    day, week = timedelta(days=1), timedelta(days=7)
    return {
        "today": (today, today),
        "yesterday": (today - day, today - day),
        "the day before yesterday": (today - 2 * day, today - 2 * day),
        "this week": (monday, today),
        "last week": (monday - week, monday - day),
        "this month": (first_of_month, today),
        "last month": ((first_of_month - day).replace(day=1), first_of_month - day),
        "this year": (first_of_year, today),
        "last year": ((first_of_year - day).replace(month=1, day=1), first_of_year - day),
    }.get(words)


def _stretch(words: str, today: date) -> tuple[date, date] | None:
    """“the last three days”: so many, today included."""
    found = re.fullmatch(r"the (?:last|past) (?:(\w+|couple of) )?(day|week|month|year)s?", words)
    if not found:
        return None
    length = {"day": 1, "week": 7, "month": 30, "year": 365}[found[2]]
    return today - timedelta(days=_count(found[1]) * length - 1), today


def _count(word: str | None) -> int:
    return int(word) if word and word.isdigit() else _NUMBER.get(word or "", 1)


def _day(words: str, today: date) -> tuple[date, date] | None:
    """A weekday, the last one before today, a date, or so many days ago."""
    rest = words.removeprefix("last ")
    ago = re.fullmatch(r"(.+) days? ago", words)
    if ago:
        found = today - timedelta(days=_count(ago[1]))
    elif rest in _WEEKDAYS:
        found = today - timedelta(days=(today.weekday() - _WEEKDAYS.index(rest)) % 7 or 7)
    else:
        try:
            found = date.fromisoformat(rest) if rest[:4].isdigit() else _spelled(rest, today)
        except ValueError:
            return None
    return found, found


def _spelled(words: str, today: date) -> date:
    """“November 20”, “the 20th of November 2025”: without a year the last one. Raises ValueError."""
    month = next((at for at, name in enumerate(_MONTHS, 1) if name in words), 0)
    day, *year = (int(number) for number in re.findall(r"\d+", words))
    if year:
        return date(year[0], month, day)
    this_year = date(today.year, month, day)
    return this_year if this_year <= today else date(today.year - 1, month, day)


def _named(words: str, today: date) -> tuple[date, date] | None:
    """A month, the last one of its name, or a year."""
    name, _, year = words.partition(" ")
    if re.fullmatch(r"\d{4}", words):
        return date(int(words), 1, 1), date(int(words), 12, 31)
    if name not in _MONTHS or not re.fullmatch(r"|\d{4}", year):
        return None
    month = _MONTHS.index(name) + 1
    first = date(int(year) if year else today.year - (month > today.month), month, 1)
    return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
