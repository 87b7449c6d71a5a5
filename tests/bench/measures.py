"""Medians, spreads and alternating pairs."""

import statistics
from collections.abc import Callable, Iterable


def summary(values: Iterable[float], unit: str = "") -> str:
    """`median (min – max)`."""
    ordered = sorted(values)
    return f"{statistics.median(ordered):.3g}{unit} ({ordered[0]:.3g} – {ordered[-1]:.3g})"


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def alternate(ours: Callable[[], float], raw: Callable[[], float], pairs: int) -> list[tuple[float, float]]:
    """(ours, raw) measured in turn, after one uncounted pair."""
    ours(), raw()
    return [(ours(), raw()) for _ in range(pairs)]


def ratios(pairs: list[tuple[float, float]]) -> str:
    return summary(one / other for one, other in pairs)
