"""Lines over budgets: how the best size grows, and where two paradigms cross.

    log N*(C) = a log C + b, with N*(C) of analysis/best_size.py
    logit(score of the best size) = s log C + i, for each paradigm; two such lines cross at

        log C = (i_2 - i_1) / (s_1 - s_2)

Losses are fitted within a paradigm only: those of two are not the same quantity. A crossing is
sought on outcomes that both are scored by. Least squares throughout; 95% intervals are quantiles
over draws of the coefficients from their t distribution. Where the interval of s_1 - s_2 holds
zero, a crossing has no end on either side (Fieller 1954). That two lines do not cross between two
budgets is said only if one lies above the other at both, by intervals that hold together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unify.analysis.finite import finite

DRAWS = 20_000
MOST = 80.0  # log of a budget; beyond it is no end
FAR = 1e3  # beyond so many times the budgets measured, a crossing is none


@dataclass(frozen=True)
class Polynomial:
    """Least squares of y on powers of x: coefficients, lowest power first, and draws [DRAWS K] of
    them; without draws where nothing is left over to tell how far off they are."""

    coefficients: np.ndarray
    draws: np.ndarray | None

    def interval(self, index: int) -> tuple[float, float] | None:
        """95% interval of one coefficient; None without a residual to draw from."""
        return None if self.draws is None else _quantiles(self.draws[:, index])


def fit_polynomial(
    x: Sequence[float], y: Sequence[float], degree: int, seed: int = 0
) -> Polynomial | None:
    """Polynomial of `degree` through (x, y) by least squares, with draws of its coefficients.

    Args:
        x, y: one entry per run.
        degree: 1 for a line, 2 for a parabola.
        seed: of the draws from the coefficients' posterior (normal with an unknown variance).

    Returns None where x has too few different values; ValueError for a number that is not finite.
    """
    xs, ys = finite("x", x), finite("y", y)
    if len(set(x)) <= degree:
        return None
    design = np.vander(xs, degree + 1, increasing=True)
    solution = np.linalg.lstsq(design, ys, rcond=None)[0]
    free = len(x) - degree - 1
    if free < 1:
        return Polynomial(solution, None)
    residual = ys - design @ solution
    covariance = np.linalg.inv(design.T @ design) * float(residual @ residual) / free
    generator = np.random.default_rng(seed)
    root = np.linalg.cholesky(covariance + 1e-300 * np.eye(degree + 1))  # a perfect fit has 0
    normal = generator.standard_normal((DRAWS, degree + 1)) @ root.T
    spread = np.sqrt(free / generator.chisquare(free, (DRAWS, 1)))
    return Polynomial(solution, solution + normal * spread)


def logit(share: float, n: int) -> float:
    """Log odds of `share` = k / n. ValueError for a share that is not finite."""
    finite("share", share)
    hits = share * n  # half a count more of hits and of misses keeps the odds of 0 and 1 finite
    return math.log((hits + 0.5) / (n - hits + 0.5))


@dataclass(frozen=True)
class Crossing:
    """The budget at which two lines meet.

    `budget` is None where they do not meet within `FAR` times the budgets measured;
    `extrapolated` says that it lies outside of these; `apart`, that they do not meet among these:
    one line is above the other at the smallest and at the largest.
    """

    budget: float | None
    interval: tuple[float, float] | None
    extrapolated: bool = False
    apart: bool = False


def crossing(first: Polynomial, second: Polynomial, budgets: Sequence[float]) -> Crossing:
    """Crossing of two lines over log budget; an open end of the interval is 0 or infinite."""
    low, high = math.log(min(budgets)), math.log(max(budgets))
    (i, s), (j, r) = first.coefficients, second.coefficients
    log_budget = (j - i) / (s - r) if s != r else math.inf
    interval, apart = None, False
    if first.draws is not None and second.draws is not None:
        # Both were drawn with one seed: shifted rows make the draws of the two independent.
        unpaired = np.roll(second.draws, DRAWS // 2, axis=0)
        interval = _ratio(unpaired[:, 0] - first.draws[:, 0], first.draws[:, 1] - unpaired[:, 1])
        gap = first.draws - unpaired
        apart = _same_side(*(gap[:, 0] + gap[:, 1] * end for end in (low, high)))
    if not low - math.log(FAR) <= log_budget <= high + math.log(FAR):
        return Crossing(None, interval, apart=apart)
    return Crossing(math.exp(log_budget), interval, not low <= log_budget <= high, apart)


def _same_side(*gaps: np.ndarray) -> bool:
    """True if draws of all gaps lie on one side of 0, by intervals that hold together in 95%."""
    ends = [_quantiles(gap, 0.025 / len(gaps)) for gap in gaps]
    return all(low > 0 for low, _ in ends) or all(high < 0 for _, high in ends)


def _ratio(above: np.ndarray, below: np.ndarray) -> tuple[float, float]:
    """exp of the 95% interval of above / below; (0, inf) if `below` may be zero."""
    low, high = _quantiles(below)
    if low <= 0 <= high:
        return 0.0, math.inf
    ends = _quantiles(above / below)
    return _exp(ends[0]), _exp(ends[1])


def _quantiles(values: np.ndarray, tail: float = 0.025) -> tuple[float, float]:
    low, high = np.quantile(values, [tail, 1 - tail], method="nearest")
    return float(low), float(high)


def _exp(value: float) -> float:
    """exp, with 0 and infinity beyond `MOST`, where no budget is."""
    return 0.0 if value < -MOST else math.inf if value > MOST else math.exp(value)
