"""What another embedder would cost: its download, its memory, and the time for the whole library.

Knows how a measured speed carries over to another embedder. It does not know how facts are found
out, or how costs are shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from companion.inference.embedder_facts import EmbedderFacts

LayerName = Literal["light", "deep"]


@dataclass(frozen=True, slots=True)
class EmbedderCost:
    """What is to be known before an embedder is chosen."""

    name: str
    layer: LayerName
    refusal: str | None = None
    """Why it cannot be used here, and what to do; then nothing else is known."""
    download: int | None = None
    """Bytes to come; 0: it is here. None: nobody tells."""
    memory: int | None = None
    """Bytes it needs while it works."""
    passages: int = 0
    """To be embedded: those that have no vectors of this embedder."""
    seconds: float | None = None
    """For those passages, about; None: nothing was measured yet."""


@dataclass(frozen=True, slots=True)
class Measure:
    """The speed of one embedder on this machine."""

    name: str
    tokens_per_s: float
    working: int | None
    """Its parameters that every token passes; None: not known."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to work with."""

    memory: int
    """Bytes of main memory."""
    card: bool
    """There is a graphics card, which only the deep layer uses."""


def cost_of(
    facts: EmbedderFacts,
    layer: LayerName,
    machine: Machine,
    passages: int,
    tokens: int,
    measures: Iterable[Measure],
) -> EmbedderCost:
    """`tokens` of all the passages that are to be embedded."""
    card = machine.card and layer == "deep"
    needed = facts.card_memory if card else facts.memory
    if needed is not None and needed > machine.memory and not card:
        sentence = (
            f"{facts.name} needs about {_gigabytes(needed)} of memory, and this machine has "
            f"{_gigabytes(machine.memory)}; choose a smaller one."
        )
        return EmbedderCost(facts.name, layer, sentence)
    seconds = seconds_for(tokens, facts, measures, elsewhere=card) if tokens else 0.0
    return EmbedderCost(facts.name, layer, None, facts.download, needed, passages, seconds)


def seconds_for(
    tokens: int, facts: EmbedderFacts, measures: Iterable[Measure], *, elsewhere: bool
) -> float | None:
    """By its own measure, else by another's in proportion to their work.

    `elsewhere`: it would not run where the others did, so that their speed says nothing of it.
    """
    others: list[Measure] = []
    for measure in measures:
        if measure.name == facts.name:
            return tokens / measure.tokens_per_s
        others.append(measure)
    if elsewhere or not facts.working:
        return None
    for measure in others:
        if measure.working:
            return tokens * facts.working / (measure.tokens_per_s * measure.working)
    return None


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
