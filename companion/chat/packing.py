"""A turn packed into a window: the question always, the best passages, the latest turns.

Knows texts, tokens and windows, and is pure; it says what it left out. It does not know engines,
stores or threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from companion.chat.excerpt import cut_middle, excerpt, join
from companion.chat.means import Means
from companion.chat.modes import Step
from companion.chat.prompt import (
    CITE,
    FRAME,
    STEPS,
    STEPS_SMALL,
    Exchange,
    Packed,
    Shown,
    entry,
    fenced,
    system_text,
)
from companion.chat.quoting import quotables
from companion.chat.tokens import MESSAGE_TOKENS, Calibration
from companion.chat.window import PASSAGE_TOKENS
from companion.domain import Hit, Passage
from companion.errors import InvalidInput
from companion.library.fence import harmless
from companion.tuning import WIDENED

MOST_TURNS = 200
"""Of a conversation, however short they are."""
HISTORY_SHARE = 0.25
"""Share of the room beside the question that passages leave to the conversation."""
SMALL_PASSAGE_TOKENS = 300
"""Of a passage for a small model: two of them are read in about three seconds."""

QUESTION_CUT = (
    "The question is longer than the model's window; its middle was left out. It stands whole in the "
    "conversation; to ask about all of it, add the text as a document."
)
THOUGHTS_LEFT_OUT = "This model's window is too small to think before the answer."
TOO_SMALL = (
    "This model's window of {:,} tokens is too small for {}; choose a model that reads more, or shorten the "
    "system prompt."
)


def pack(
    means: Means,
    question: str,
    hits: Sequence[Hit],
    neighbours: Mapping[str, Sequence[Passage]],
    history: Sequence[Exchange],
) -> Packed:
    """Fit a turn into the window: the system text and the question always, the best passages, the
    latest turns.

    `hits` come best first, `neighbours` by chunk id; passages are shown in document order. Raises
    InvalidInput if the window, or what the person's own system prompt leaves of it, is too small.
    """
    _check_own(means)
    profile, calibration = means.profile, means.calibration
    asked, cost, room = _question_first(means, question, searched=bool(hits))
    if not asked:
        raise InvalidInput(TOO_SMALL.format(means.window.num_ctx, "this question"))
    room -= cost
    texts = _choose(means, hits, asked, room - _kept_back(history, room, calibration))
    room -= sum(
        _passage_size(each.hit, each.text, calibration) for each in _numbered(hits, texts, by_rank=True)
    )
    latest = _latest(history, room, calibration)
    room -= sum(_size(each, calibration) for each in latest)
    if not profile.small:
        _widen(texts, hits, neighbours, room, calibration)
    shown = _numbered(hits, texts, by_rank=profile.small)
    if hits and not shown:
        raise InvalidInput(TOO_SMALL.format(means.window.num_ctx, "the passages that were found"))
    # It would quote its earlier answers again. No notice: this is not for want of room.
    alone = profile.small and bool(shown)
    latest = [] if alone else latest
    missing, untold = len(hits) - len(shown), len(history) - len(latest)
    notices = (
        *((THOUGHTS_LEFT_OUT,) if means.plan.skips_thinking else ()),
        *((QUESTION_CUT,) if asked != question else ()),
        *((_passages_left_out(missing, len(hits)),) if missing else ()),
        *((_turns_left_out(len(latest)),) if untold and not alone else ()),
    )
    system = _system(means, searched=bool(shown))
    if not profile.small:
        system += fenced(shown)
    choices = quotables(asked, {each.number: harmless(each.text) for each in shown}) if profile.small else ()
    return Packed(
        system,
        tuple(latest),
        asked,
        shown,
        profile.small,
        notices,
        tuple(choices),
        passages_left_out=missing,
        turns_left_out=untold,
    )


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a question would cost if it were asked now, in tokens."""

    question: int
    history: int
    passages: int
    instructions: int
    """The system text, the steps of thinking, and what a chat template puts around them."""
    window: int
    """What the model would hold at once: these and its answer."""
    cut: bool = False
    """The question alone is too long: its middle would be left out."""

    @property
    def tokens(self) -> int:
        """Of the whole prompt."""
        return self.question + self.history + self.passages + self.instructions


def estimate(means: Means, question: str, top_k: int, history: Sequence[Exchange]) -> Estimate:
    """As `pack` would share out the window. Nothing was searched yet, so that passages count as
    `top_k` full ones, or as many tokens as there is room for.
    """
    plan, profile, calibration = means.plan, means.profile, means.calibration
    asked, cost, room = _question_first(means, question, searched=plan.searches)
    instructions = means.window.prompt - room
    room -= cost
    size = SMALL_PASSAGE_TOKENS if profile.small else PASSAGE_TOKENS
    most = min(top_k, profile.passages) * size if plan.searches else 0
    passages = max(min(most, room - _kept_back(history, room, calibration)), 0)
    # A small model that reads passages sees nothing of the conversation.
    latest = [] if profile.small and passages else _latest(history, room - passages, calibration)
    told = sum(_size(each, calibration) for each in latest)
    return Estimate(cost, told, passages, instructions, means.window.num_ctx, asked != question)


def _check_own(means: Means) -> None:
    tokens, most = means.calibration.tokens(means.system_prompt), means.window.prompt // 2
    if tokens > most:
        raise InvalidInput(
            f"The system prompt of this conversation takes about {tokens:,} tokens, and at most {most:,} "
            "of this model's window are for it; shorten it in the settings, or choose a model that reads "
            "more.",
            field="system_prompt",
        )


def _question_first(means: Means, question: str, *, searched: bool) -> tuple[str, int, int]:
    """The question as far as it fits, its tokens, and the room that it shares with all but the
    instructions.
    """
    room = means.window.prompt - _around(_system(means, searched=searched), means)
    # A small model is told the question before and after the text, and again when it shall answer.
    told = 1 if not means.profile.small else 3 if means.plan.passes else 2
    asked = cut_middle(question, room // (2 * told if searched else told), means.calibration)
    return asked, told * means.calibration.tokens(asked), room


def _system(means: Means, *, searched: bool) -> str:
    return system_text(means.plan.mode, small=means.profile.small, searched=searched, own=means.system_prompt)


def _kept_back(history: Sequence[Exchange], room: int, calibration: Calibration) -> int:
    return min(int(room * HISTORY_SHARE), sum(_size(each, calibration) for each in history))


def _around(system: str, means: Means) -> int:
    """Tokens of everything but question, passages and history."""
    calibration, passes = means.calibration, means.plan.passes
    steps = (*passes, Step.ANSWER)
    if means.profile.small:
        instructions = [STEPS_SMALL[step] for step in steps]
    else:
        instructions = [*(STEPS[step] for step in steps), CITE] if passes else []
    return (
        calibration.tokens(system)
        + sum(calibration.tokens(text) + 2 * MESSAGE_TOKENS for text in instructions)
        + calibration.tokens(FRAME)
        + 2 * MESSAGE_TOKENS
    )


def _in(hit: Hit, texts: Mapping[str, str]) -> bool:
    return hit.passage.chunk_id in texts


def _turns_left_out(kept: int) -> str:
    if not kept:
        return "What was said before in this conversation did not fit into the model's window."
    latest = "turn" if kept == 1 else f"{kept} turns"
    return f"Only the latest {latest} of this conversation fitted into the model's window."


def _passages_left_out(missing: int, found: int) -> str:
    if found == 1:
        return "The passage that was found did not fit into the model's window."
    return f"{missing} of {found} passages did not fit into the model's window."


def _size(exchange: Exchange, calibration: Calibration) -> int:
    return calibration.tokens(exchange.question) + calibration.tokens(exchange.answer) + 2 * MESSAGE_TOKENS


def _passage_size(hit: Hit, text: str, calibration: Calibration) -> int:
    # Apart: letters of another script in a name must not change what the text costs.
    return calibration.tokens(entry(Shown(99, hit, "")) + "\n\n") + calibration.tokens(text)


def _choose(means: Means, hits: Sequence[Hit], question: str, room: int) -> dict[str, str]:
    """The best passages that fit, by chunk id. The best one is shortened rather than left out."""
    calibration = means.calibration
    texts: dict[str, str] = {}
    for position, hit in enumerate(hits):
        text = hit.passage.text
        around = _passage_size(hit, "", calibration)
        if means.profile.small:
            share = room // (len(hits) - position) - around
            text = excerpt(text, question, min(share, SMALL_PASSAGE_TOKENS), calibration)
        elif not texts and _passage_size(hit, text, calibration) > room:
            text = excerpt(text, question, room - around, calibration)
        size = _passage_size(hit, text, calibration)
        if text and size <= room:
            texts[hit.passage.chunk_id] = text
            room -= size
    return texts


def _latest(history: Sequence[Exchange], room: int, calibration: Calibration) -> list[Exchange]:
    kept: list[Exchange] = []
    for exchange in reversed(history):
        room -= _size(exchange, calibration)
        if room < 0 or len(kept) == MOST_TURNS:
            break
        kept.insert(0, exchange)
    return kept


def _widen(
    texts: dict[str, str],
    hits: Sequence[Hit],
    neighbours: Mapping[str, Sequence[Passage]],
    room: int,
    calibration: Calibration,
) -> None:
    """Put passages beside the best ones to them, as far as there is room; none is shown twice."""
    taken = {hit.passage.chunk_id for hit in hits}
    for hit in hits[:WIDENED]:
        if texts.get(hit.passage.chunk_id) != hit.passage.text:
            continue
        for neighbour in neighbours.get(hit.passage.chunk_id, ()):
            here = texts[hit.passage.chunk_id]
            first = neighbour.chunk_index < hit.passage.chunk_index
            wider = join(neighbour.text, here) if first else join(here, neighbour.text)
            # One more for rounding: pieces are rounded up, a whole may not be.
            cost = calibration.tokens(wider) - calibration.tokens(here) + 1
            if neighbour.chunk_id not in taken and cost <= room:
                texts[hit.passage.chunk_id] = wider
                taken.add(neighbour.chunk_id)
                room -= cost


def _numbered(hits: Sequence[Hit], texts: Mapping[str, str], *, by_rank: bool) -> tuple[Shown, ...]:
    """In document order, the document of the best passage first; by rank for a small model, which
    reads little more than the first one.
    """
    rank: dict[str, int] = {}
    for hit in hits:
        rank.setdefault(hit.passage.doc_id, len(rank))
    ordered = [hit for hit in hits if _in(hit, texts)]
    if not by_rank:
        ordered.sort(key=lambda hit: (rank[hit.passage.doc_id], hit.passage.chunk_index))
    return tuple(Shown(number, hit, texts[hit.passage.chunk_id]) for number, hit in enumerate(ordered, 1))
