"""The deep work as a person reads it: what it does and why, what comes next, and two buttons.

Knows words and markup. It does not know when there is work, or who does it.
"""

from __future__ import annotations

from html import escape

from companion.background.deep_status import DeepStatus
from companion.domain import Why, WorkState
from companion.ui.render.pieces import quiet
from companion.ui.render.words import duration, size
from companion.ui.texts import html_text, number, text

AT_WORK = (WorkState.DEEPENING, WorkState.RESTORING)


def work(status: DeepStatus, idle_percent: int) -> str:
    """The state, what comes next, how far it is, and the buttons.

    `idle_percent`: a card that is used less than that counts as idle.
    """
    title = f'<h2 id="lc-workline" tabindex="-1"><i></i><span>{escape(headline(status))}</span></h2>'
    after = f"<p>{escape(next_step(status, idle_percent))}</p>"
    looks = "done" if status.reason.why is Why.DONE and status.total else str(status.state)
    return (
        f'<section class="lc-work is-{looks}" aria-labelledby="lc-workline">{title}{after}'
        f"{_asked(status)}{_amount(status)}{_unloaded(status)}{_buttons(status)}</section>"
    )


def headline(status: DeepStatus) -> str:
    """What happens now, in one line with its numbers."""
    reason = status.reason
    if status.state is WorkState.RESTORING:
        return text("index.restoring")
    match reason.why:
        case Why.ACTIVE:
            return text("index.why.active", ago=duration(reason.ago_s or 0.0))
        case Why.BUSY:
            return text(f"index.busy.{reason.source or 'gpu'}", percent=reason.percent)
        case Why.QUIET if reason.left_s is None:
            return text("index.beginning")
        case Why.QUIET:
            return text("index.why.quiet", left=duration(reason.left_s or 0.0))
        case Why.IDLE | Why.ASKED:
            return _progress(status)
        case Why.DONE:
            return _done(status)
        case why:
            return text(f"index.why.{why}")


def _progress(status: DeepStatus) -> str:
    done, total = number(status.done), number(status.total)
    if status.eta_s is None:
        return text("index.deepening", done=done, total=total)
    return text("index.deepening_left", done=done, total=total, left=duration(status.eta_s))


def _done(status: DeepStatus) -> str:
    if not status.total:
        return text("index.nothing")
    if status.done < status.total:
        return text("index.nearly", done=number(status.done), total=number(status.total))
    return text("index.why.done")


def next_step(status: DeepStatus, idle_percent: int) -> str:
    """What it waits for, and for how long."""
    reason = status.reason
    left = "" if reason.left_s is None else duration(reason.left_s)
    if status.state is WorkState.RESTORING:
        return text("index.next.restoring")
    match reason.why:
        case Why.ACTIVE:
            return text("index.next.active", left=left)
        case Why.QUIET if left:
            return text("index.next.until")
        case Why.BUSY:
            return text("index.next.busy", limit=idle_percent)
        case Why.UNKNOWN if reason.text:
            return reason.text
        case Why.DONE if not status.total:
            return text("index.next.nothing")
        case Why.DONE if status.done < status.total:
            return text("index.next.nearly")
        case Why.MEMORY:
            needed, free = size(reason.needed or 0), size(reason.free or 0)
            return text("index.next.memory", name=status.embedder, needed=needed, free=free)
        case Why.FAILED:
            return f"{reason.text or text('index.next.log')} {_again(left)}"
        case why:
            return text(f"index.next.{why}")


def _again(left: str) -> str:
    return text("index.next.again", left=left) if left else text("index.next.again_later")


def _amount(status: DeepStatus) -> str:
    if not status.total:
        return ""
    label = text(
        "index.amount",
        done=number(status.done),
        total=number(status.total),
        percent=percent_of(status.done, status.total),
    )
    facts = [status.embedder, label]
    bar = f'<progress max="{status.total}" value="{status.done}" aria-label="{escape(label)}"></progress>'
    if status.is_indexing and status.rate:
        facts.append(text("index.rate", rate=number(status.rate, 0 if status.rate >= 10 else 1)))
    return f'{bar}<p class="lc-facts">{escape(" · ".join(facts))}</p>'


def _asked(status: DeepStatus) -> str:
    """A start by hand that waits for its moment."""
    return quiet(text("index.asked")) if status.asked and status.state not in AT_WORK else ""


def _unloaded(status: DeepStatus) -> str:
    """The chat models that made room."""
    freed = status.freed
    if not status.is_indexing or freed is None or not freed.models:
        return ""
    names = ", ".join(freed.models)
    if freed.freed_bytes:
        return quiet(text("index.freed", models=names, size=size(freed.freed_bytes)))
    return quiet(text("index.unloaded", models=names))


def _buttons(status: DeepStatus) -> str:
    """Those that would do something now."""
    begun = status.asked and status.reason.why is not Why.FAILED
    possible = {
        "start": status.state not in (*AT_WORK, WorkState.OFF) and not begun,
        "stop": status.state is not WorkState.PAUSED,
    }
    offered = [] if status.reason.why is Why.DONE else [name for name, may in possible.items() if may]
    if not offered:
        return ""
    shown = "".join(_button(name, first=name == "start") for name in offered)
    about = " ".join(text(f"index.{name}.about") for name in offered)
    return f'<div class="lc-press">{shown}{quiet(about)}</div>'


def _button(name: str, *, first: bool) -> str:
    looks = "lc-button is-first" if first else "lc-button"
    return f'<button class="{looks}" data-key="{name}">{html_text(f"index.{name}")}</button>'


def indicator(status: DeepStatus) -> str:
    """For the header, while it works; it leads to the index."""
    if not status.is_indexing:
        return ""
    percent = percent_of(status.done, status.total)
    whole, short = html_text("index.now", percent=percent), html_text("index.now.short", percent=percent)
    return (
        f'<button class="lc-indexing" data-do="show_index" aria-label="{whole}" title="{whole}"><i></i>'
        f"<b>{whole}</b><b>{short}</b></button>"
    )


def percent_of(part: int, whole: int) -> int:
    """Rounded down, so that 100 is all of it; nothing is whole, too."""
    return 100 * part // whole if whole else 100
