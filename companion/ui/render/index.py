"""The index: its layers, what they leave out, and the history of the deep work.

Knows how a coverage and a run are shown. It does not know how they come about.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from html import escape

from companion.domain import IndexRun, LayerInfo, RunOutcome, SetAside, Why
from companion.library.layers import GRACE
from companion.library.library import LibraryStatus
from companion.ui.render.deepening import percent_of
from companion.ui.render.pieces import quiet, time
from companion.ui.render.words import duration, moment
from companion.ui.texts import html_text, number, text

ENDINGS = frozenset({*map(str, Why), "closing"})
"""Reasons of a run that have words here; any other is a sentence already."""
NOT_YET = "–"


# --- layers -------------------------------------------------------------------------------


def index_layers(
    light: LibraryStatus,
    deep: Sequence[LayerInfo] = (),
    aside: Sequence[SetAside] = (),
    *,
    now: datetime,
    zone: tzinfo | None = None,
) -> str:
    """The light layer and the deep ones, and the documents that those leave out."""
    deeper = "".join(_deep(layer, now, zone) for layer in deep) or quiet(text("index.deep.none"))
    return (
        f"<h2>{html_text('index.layers')}</h2>"
        f'<div class="lc-layerlist">{_light(light)}{deeper}</div>{_left_out(aside)}'
    )


def _light(light: LibraryStatus) -> str:
    name = light.embedder or text("index.no_embedder")
    state = _chip("force", text("index.layer.force")) if light.ready else ""
    trouble = f'<p class="lc-error" role="status">{escape(light.error)}</p>' if light.error else ""
    about = f"{text('index.light.about')} {text(f'index.search.{light.index}')}"
    return _layer("index.light", name, state, light.embedded, light.passages, quiet(about) + trouble)


def _deep(layer: LayerInfo, now: datetime, zone: tzinfo | None) -> str:
    if layer.in_force:
        state, about = _chip("force", text("index.layer.force")), text("index.deep.about")
    elif layer.left_at:
        until = moment(layer.left_at + GRACE, now, zone)
        state, about = _chip("kept", text("index.layer.kept")), text("index.deep.kept", until=until)
    else:
        state, about = _chip("grows", text("index.layer.grows")), text("index.deep.grows")
    return _layer("index.deep", layer.embedder, state, layer.embedded, layer.passages, quiet(about))


def _layer(kind: str, name: str, state: str, embedded: int, passages: int, about: str) -> str:
    return (
        f'<article class="lc-layer"><h3>{html_text(kind)}<small>{escape(name)}</small></h3>{state}'
        f"{_coverage(embedded, passages)}{about}</article>"
    )


def _chip(kind: str, word: str) -> str:
    return f'<span class="lc-state is-{kind}">{escape(word)}</span>'


def _coverage(embedded: int, passages: int) -> str:
    if not passages:
        return quiet(text("index.empty"))
    percent = percent_of(embedded, passages)
    label = html_text("index.amount", done=number(embedded), total=number(passages), percent=percent)
    bar = f'<progress max="{passages}" value="{embedded}" aria-label="{label}"></progress>'
    return f'{bar}<p class="lc-facts">{label}</p>'


def _left_out(aside: Sequence[SetAside]) -> str:
    if not aside:
        return ""
    rows = "".join(f"<li><b>{escape(each.name)}</b><p>{escape(each.error)}</p></li>" for each in aside)
    title = html_text("index.aside", n=len(aside))
    about = quiet(text("index.aside.about"))
    return f'<section class="lc-aside"><h3>{title}</h3>{about}<ul>{rows}</ul></section>'


# --- history ------------------------------------------------------------------------------


def history(runs: Sequence[IndexRun], now: datetime, zone: tzinfo | None) -> str:
    """The runs of the deep work, newest first."""
    title = f"<h2>{html_text('index.runs')}</h2>"
    if not runs:
        return title + quiet(text("index.runs.none"))
    columns = ("when", "took", "passages", "ended")
    head = "".join(f'<th scope="col">{html_text(f"index.run.{column}")}</th>' for column in columns)
    rows = "".join(_run(run, now, zone) for run in runs)
    return f'{title}<table class="lc-runs"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _run(run: IndexRun, now: datetime, zone: tzinfo | None) -> str:
    ended = run.ended_at
    cells = (
        ("when", time(run.started_at, now, zone)),
        ("took", escape(duration((ended - run.started_at).total_seconds())) if ended else NOT_YET),
        ("passages", escape(number(run.passages)) if ended else NOT_YET),
    )
    shown = "".join(f'<td data-label="{html_text(f"index.run.{key}")}">{value}</td>' for key, value in cells)
    looks = ' class="is-failed"' if run.outcome is RunOutcome.FAILED else ""
    return f'<tr title="{escape(run.embedder)}">{shown}<td{looks}>{escape(ending(run))}</td></tr>'


def ending(run: IndexRun) -> str:
    """How a run ended and why, in words."""
    match run.outcome:
        case None:
            return text("index.ended.running")
        case RunOutcome.BROKEN:
            return text("index.ended.broken")
        case RunOutcome.COMPLETE:
            return text("index.ended.done")
    return text(f"index.ended.{run.reason}") if run.reason in ENDINGS else run.reason
