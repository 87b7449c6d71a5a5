"""Numbers, times and places, as a person reads them.

Knows how a value is said in a few words. It does not know HTML: who puts the words into a
page escapes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, tzinfo

from companion.domain import Place
from companion.ui.texts import number, text


def size(count: int) -> str:
    """Bytes as a person reads them.

    >>> size(2_100_000)
    '2.1 MB'
    """
    if count < 1000:
        return f"{count} B"
    value, unit = count / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{number(value, 0 if value >= 9.95 else 1)} {unit}"


def seconds(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 995 else f"{number(ms / 1000, 1)} s"


def duration(s: float) -> str:
    """How long something takes, about.

    >>> duration(95)
    '2 min'
    """
    if s < 60:
        return f"{max(round(s), 1)} s"
    minutes = round(s / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes and hours < 10 else f"{number(hours)} h"


def clock(seconds: float) -> str:
    """A moment of a recording.

    >>> clock(3725)
    '1:02:05'
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def place(where: Place) -> str:
    """Page, heading and time of a passage, as far as they are known."""
    parts = [text("place.page", page=where.page)] if where.page is not None else []
    if where.heading:
        parts.append(f"§ {where.heading}")
    if where.start_s is not None:
        end = f"–{clock(where.end_s)}" if where.end_s is not None else ""
        parts.append(f"{clock(where.start_s)}{end}")
    return " · ".join(parts)


def layers(names: Iterable[str]) -> str:
    found = set(names)
    if "deep" in found:
        return text("layers.deep")
    return text("layers.light") if found & {"light", "feedback"} else text("layers.words")


def moment(when: datetime, now: datetime, zone: tzinfo | None) -> str:
    """The time of today, the day of earlier."""
    local, today = when.astimezone(zone), now.astimezone(zone)
    time = f"{local:%H:%M}"
    if local.date() == today.date():
        return time
    month = _of("date.months.short", local.month - 1)
    if local.year == today.year:
        return text("date.this_year", day=local.day, month=month, time=time)
    return text("date.earlier", day=local.day, month=month, year=local.year)


def full_moment(when: datetime, zone: tzinfo | None) -> str:
    """Day and time to the second."""
    local = when.astimezone(zone)
    return text(
        "date.full",
        weekday=_of("date.weekdays", local.weekday()),
        day=f"{local:%d}",
        month=_of("date.months", local.month - 1),
        year=local.year,
        time=f"{local:%H:%M:%S}",
    )


def day_group(when: datetime, now: datetime, zone: tzinfo | None) -> str:
    local, today = when.astimezone(zone).date(), now.astimezone(zone).date()
    age = (today - local).days
    if age <= 0:
        return text("day.today")
    if age <= 1:
        return text("day.yesterday")
    if age <= 7:
        return text("day.week")
    if age <= 30:
        return text("day.weeks")
    return text("date.month", month=_of("date.months", local.month - 1), year=local.year)


def _of(names: str, index: int) -> str:
    return text(names).split()[index]
