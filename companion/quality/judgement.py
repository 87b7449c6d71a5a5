"""Is the deep layer worth its time on these documents? A judgement over paired ranks, with its doubt.

Pure. It does not know how a rank came about; the page has sentences of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import comb

from companion.domain import Measurement
from companion.quality.throwaway import Method

WITHIN = 5
"""Passages that the model gets by default: a rank beyond is a miss."""
DOUBT = 0.05
"""A difference that chance makes as often as this, or more often, is none."""
NEARLY_ALL = 0.95
"""Found without the deep layer: of what is left, no difference can be told."""
ENOUGH = 40
"""Questions; of fewer nobody can say that there is no difference."""


class Verdict(StrEnum):
    """What the deep layer does for the questions."""

    NO_DEEP = "no_deep"
    """There is none, or the questions were asked without it."""
    FINDS_MORE = "finds_more"
    """More passages among the first five."""
    FINDS_FEWER = "finds_fewer"
    RANKS_HIGHER = "ranks_higher"
    """As many among the first five, but the right one stands higher."""
    RANKS_LOWER = "ranks_lower"
    NO_ROOM = "no_room"
    """Nearly all is found without it: these questions leave nothing to add."""
    NOTHING = "nothing"
    """No difference that is more than chance, and there were enough questions to see a large one."""
    TOO_FEW = "too_few"
    """No difference that is more than chance, and too few questions."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Counted in questions."""

    verdict: Verdict
    questions: int
    gained: int = 0
    """With the deep layer among the first five, without it not."""
    lost: int = 0
    higher: int = 0
    """The right passage stands higher with the deep layer."""
    lower: int = 0

    @property
    def per_hundred(self) -> int:
        """Of 100 questions: how many more are answered among the first five; negative: fewer."""
        return round(100 * (self.gained - self.lost) / self.questions) if self.questions else 0


@dataclass(frozen=True, slots=True)
class Change:
    """A method now and before, on the questions that both measurements have; shares, 0 to 1."""

    questions: int
    before: float
    now: float


def judge(measurement: Measurement) -> Judgement:
    """The search with the deep layer against the same search without it, question by question.

    By two-sided sign tests: first on who is found at all, then on who stands higher.
    """
    pairs = list(_pairs(measurement))
    if not pairs:
        return Judgement(Verdict.NO_DEEP, measurement.questions)
    gained = sum(_found(deep) and not _found(without) for without, deep in pairs)
    lost = sum(_found(without) and not _found(deep) for without, deep in pairs)
    higher = sum(_order(deep) < _order(without) for without, deep in pairs)
    lower = sum(_order(deep) > _order(without) for without, deep in pairs)
    if sign_test(gained, lost) < DOUBT:
        verdict = Verdict.FINDS_MORE if gained > lost else Verdict.FINDS_FEWER
    elif sign_test(higher, lower) < DOUBT:
        verdict = Verdict.RANKS_HIGHER if higher > lower else Verdict.RANKS_LOWER
    elif len(pairs) < ENOUGH:
        verdict = Verdict.TOO_FEW
    else:
        found = sum(_found(without) for without, _deep in pairs) / len(pairs)
        verdict = Verdict.NO_ROOM if found >= NEARLY_ALL else Verdict.NOTHING
    return Judgement(verdict, len(pairs), gained, lost, higher, lower)


def sign_test(wins: int, losses: int) -> float:
    """How often chance alone makes a difference at least as large.

    >>> sign_test(5, 0)
    0.0625
    """
    decided = wins + losses
    tail = sum(comb(decided, k) for k in range(max(wins, losses), decided + 1))
    return min(1.0, tail / 2.0 ** (decided - 1))


def changes(now: Measurement, before: Measurement) -> dict[str, Change]:
    """Recall at 5 by method, on the same questions; empty where there are none."""
    common = now.ranks.keys() & before.ranks.keys()
    methods = now.figures.keys() & before.figures.keys() if common else set()
    return {
        method: Change(len(common), _recall(before.ranks, common, method), _recall(now.ranks, common, method))
        for method in now.figures
        if method in methods
    }


def answering(measurement: Measurement) -> str:
    """The method that answers questions now."""
    return str(Method.DEEP if Method.DEEP in measurement.figures else Method.FEEDBACK)


def answering_rank(ranks: Mapping[str, int | None]) -> int | None:
    """Where the search that answers had the passage."""
    return ranks[Method.DEEP] if Method.DEEP in ranks else ranks.get(Method.FEEDBACK)


def misses(measurement: Measurement) -> list[int]:
    """Questions whose passage the search that answers has not among the first five, worst last."""
    ranks = {key: answering_rank(each) for key, each in measurement.ranks.items()}
    missed = {key: rank for key, rank in ranks.items() if not _found(rank)}
    return sorted(missed, key=lambda key: (_order(missed[key]), key))


def _pairs(measurement: Measurement) -> Iterator[tuple[int | None, int | None]]:
    for ranks in measurement.ranks.values():
        if Method.DEEP in ranks:
            yield ranks[Method.FEEDBACK], ranks[Method.DEEP]


def _recall(ranks: Mapping[int, Mapping[str, int | None]], keys: set[int], method: str) -> float:
    return sum(_found(ranks[key].get(method)) for key in keys) / len(keys)


def _found(rank: int | None) -> bool:
    return rank is not None and rank <= WITHIN


def _order(rank: int | None) -> float:
    return float("inf") if rank is None else rank
