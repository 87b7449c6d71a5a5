"""What stands around a setting: its range and default, suggestions, and what a change would cost.

Knows markup and words. It does not know which values are allowed, or who asks for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape

from companion.chat.setting_values import Range
from companion.costs import EmbedderCost
from companion.inference.embedder_facts import Suggested
from companion.ui.render.words import duration, size
from companion.ui.texts import html_text, number, text

ABOUT = {
    "all-MiniLM-L6-v2": "embedder.about.quick",
    "paraphrase-multilingual-MiniLM-L12-v2": "embedder.about.languages",
    "all-mpnet-base-v2": "embedder.about.exact",
    "Qwen/Qwen3-Embedding-0.6B": "embedder.about.many_small",
    "Snowflake/snowflake-arctic-embed-l-v2.0": "embedder.about.many",
    "ollama:bge-m3": "embedder.about.in_ollama",
    "ollama:qwen3-embedding:4b": "embedder.about.card",
    "ollama:qwen3-embedding:8b": "embedder.about.large_card",
}
"""Of each suggested embedder, what to say of it."""


def field_foot(
    name: str,
    allowed: Range | None,
    default: str,
    suggestions: Sequence[Suggested],
    longest: int | None = None,
) -> str:
    """Under a field. The name that it has elsewhere stands small, for those who look for it."""
    rule = ""
    facts = [text("settings.default", value=default)]
    if allowed is not None:
        unit = text(f"setting.{name}.unit")
        low, high = number(allowed.lowest), number(allowed.highest)
        facts.insert(0, text("settings.range", lowest=low, highest=high, unit=unit))
        bounds = f'data-low="{allowed.lowest}" data-high="{allowed.highest}"'
        bounds += "" if allowed.whole else " data-decimal"
        rule = f' {bounds} data-rule="{escape(allowed.rule)}"'
    if longest is not None:
        facts.insert(0, text("settings.longest", n=number(longest)))
    unsaved = f'<span class="lc-unsaved" hidden>{html_text("settings.unsaved")}</span>'
    reset = f'<button class="lc-textbutton" data-act="reset">{html_text("settings.reset")}</button>'
    told = f'<code title="{html_text("settings.name")}">{name}</code>'
    foot = f"<span>{escape(' · '.join(facts))}</span>{reset}{told}{unsaved}"
    return f'{_suggestions(suggestions)}<p class="lc-foot" data-name="{name}"{rule}>{foot}</p>'


def _suggestions(suggestions: Sequence[Suggested]) -> str:
    chips = "".join(
        f'<button class="lc-chip" data-act="fill" data-value="{escape(each.name)}" title="{_details(each)}">'
        f"<b>{escape(each.name)}</b>"
        f"<small>{size(each.size)} · {html_text(ABOUT[each.name])}</small></button>"
        for each in suggestions
    )
    return f'<div class="lc-chips">{chips}</div>' if chips else ""


def _details(embedder: Suggested) -> str:
    return html_text(
        "embedder.details",
        languages=text("count.language", n=embedder.languages),
        dimension=number(embedder.dimension),
        tokens=number(embedder.tokens),
    )


def complaint(message: str, now: datetime) -> str:
    """Beside its field. The time makes the same sentence said twice two different ones."""
    return f'<p class="lc-error" role="alert" data-at="{now.timestamp()}">{escape(message)}</p>'


def kept(
    values: Mapping[str, object],
    now: datetime,
    *,
    chosen: str | None = None,
    bad: str | None = None,
    view: bool = False,
) -> str:
    """What is stored, as the fields show it, for the script that marks what is not saved.

    `chosen`: what the list of models stands on, because its field shows a label only. `bad`: the
    field that could not be saved. `view`: all fields were set, whatever had been typed into them.
    """
    told = {
        "kept": json.dumps({name: _shown(value) for name, value in values.items()}),
        "chosen": chosen,
        "bad": bad,
        "view": "" if view else None,
        "at": str(now.timestamp()),
    }
    marks = " ".join(f'data-{key}="{escape(value)}"' for key, value in told.items() if value is not None)
    return f"<i hidden {marks}></i>"


def _shown(value: object) -> str:
    """A field shows 1.0 as 1."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def confirmation(costs: Sequence[EmbedderCost], now: datetime) -> str:
    """What a change of embedder would cost, and the two ways on."""
    boxes = "".join(map(_cost, costs))
    names = escape(json.dumps([[each.layer, each.name] for each in costs]))
    sure = f'<button class="lc-button is-first" data-act="sure">{html_text("embedder.sure")}</button>'
    back = f'<button class="lc-button" data-act="back">{html_text("embedder.back")}</button>'
    meanwhile = f"<p>{html_text('embedder.meanwhile')}</p>"
    marks = f'data-names="{names}" data-at="{now.timestamp()}" aria-label="{html_text("embedder.title")}"'
    inside = f"{boxes}{meanwhile}<div>{sure}{back}</div>"
    return f'<section class="lc-confirm" role="group" tabindex="-1" {marks}>{inside}</section>'


def _cost(cost: EmbedderCost) -> str:
    title = html_text(f"embedder.change.{cost.layer}", name=cost.name)
    rows = (("download", _download(cost)), ("memory", _memory(cost)), ("library", _library(cost)))
    facts = "".join(f"<dt>{html_text(f'embedder.{key}')}</dt><dd>{escape(said)}</dd>" for key, said in rows)
    return f"<h3>{title}</h3><dl>{facts}</dl>"


def _download(cost: EmbedderCost) -> str:
    if cost.download is None:
        return text("embedder.download.unknown")
    return size(cost.download) if cost.download else text("embedder.download.none")


def _memory(cost: EmbedderCost) -> str:
    if cost.memory is None:
        return text("embedder.memory.unknown")
    return text("embedder.memory.amount", size=size(cost.memory))


def _library(cost: EmbedderCost) -> str:
    if not cost.passages:
        return text("embedder.library.none")
    passages = text("count.passage", n=cost.passages)
    if cost.seconds is None:
        return text("embedder.library.unknown", passages=passages)
    return text("embedder.library.time", passages=passages, time=duration(cost.seconds))
