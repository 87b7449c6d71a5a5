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
WHEN = (
    r"(?:today|yesterday|the day before yesterday|(?:this|last|the last|the past) (?:week|month|year)|"
    rf"(?:in |within |during )?the (?:last|past) (?:\d{{1,3}}|{'|'.join(_NUMBER)}) (?:day|week|month|year)s?|"
    rf"(?:on |last |since )?(?:{'|'.join(_WEEKDAYS)})|since yesterday|(?:on |since )?\d{{4}}-\d\d-\d\d|"
    rf"in (?:{'|'.join(_MONTHS)})(?: \d{{4}})?|in (?:19|20)\d\d)"
)
"""A pattern of all that `days_of` understands, in lower case."""


@dataclass(frozen=True, slots=True)
class Days:
    """From the first to the last of them, both included."""

    first: date
    last: date
    words: str


def days_of(words: str, today: date) -> Days | None:
    """The days that words such as “last week” mean, as seen from `today`; weeks begin on Monday."""
    plain = re.sub(r"^(?:in|on|within|during) ", "", words)
    monday = today - timedelta(days=today.weekday())
    first_of_month, first_of_year = today.replace(day=1), today.replace(month=1, day=1)
    day, week = timedelta(days=1), timedelta(days=7)
    known = {
        "today": (today, today),
        "yesterday": (today - day, today - day),
        "since yesterday": (today - day, today),
        "the day before yesterday": (today - 2 * day, today - 2 * day),
        "this week": (monday, today),
        "last week": (monday - week, monday - day),
        "this month": (first_of_month, today),
        "last month": ((first_of_month - day).replace(day=1), first_of_month - day),
        "this year": (first_of_year, today),
        "last year": ((first_of_year - day).replace(month=1, day=1), first_of_year - day),
    }
    span = known.get(plain) or _stretch(plain, today) or _day(plain, today) or _named(plain, today)
    return Days(*span, words) if span else None


def _stretch(words: str, today: date) -> tuple[date, date] | None:
    """“the last three days”: so many, today included."""
    found = re.fullmatch(r"the (?:last|past) (?:(\w+|couple of) )?(day|week|month|year)s?", words)
    if not found:
        return None
    count = int(found[1]) if (found[1] or "").isdigit() else _NUMBER.get(found[1] or "", 1)
    length = {"day": 1, "week": 7, "month": 30, "year": 365}[found[2]]
    return today - timedelta(days=count * length - 1), today


def _day(words: str, today: date) -> tuple[date, date] | None:
    """A weekday, the last one before today, or a date; with “since”, until today."""
    _since, _, rest = words.rpartition("since ")
    rest = rest.removeprefix("last ")
    if rest in _WEEKDAYS:
        ago = (today.weekday() - _WEEKDAYS.index(rest)) % 7 or 7
        found = today - timedelta(days=ago)
    else:
        try:
            found = date.fromisoformat(rest)
        except ValueError:
            return None
    return found, today if words.startswith("since ") else found


def _named(words: str, today: date) -> tuple[date, date] | None:
    """A month, the last one of its name, or a year."""
    name, _, year = words.partition(" ")
    if re.fullmatch(r"\d{4}", words):
        return date(int(words), 1, 1), date(int(words), 12, 31)
    if name not in _MONTHS:
        return None
    month = _MONTHS.index(name) + 1
    first = date(int(year) if year else today.year - (month > today.month), month, 1)
    return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
