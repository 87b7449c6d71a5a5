"""What can answer: models as one chooses them, as they lie on this machine, and as they come.

Knows labels and markup. It does not know which models are there, or how one is fetched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from html import escape

from companion.domain import ModelInfo, ThinkingMode
from companion.inference.catalog import Recommended, Situation
from companion.inference.ollama_json import full_name, is_cloud_name
from companion.inference.pulls import PullState, PullStatus
from companion.ui.render.pieces import quiet
from companion.ui.render.words import duration, moment, size
from companion.ui.texts import html_text, number, text

OLLAMA_PAGE = "https://ollama.com/download"
CAPABILITIES = ("completion", "thinking", "vision", "tools", "embedding")
FOR_GOOD = timedelta(days=365)
"""Whoever keeps a model this long in memory keeps it until it is unloaded."""


# --- to choose from -----------------------------------------------------------------------


def model_choices(models: Sequence[ModelInfo], current: str | None) -> list[tuple[str, str]]:
    """(label, name) for the dropdown; a current model that is gone stays listed, and says so."""
    choices = [(model_label(model), model.name) for model in models]
    if current and current not in {model.name for model in models}:
        choices.append((text("model.gone", name=current), current))
    return choices


def model_label(model: ModelInfo) -> str:
    if model.engine == "builtin":
        return text("model.builtin", name=model.name)
    return text("model.cloud", name=model.name) if model.remote else model.name


def answered_by(name: str) -> str:
    """Who wrote an answer; a cloud model is told by its name, also when it is no longer there."""
    return text("model.cloud", name=name) if is_cloud_name(name) else name


def mode_choices() -> list[tuple[str, str]]:
    """(label, value), the usual one first."""
    modes = (ThinkingMode.HYBRID, ThinkingMode.RAG, ThinkingMode.COT)
    return [(mode_label(mode), str(mode)) for mode in modes]


def mode_label(mode: ThinkingMode) -> str:
    return text(f"mode.{mode}")


# --- on this machine ----------------------------------------------------------------------


def model_list(
    models: Sequence[ModelInfo],
    situation: Situation,
    cloud: bool,
    busy: Mapping[str, str],
    now: datetime,
    zone: tzinfo | None,
) -> str:
    """All models with what can be done with them. `busy`: name to `loading` or `unloading`."""
    rows = "".join(_model(model, busy.get(model.name), now, zone) for model in models)
    listed = f'<div class="lc-models">{rows}</div>' if rows else quiet(text("models.none"))
    hidden = "" if cloud else _cloud_hidden()
    return f"<h2>{html_text('models.here')}</h2>{_without_ollama(situation)}{listed}{hidden}"


def _without_ollama(situation: Situation) -> str:
    if situation.state != "no_ollama":
        return ""
    # Written out, because a person may want to open it on another machine.
    link = f'<a href="{OLLAMA_PAGE}" target="_blank" rel="noopener noreferrer">{OLLAMA_PAGE}</a>'
    why = f"<p><b>{escape(situation.sentence)}</b></p>"
    return f'<div class="lc-noollama" role="status">{why}<p>{html_text("models.get_ollama")} {link}</p></div>'


def _cloud_hidden() -> str:
    button = f'<button class="lc-textbutton" data-open="cloud">{html_text("models.cloud_where")}</button>'
    return f'<p class="lc-quiet">{html_text("models.cloud_hidden")} {button}</p>'


def _model(model: ModelInfo, busy: str | None, now: datetime, zone: tzinfo | None) -> str:
    name = escape(model.name)
    lines = "".join(f'<span class="lc-facts">{line}</span>' for line in _facts(model, now, zone) if line)
    return (
        f'<article class="lc-model" data-name="{name}"><h3>{name}</h3>{_badge(model, busy)}{lines}'
        f"{_action(model, busy)}</article>"
    )


def _facts(model: ModelInfo, now: datetime, zone: tzinfo | None) -> Iterator[str]:
    parts = [text("models.on_disk", size=size(model.size))] if model.size and not model.remote else []
    parts += [text("models.parameters", count=model.parameter_size)] if model.parameter_size else []
    parts += [model.quantization] if model.quantization else []
    if model.context_length:
        parts.append(text("models.reads", tokens=number(model.context_length)))
    yield escape(" · ".join(parts))
    able = [text(f"models.can.{each}") for each in CAPABILITIES if each in model.capabilities]
    where = "cloud" if model.remote else model.engine
    yield escape(" · ".join([", ".join(able), text(f"models.runs.{where}")]))
    if model.remote:
        yield f"<em>{html_text('models.leaves')}</em>"
    if model.loaded and not model.remote:
        yield escape(_in_memory(model, now, zone))


def _in_memory(model: ModelInfo, now: datetime, zone: tzinfo | None) -> str:
    parts = [text("models.memory", size=size(model.memory)) if model.memory else text("models.in_memory")]
    if model.vram is not None and model.memory:
        whole = model.vram >= model.memory
        where = "card" if whole else "no_card" if not model.vram else "part"
        parts.append(text(f"models.memory.{where}", size=size(model.vram)))
    if model.expires_at is None or model.expires_at - now > FOR_GOOD:
        parts.append(text("models.until_unloaded"))
    elif model.expires_at > now:
        parts.append(text("models.until", time=moment(model.expires_at, now, zone)))
    return ", ".join(parts)


def _badge(model: ModelInfo, busy: str | None) -> str:
    if busy:
        return f'<span class="lc-state is-reading" role="status">{html_text(f"models.{busy}")}</span>'
    if model.remote:
        return f'<span class="lc-state is-cloud">{html_text("models.cloud")}</span>'
    loaded = f'<span class="lc-state is-searchable">{html_text("models.loaded")}</span>'
    return loaded if model.loaded else ""


def _action(model: ModelInfo, busy: str | None) -> str:
    if model.remote or not (model.loaded or model.can_chat):
        return ""
    what = "free" if model.loaded else "bring"
    return _button(what, model.name, text(f"models.{what}"), disabled=bool(busy))


def _button(what: str, name: str, label: str, *, disabled: bool = False) -> str:
    """The label is short, so the name of what it acts on is said beside it. `data-key` finds it again."""
    key = escape(f"{what} {name}")
    marks = f'data-act="{what}" data-name="{escape(name)}" data-key="{key}"'
    told = f'aria-label="{escape(f"{label} {name}")}"'
    return (
        f'<button class="lc-button" {marks} {told}{" disabled" if disabled else ""}>{escape(label)}</button>'
    )


# --- to come ------------------------------------------------------------------------------


def offers(
    pulls: Sequence[PullStatus],
    recommended: Sequence[Recommended],
    present: Collection[str],
    may: bool,
) -> str:
    """Downloads that run or ended lately, and models for a beginning. `may`: more can be fetched."""
    running = {full_name(each.name) for each in pulls if each.state is PullState.RUNNING}
    cards = "".join(_card(each, present, running, may) for each in recommended)
    fetched = "".join(_pull(each, may) for each in pulls)
    begun = f'<div class="lc-pulls">{fetched}</div>' if fetched else ""
    return f'{begun}<h3>{html_text("models.recommended")}</h3><div class="lc-offers">{cards}</div>'


def _card(model: Recommended, present: Collection[str], running: Collection[str], may: bool) -> str:
    if full_name(model.name) in present:
        action = f'<span class="lc-state is-searchable">{html_text("models.present")}</span>'
    elif full_name(model.name) in running:
        action = f'<span class="lc-state is-reading">{html_text("models.coming")}</span>'
    else:
        action = _button("fetch", model.name, text("models.fetch")) if may else ""
    about = f'<p>{escape(model.about)}</p><span class="lc-facts">{size(model.size)}</span>'
    return f'<article class="lc-offer"><h4>{escape(model.name)}</h4>{about}{action}</article>'


def _pull(pull: PullStatus, may: bool) -> str:
    failed = " lc-error" if pull.state is PullState.FAILED else ""
    role = "" if pull.state is PullState.RUNNING else ' role="status"'
    line = f'<span class="lc-facts{failed}"{role}>{escape(_progress(pull))}</span>'
    bar, action = "", ""
    if pull.state is PullState.RUNNING:
        action = _button("cancel", pull.name, text("models.cancel"))
        value = f' value="{pull.percent:.1f}"' if pull.total else ""
        bar = f'<progress max="100"{value} aria-label="{escape(pull.name)}"></progress>'
    elif pull.state is not PullState.DONE and may:
        action = _button("fetch", pull.name, text("models.again"))
    return (
        f'<article class="lc-pull is-{pull.state}"><h4>{escape(pull.name)}</h4>{line}{action}{bar}</article>'
    )


def _progress(pull: PullStatus) -> str:
    parts = [pull.status]
    if pull.state is PullState.RUNNING and pull.total:
        parts.append(f"{pull.percent:.0f} %")
        parts.append(text("models.amount", done=size(pull.completed), total=size(pull.total)))
        if pull.rate:
            parts.append(f"{size(int(pull.rate))}/s")
        if pull.seconds_left is not None:
            parts.append(text("models.left", time=duration(pull.seconds_left)))
    return " · ".join(parts)
