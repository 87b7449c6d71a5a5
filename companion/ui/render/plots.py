"""A small picture of how a number went in the last hour: one line, two axes, and the same in words.

Pure: values become SVG. It does not know what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from companion.ui.render.pieces import quiet
from companion.ui.render.words import duration
from companion.ui.texts import html_text, text

SPAN_S = 3600
STEP_S = 30
"""Values of one step are drawn as their mean."""
GAP_S = 90
"""Longer without a value: the line breaks, because nobody knows what was."""
WIDTH, HEIGHT = 250, 118
LEFT, RIGHT, TOP, BOTTOM = 42, 246, 8, 96
"""The frame of the line; the labels of the axes stand outside."""

Point = tuple[float, float]
"""Seconds ago, and the value then."""
Points = Sequence[tuple[float, float | None]]
"""The same, oldest first; None: not known then."""


@dataclass(frozen=True, slots=True)
class Axis:
    """From 0 up."""

    top: float
    say: Callable[[float], str]
    """A value in words."""
    limit: float | None = None
    """A value that is worth a line of its own."""
    note: str = ""
    """What that line means, or what the values are a part of."""


def plot(title: str, points: Points, axis: Axis) -> str:
    """The picture under its title and its last value."""
    parts = list(_stretches(points))
    now = "" if not points or points[-1][1] is None else axis.say(points[-1][1])
    note = f"<small>{escape(axis.note)}</small>" if axis.note else ""
    head = f"<figcaption><b>{escape(title)}</b><span>{escape(now)}</span>{note}</figcaption>"
    if not parts:
        return f'<figure class="lc-plot">{head}{quiet(text("index.plot.nothing"))}</figure>'
    words = escape(_in_words(title, now, points, axis))
    drawn = _axes(axis) + "".join(_line(part, axis.top) for part in parts)
    picture = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">{drawn}</svg>'
    return f'<figure class="lc-plot">{head}{picture}</figure>'


def _in_words(title: str, now: str, points: Points, axis: Axis) -> str:
    values = [value for ago, value in points if value is not None and ago <= SPAN_S]
    span = duration(max(ago for ago, value in points if value is not None and ago <= SPAN_S))
    last = now or text("index.plot.unknown")
    low, high = axis.say(min(values)), axis.say(max(values))
    return text("index.plot.alt", title=title, now=last, low=low, high=high, span=span)


def _axes(axis: Axis) -> str:
    heights = (TOP, (TOP + BOTTOM) / 2, BOTTOM)
    grid = "".join(f'<path class="lc-grid" d="M{LEFT} {y:g}H{RIGHT}"/>' for y in heights)
    if axis.limit is not None:
        grid += f'<path class="lc-limit" d="M{LEFT} {_y(axis.limit, axis.top):g}H{RIGHT}"/>'
    labels = (
        _label(LEFT - 6, TOP + 4, "end", escape(axis.say(axis.top))),
        _label(LEFT - 6, BOTTOM + 4, "end", escape(axis.say(0))),
        _label(LEFT, HEIGHT - 5, "start", html_text("index.plot.hour")),
        _label((LEFT + RIGHT) / 2, HEIGHT - 5, "middle", html_text("index.plot.half")),
        _label(RIGHT, HEIGHT - 5, "end", html_text("index.plot.now")),
    )
    return grid + "".join(labels)


def _label(x: float, y: float, anchor: str, label: str) -> str:
    """`label` is HTML."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{label}</text>'


def _line(part: list[Point], top: float) -> str:
    dots = [f"{_x(ago):.1f} {_y(value, top):.1f}" for ago, value in part]
    if len(dots) == 1:
        x, y = dots[0].split()
        return f'<circle class="lc-dot" cx="{x}" cy="{y}" r="2.5"/>'
    line, first, last = "L".join(dots), _x(part[0][0]), _x(part[-1][0])
    area = f"M{first:.1f} {BOTTOM}L{line}L{last:.1f} {BOTTOM}Z"
    return f'<path class="lc-area" d="{area}"/><path class="lc-curve" d="M{line}"/>'


def _x(ago: float) -> float:
    return RIGHT - (RIGHT - LEFT) * max(ago, 0.0) / SPAN_S


def _y(value: float, top: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * min(max(value / top, 0.0), 1.0) if top else BOTTOM


def _stretches(points: Points) -> Iterator[list[Point]]:
    """Unbroken stretches, oldest first."""
    part: list[Point] = []
    for ago, value in _means(points):
        if part and (value is None or part[-1][0] - ago > GAP_S):
            yield part
            part = []
        if value is not None:
            part.append((ago, value))
    if part:
        yield part


def _means(points: Points) -> Iterator[tuple[float, float | None]]:
    steps: dict[int, list[tuple[float, float | None]]] = {}
    for ago, value in points:
        if ago <= SPAN_S:
            steps.setdefault(int(ago // STEP_S), []).append((ago, value))
    *earlier, latest = steps.values() or [[]]
    for step in earlier:
        known = [value for _ago, value in step if value is not None]
        yield step[-1][0], sum(known) / len(known) if known else None
    # What is now is not blurred by what was.
    yield from latest[-1:]
