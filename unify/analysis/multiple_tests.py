"""Families of tests: adjusted p, and intervals that hold together.

    adjusted p (Holm 1979)   p_(k) <= 5% / (m - k + 1), one after the other, the smallest first
    simultaneous intervals   each at 1 - 5% / m (Bonferroni): all hold in 95% of the families

Holm tells a few differences that Bonferroni does not. The interval of such a one is cut at 0: its
sign is told, and no more of it (bounds that go with Holm's test and say more are known not to
exist: Strassburger and Bretz 2008, doi:10.1002/sim.3338). So an interval leaves out 0 exactly where
Holm's p is at most 5%; an end that is exactly 0 is left out.
"""

from collections.abc import Sequence

from unify.analysis.finite import finite
from unify.analysis.paired_differences import LEVEL, Difference


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Adjusted p of a family of tests (Holm 1979); None stays None. ValueError for NaN.

    Findings at p < 0.05 hold a false one with a probability of 5% at most.
    """
    finite("p of a family", [0.0 if p is None else p for p in ps])
    order = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    reached = 0.0
    for rank, (p, index) in enumerate(order):
        reached = max(reached, min(1.0, p * (len(order) - rank)))
        adjusted[index] = reached
    return adjusted


def simultaneous_interval(
    difference: Difference, adjusted: float | None, tests: int
) -> tuple[float, float] | None:
    """The interval that goes with the adjusted p of one of `tests` tests; None without a p."""
    ends = difference.interval_at(1 - (1 - LEVEL) / tests)
    if ends is None or adjusted is None:
        return None
    low, high = ends
    if adjusted <= 1 - LEVEL and low <= 0 <= high:
        return (0.0, high) if difference.mean > 0 else (low, 0.0)
    return low, high
