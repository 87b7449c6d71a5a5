"""How the deep work is at one moment, and what was seen of the machine in the last hour.

Values only. It does not know how they come about, or how they are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from companion.background.residency import Freed
from companion.domain import MachineLoad, Reason, WorkState


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one look at the machine."""

    at: datetime
    percent: int | None
    memory_used: int | None
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class DeepStatus:
    """How the deep work is, at this moment."""

    state: WorkState
    reason: Reason
    embedder: str
    embedder_id: str | None
    """None: it could not be opened yet."""
    done: int
    total: int
    """Passages of everybody."""
    rate: float | None
    """Passages a second in this run."""
    load: MachineLoad | None
    freed: Freed | None
    """What came of the last making room."""
    history: tuple[Sample, ...] = ()
    asked: bool = False
    """A person has started it by hand, whether it may work yet or not."""

    @property
    def is_indexing(self) -> bool:
        return self.state is WorkState.DEEPENING

    @property
    def eta_s(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate else None
