"""How a question is answered, as plans of steps: does it search, how does it think.

Knows thinking modes and what a model can do. It does not know prompts, engines or documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from companion.domain import ModelInfo, Thinking, ThinkingMode

LEVELS: tuple[Thinking, ...] = ("low", "medium", "high")
"""For one, two and three passes."""


class Step(StrEnum):
    """One call of the model within a turn."""

    DRAFT = "draft"
    CHECK = "check"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens between the question and the answer."""

    mode: ThinkingMode
    searches: bool
    passes: tuple[Step, ...]
    """Calls of the model before the answer; none when it thinks by itself or not at all."""
    native: Thinking | None
    """What to send as `think`; None for models that do not know the word."""

    @property
    def skips_thinking(self) -> bool:
        """Whether the mode wants thoughts, but there is no room for them."""
        return self.mode is not ThinkingMode.RAG and not self.passes and self.native is None


def plan_turn(mode: ThinkingMode, model: ModelInfo, passes: int) -> Plan:
    """`passes` counts the thinking of models that cannot think by themselves, 1 to 3; those that
    take a level are told one that corresponds.
    """
    thinks = mode is not ThinkingMode.RAG
    steps = (Step.DRAFT, *[Step.CHECK] * (passes - 1)) if thinks and not model.can_think else ()
    return Plan(
        mode=mode,
        searches=mode is not ThinkingMode.COT,
        passes=steps,
        native=_native(model, thinks, passes),
    )


def _native(model: ModelInfo, thinks: bool, passes: int) -> Thinking | None:
    if not thinks or not model.can_think:
        return model.least_thinking
    return LEVELS[passes - 1] if model.thinks_in_levels else True
