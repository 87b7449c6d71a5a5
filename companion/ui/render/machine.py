"""The machine: how busy it was in the last hour, and the cards that were looked at.

Knows which numbers are worth a picture, and their words. It does not know how they are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from companion.background.deep_status import DeepStatus, Sample
from companion.domain import CardLoad, MachineLoad
from companion.ui.render.pieces import quiet
from companion.ui.render.plots import Axis, plot
from companion.ui.render.words import size
from companion.ui.texts import html_text, text


def last_hour(status: DeepStatus, idle_percent: int) -> str:
    """Load, memory and progress, side by side. Below `idle_percent` a card counts as idle."""
    source = status.load.source if status.load else "gpu"
    memory = _whole_memory(status)
    idle = text("index.plot.idle", limit=idle_percent)
    shown = (
        (f"index.load.{source}", lambda sample: sample.percent, Axis(100, _percent, idle_percent, idle)),
        (
            f"index.memory.{source}",
            lambda sample: sample.memory_used,
            Axis(memory, _bytes, note=_of_all(_bytes, memory)),
        ),
        ("index.plot.progress", _share, Axis(100, _percent, note=_of_all(_passages, status.total))),
    )
    drawn = "".join(plot(text(title), _course(status.history, value), axis) for title, value, axis in shown)
    return f'<div class="lc-plots">{drawn}</div>'


def _course(
    history: Sequence[Sample], value: Callable[[Sample], float | None]
) -> list[tuple[float, float | None]]:
    """Seconds before the last sample, and the value then."""
    return [((history[-1].at - sample.at).total_seconds(), value(sample)) for sample in history]


def _share(sample: Sample) -> float | None:
    return 100 * sample.done / sample.total if sample.total else None


def _whole_memory(status: DeepStatus) -> int:
    if status.load and status.load.memory_total:
        return status.load.memory_total
    return max((sample.memory_used or 0 for sample in status.history), default=0)


def _percent(value: float) -> str:
    return text("index.percent", percent=int(value))


def _of_all(say: Callable[[int], str], whole: int) -> str:
    return text("index.plot.of", whole=say(whole)) if whole else ""


def _passages(count: int) -> str:
    return text("count.passage", n=count)


def _bytes(value: float) -> str:
    return size(int(value))


# --- cards --------------------------------------------------------------------------------


def machine(load: MachineLoad | None) -> str:
    """What is watched, and what was found."""
    body = quiet(text("index.machine.unknown")) if load is None else _facts(load)
    button = (
        f'<button class="lc-textbutton" data-do="open_settings">{html_text("index.machine.set")}</button>'
    )
    return f"<h2>{html_text('index.machine')}</h2>{body}{button}"


def _facts(load: MachineLoad) -> str:
    notices = []
    if load.source == "cpu":
        notices.append(load.notice or text("index.machine.no_card"))
    elif load.notice and not load.cards:
        notices.append(load.notice)
    if load.on_battery:
        notices.append(text("index.machine.battery"))
    rows = [_card(card, watched=card.card_id == load.watched) for card in load.cards] or [_whole(load)]
    return f'{"".join(map(quiet, notices))}<div class="lc-cardlist">{"".join(rows)}</div>'


def _whole(load: MachineLoad) -> str:
    """A machine without a card, or whose cards nobody named."""
    used = None
    if load.memory_total is not None and load.memory_free is not None:
        used = load.memory_total - load.memory_free
    return _row(text(f"index.{load.source}"), load.percent, used, load.memory_total, watched=True)


def _card(card: CardLoad, *, watched: bool) -> str:
    said = quiet(card.notice) if card.notice else ""
    return _row(card.name, card.percent, card.memory_used, card.memory_total, watched=watched, said=said)


def _row(
    name: str, percent: int | None, used: int | None, total: int | None, *, watched: bool, said: str = ""
) -> str:
    """`said` is HTML."""
    facts = [text("index.card.unknown") if percent is None else text("index.card.load", percent=percent)]
    if used is not None and total is not None:
        facts.append(text("index.card.memory", used=size(used), total=size(total)))
    chip = f'<span class="lc-state">{html_text("index.card.watched")}</span>' if watched else ""
    shown = f'<p class="lc-facts">{escape(" · ".join(facts))}</p>'
    return f'<div class="lc-cardrow"><h3>{escape(name)}</h3>{chip}{shown}{said}</div>'
