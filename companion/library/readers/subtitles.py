"""Subtitles and transcripts (SRT, VTT): a section for each cue with its seconds.

Knows both formats as one: times, then lines. It does not know who speaks, unless the file says so.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from companion.domain import Place, Section
from companion.library.readers.decoding import decode

_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
_TIMES = re.compile(rf"\s{{0,20}}{_TIME}[ \t]{{0,20}}-->[ \t]{{0,20}}{_TIME}")
_VOICE = re.compile(r"<v(?:\.[\w.]{1,50})?[ \t]([^<>]{1,100})>")
_TAG = re.compile(r"<[^<>]{0,200}>|\{\\[^{}]{0,200}\}")
_ROLLING_GAP_S = 0.1


@dataclass(slots=True)
class _Cue:
    start_s: float
    end_s: float
    lines: list[str] = field(default_factory=list)


def read(path: Path, name: str, notes: list[str]) -> Iterator[Section]:
    text = decode(path.read_bytes(), name, notes).replace("\x00", "")
    timed = False
    for cue in _without_repeats(_cues(text)):
        timed = True
        yield Section("\n".join(cue.lines), Place(start_s=cue.start_s, end_s=cue.end_s))
    if not timed and text.strip():
        notes.append("No times were found; it was read as plain text.")
        yield Section(text)


def _cues(text: str) -> Iterator[_Cue]:
    cue: _Cue | None = None
    after_gap: list[str] | None = []
    """Lines after an empty one: number or name of the next cue, a note, or more of this cue."""
    is_vtt = text.lstrip("\ufeff \n").startswith("WEBVTT")
    for line in text.splitlines():
        times = _TIMES.match(line)
        if times:
            if cue is not None:
                yield _closed(cue, None if is_vtt else after_gap, before_cue=True)
            cue, after_gap = _Cue(*_seconds(times)), None
        elif cue is None:
            continue
        elif not (line if is_vtt else line.strip()):
            # In VTT a line of blanks is a line: automatic captions begin with one.
            after_gap = [] if after_gap is None else after_gap
        elif after_gap is None:
            cue.lines.append(line)
        else:
            after_gap.append(line)
    if cue is not None:
        yield _closed(cue, None if is_vtt else after_gap, before_cue=False)


def _closed(cue: _Cue, after_gap: list[str] | None, *, before_cue: bool) -> _Cue:
    lines = cue.lines + (after_gap or [])
    if before_cue and len(lines) > 1 and lines[-1].strip().isdigit():
        # The number of the next cue, which not every file separates by an empty line.
        lines = lines[:-1]
    return _Cue(cue.start_s, cue.end_s, [shown for line in lines if (shown := _plain(line))])


def _seconds(times: re.Match[str]) -> tuple[float, float]:
    numbers = times.groups()
    start, end = _second(*numbers[:4]), _second(*numbers[4:])
    return start, max(start, end)


def _second(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    return (
        int(hours or 0) * 3600
        + int(minutes) * 60
        + int(seconds)
        + int((fraction or "0").ljust(3, "0")) / 1000
    )


def _plain(line: str) -> str:
    spoken = _VOICE.sub(r"\1: ", line)
    return " ".join(html.unescape(_TAG.sub("", spoken)).split())


def _without_repeats(cues: Iterator[_Cue]) -> Iterator[_Cue]:
    """Automatic captions roll: each cue begins with the last lines of the one before."""
    before: _Cue | None = None
    waiting: _Cue | None = None
    for cue in cues:
        repeated = _repeated(before, cue)
        before = cue
        fresh = cue.lines[repeated:]
        if waiting is not None and not fresh:
            waiting.end_s = max(waiting.end_s, cue.end_s)
        elif fresh:
            if waiting is not None:
                yield waiting
            waiting = _Cue(cue.start_s, cue.end_s, fresh)
    if waiting is not None:
        yield waiting


def _repeated(before: _Cue | None, cue: _Cue) -> int:
    """How many of its first lines were on the screen already."""
    if before is None or cue.start_s - before.end_s > _ROLLING_GAP_S:
        return 0
    for count in range(min(len(before.lines), len(cue.lines), 4), 0, -1):
        if before.lines[-count:] == cue.lines[:count]:
            return count
    return 0
