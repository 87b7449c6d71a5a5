"""Why deep work is in its state, as a sentence for those who read no code.

Pure. It does not know when a reason holds. The page has sentences of its own, which can be
translated.
"""

from __future__ import annotations

from companion.domain import Reason, Why, WorkState

SENTENCES = {
    Why.TURN: "Waiting: a question is being answered.",
    Why.IDLE: "Deepening, because nobody needs the machine.",
    Why.ASKED: "Deepening, because you started it.",
    Why.LOOKING: "Pausing for a moment to see whether other programs use the graphics card.",
    Why.DONE: "Everything is in the deep layer.",
    Why.STOPPED: "Stopped by you, until you start it again.",
    Why.BATTERY: "Off: the machine runs on its battery.",
    Why.SLEPT: "Waiting: the machine slept.",
}


def sentence(state: WorkState, reason: Reason) -> str:
    """
    >>> sentence(WorkState.WATCHING, Reason(Why.BUSY, percent=43, source="gpu"))
    'Waiting: other programs use 43 % of the graphics card.'
    """
    match reason.why:
        case Why.ACTIVE:
            said = f"Waiting: you were active {span(reason.ago_s or 0.0)} ago."
        case Why.QUIET:
            said = f"Waiting: all is quiet; deepening starts in {span(reason.left_s or 0.0)}."
        case Why.BUSY:
            where = "graphics card" if reason.source == "gpu" else "processor"
            said = f"Waiting: other programs use {reason.percent} % of the {where}."
        case Why.UNKNOWN:
            said = reason.text or "Waiting: nobody knows how busy the machine is."
        case Why.MEMORY:
            needed, free = (f"{(size or 0) / 1e9:.1f} GB" for size in (reason.needed, reason.free))
            said = f"Waiting for memory: the deep embedder needs {needed}, and {free} are free."
        case Why.FAILED:
            said = reason.text or "The deep work failed; the log says why."
        case why:
            said = SENTENCES[why]
    return f"The chat model comes back. {said}" if state is WorkState.RESTORING else said


def span(seconds: float) -> str:
    """
    >>> span(200.0)
    '3 min'
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"
