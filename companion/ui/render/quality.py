"""Quality as a person reads it: a judgement, a picture of the figures, the same as a table, and what
was missed.

Knows words and markup. It does not know how anything was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, tzinfo
from html import escape

from companion.domain import Figures, Measurement
from companion.quality.judgement import Change, Judgement, Verdict, answering, answering_rank
from companion.quality.overview import Miss, Overview
from companion.ui.render.pieces import quiet, time
from companion.ui.render.words import moment, place
from companion.ui.texts import html_text, number, text

SHOWN = 30
"""Misses; more of them teach nothing more."""
PAST = 10
GOOD = (Verdict.FINDS_MORE, Verdict.RANKS_HIGHER)
DOUBTFUL = (Verdict.NOTHING, Verdict.TOO_FEW)
BUSY = ("making", "measuring")


# --- the judgement, and what is done now --------------------------------------------------


def board(seen: Overview, now: datetime, zone: tzinfo | None) -> str:
    """One sentence, what stands behind it, and one button."""
    title = f'<h2 id="lc-qualityline" tabindex="-1"><i></i><span>{escape(_headline(seen))}</span></h2>'
    lines = "".join(f"<p>{escape(line)}</p>" for line in _behind(seen))
    facts = f'<p class="lc-facts">{_facts(seen, now, zone)}</p>' if seen.latest else ""
    return (
        f'<section class="lc-work is-{_looks(seen)}" aria-labelledby="lc-qualityline">{title}{lines}'
        f"{facts}{_at_work(seen)}{_trouble(seen)}{_button(seen)}</section>"
    )


def _looks(seen: Overview) -> str:
    if seen.status.activity in BUSY:
        return "deepening"
    return "done" if seen.judgement and seen.judgement.verdict in GOOD else "watching"


def _headline(seen: Overview) -> str:
    if seen.latest is None or seen.judgement is None:
        if seen.status.activity == "off":
            return text("quality.off")
        return text("quality.making") if seen.status.activity in BUSY else text("quality.none")
    judgement = seen.judgement
    amount = abs(judgement.per_hundred)
    if judgement.verdict is Verdict.NO_DEEP:
        amount = round(100 * seen.latest.figures[answering(seen.latest)].recall_5)
    return text(f"quality.verdict.{judgement.verdict}", amount=amount, n=judgement.questions)


def _behind(seen: Overview) -> list[str]:
    if seen.judgement is None:
        return [text("quality.off.about") if seen.status.activity == "off" else text("quality.none.about")]
    judgement = seen.judgement
    counted = _counted(judgement)
    lines = [] if judgement.verdict is Verdict.NO_DEEP else [counted]
    if judgement.verdict in DOUBTFUL:
        lines = [text("quality.chance", counted=counted)]
    if seen.without_model:
        key = "quality.flatters" if seen.without_model == len(seen.items) else "quality.flatters.some"
        lines.append(text(key, n=seen.without_model))
    return lines


def _counted(judgement: Judgement) -> str:
    """How many questions stand behind the judgement."""
    counts = {"gained": judgement.gained, "lost": judgement.lost}
    moved = {"higher": judgement.higher, "lower": judgement.lower}
    return text("quality.counted", n=judgement.questions, **counts, **moved)


def _facts(seen: Overview, now: datetime, zone: tzinfo | None) -> str:
    latest = seen.latest
    assert latest is not None
    questions = text("count.question", n=latest.questions)
    documents = text("count.document", n=latest.documents)
    made = text("quality.from", questions=questions, documents=documents, all=number(seen.all_documents))
    facts = [made, *_makers(seen)]
    if seen.samples:
        facts.append(text("quality.samples"))
    if latest.deep and latest.deep_passages < latest.passages:
        facts.append(text("quality.partly", done=latest.deep_passages, total=latest.passages))
    return f"{time(latest.measured_at, now, zone)} · {escape(' · '.join(facts))}"


def _makers(seen: Overview) -> list[str]:
    if not seen.models:
        return [text("quality.no_model")] if seen.items else []
    some = [text("quality.no_model.some", n=seen.without_model)] if seen.without_model else []
    return [text("quality.made", makers=", ".join(seen.models)), *some]


def _at_work(seen: Overview) -> str:
    status = seen.status
    if status.activity == "waiting":
        return quiet(text("quality.waiting"))
    if status.activity not in BUSY:
        return ""
    label = html_text(
        f"quality.{status.activity}.amount", done=number(status.done), total=number(status.total)
    )
    bar = f'<progress max="{max(status.total, 1)}" value="{status.done}" aria-label="{label}"></progress>'
    return f'{bar}<p class="lc-facts" role="status">{label}</p>'


def _trouble(seen: Overview) -> str:
    trouble = seen.status.trouble
    return f'<p class="lc-error" role="status">{escape(trouble)}</p>' if trouble else ""


def _button(seen: Overview) -> str:
    if seen.status.activity == "off":
        label = html_text("quality.switch_on")
        return (
            f'<div class="lc-press"><button class="lc-button" data-do="set_questions">{label}</button></div>'
        )
    waits = " disabled" if seen.status.activity in ("waiting", *BUSY) else ""
    looks = "" if seen.latest else " is-first"
    button = (
        f'<button class="lc-button{looks}" data-key="measure"{waits}>{html_text("quality.measure")}</button>'
    )
    return f'<div class="lc-press">{button}{quiet(text("quality.measure.about"))}</div>'


# --- the figures --------------------------------------------------------------------------


def figures(seen: Overview, now: datetime, zone: tzinfo | None) -> str:
    """Two pictures, and the table that says the same and more."""
    latest = seen.latest
    if latest is None:
        return ""
    measures: tuple[tuple[str, Callable[[Figures], float]], ...] = (
        ("recall", lambda each: each.recall_5),
        ("mrr", lambda each: each.mrr),
    )
    charts = "".join(_chart(name, latest, value) for name, value in measures)
    return (
        f'<h2>{html_text("quality.figures")}</h2><div class="lc-plots">{charts}</div>'
        f"{_table(latest, seen.changes)}{_compared(seen, now, zone)}"
    )


def _chart(name: str, latest: Measurement, value: Callable[[Figures], float]) -> str:
    title, about = text(f"quality.{name}"), text(f"quality.{name}.about")
    said = "; ".join(
        f"{_name(method)} {_figure(name, value(each))}" for method, each in latest.figures.items()
    )
    bars = "".join(_bar(name, method, value(each), latest) for method, each in latest.figures.items())
    head = f"<figcaption><b>{escape(title)}</b><small>{escape(about)}</small></figcaption>"
    words = f'role="img" aria-label="{escape(f"{title}: {said}")}"'
    return f'<figure class="lc-plot">{head}<div class="lc-bars" {words}>{bars}</div></figure>'


def _bar(name: str, method: str, value: float, latest: Measurement) -> str:
    looks = " is-answering" if method == answering(latest) else ""
    drawn = (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none">'
        f'<rect class="lc-rest" width="100" height="10"/><rect width="{100 * value:.1f}" height="10"/></svg>'
    )
    return (
        f'<span class="lc-barname{looks}">{escape(_name(method))}</span>'
        f'<span class="lc-bar{looks}">{drawn}</span><span class="lc-barvalue">{_figure(name, value)}</span>'
    )


def _figure(name: str, value: float) -> str:
    return text("quality.percent", amount=round(100 * value)) if name == "recall" else number(value, 2)


def _name(method: str) -> str:
    return text(f"quality.method.{method}")


def _table(latest: Measurement, changes: dict[str, Change]) -> str:
    columns = ["method", "recall", "mrr", "ndcg", *(["change"] if changes else [])]
    head = "".join(f'<th scope="col">{html_text(f"quality.column.{column}")}</th>' for column in columns)
    rows = "".join(_row(method, each, changes) for method, each in latest.figures.items())
    caption = f'<caption class="lc-unseen">{html_text("quality.figures")}</caption>'
    table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return _scrolling(table, text("quality.figures"))


def _scrolling(table: str, name: str) -> str:
    """On a narrow page a table moves by itself, by the keyboard too."""
    return f'<div class="lc-figuretable" role="group" tabindex="0" aria-label="{escape(name)}">{table}</div>'


def _row(method: str, each: Figures, changes: dict[str, Change]) -> str:
    about = html_text(f"quality.method.{method}.about")
    name = f'<th scope="row"><b>{escape(_name(method))}</b><small>{about}</small></th>'
    cells = [_figure("recall", each.recall_5), number(each.mrr, 2), number(each.ndcg_10, 2)]
    if changes:
        cells.append(_change(changes.get(method)))
    return f"<tr>{name}{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _change(change: Change | None) -> str:
    if change is None:
        return text("quality.change.new")
    points = round(100 * (change.now - change.before))
    if not points:
        return text("quality.change.same")
    return text("quality.change.more" if points > 0 else "quality.change.fewer", n=abs(points))


def _compared(seen: Overview, now: datetime, zone: tzinfo | None) -> str:
    if not seen.changes:
        return ""
    common = next(iter(seen.changes.values())).questions
    before = moment(seen.history[1].measured_at, now, zone)
    return quiet(text("quality.compared", before=before, n=common))


# --- what was missed ----------------------------------------------------------------------


def missed(seen: Overview) -> str:
    """Questions whose passage was not found; each opens the passage and what came instead."""
    if seen.latest is None:
        return ""
    title = f"<h2>{html_text('quality.misses')}</h2>"
    if not seen.misses:
        return title + quiet(text("quality.misses.none"))
    rows = "".join(_miss(each) for each in seen.misses[:SHOWN])
    more = len(seen.misses) - SHOWN
    rest = quiet(text("quality.misses.more", n=more)) if more > 0 else ""
    summary = html_text("quality.misses.count", n=len(seen.misses))
    return f'{title}<details class="lc-missed"><summary>{summary}</summary><ul>{rows}</ul>{rest}</details>'


def _miss(miss: Miss) -> str:
    item, rank = miss.item, answering_rank(miss.ranks)
    stood = text("quality.rank", n=rank) if rank else text("quality.rank.none")
    made = item.made_by or text("quality.no_model")
    facts = [item.document_name, place(item.place), stood, made]
    said = escape(" · ".join(fact for fact in facts if fact))
    return (
        f'<li><button data-act="open" data-id="{item.question_id}"><b>{escape(item.question)}</b>'
        f"<small>{said}</small></button></li>"
    )


# --- earlier ------------------------------------------------------------------------------


def past(seen: Overview, now: datetime, zone: tzinfo | None) -> str:
    """Earlier measurements, newest first."""
    earlier = seen.history[1 : PAST + 1]
    if not earlier:
        return ""
    columns = ("when", "questions", "layers", "recall", "mrr")
    head = "".join(f'<th scope="col">{html_text(f"quality.column.{column}")}</th>' for column in columns)
    rows = "".join(_measured(each, now, zone) for each in earlier)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<h2>{html_text('quality.past')}</h2>{_scrolling(table, text('quality.past'))}"


def _measured(each: Measurement, now: datetime, zone: tzinfo | None) -> str:
    best = each.figures[answering(each)]
    layers = f"{each.light} + {each.deep}" if each.deep else each.light
    cells = [number(each.questions), layers, _figure("recall", best.recall_5), number(best.mrr, 2)]
    shown = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row">{time(each.measured_at, now, zone)}</th>{shown}</tr>'
