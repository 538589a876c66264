"""Sizes at budgets: the best size of a paradigm at each, how both grow, where two paradigms cross.

    L(log N) at one budget C is a parabola near its lowest point       N*(C), L*(C)
    log N*(C) = a log C + b
    logit(score of the best size) = s log C + i, for each paradigm; two such lines cross at

        log C = (i_2 - i_1) / (s_1 - s_2)

The first is the second approach of Hoffmann et al. (arXiv:2203.15556). Losses are fitted within a
paradigm only: those of two are not the same quantity. A crossing is sought on outcomes that both
are scored by. Least squares throughout; 95% intervals are quantiles over draws of the coefficients
from their t distribution. Where a denominator's own interval holds zero (slopes that may be equal,
a parabola that may be straight), the quotient has no end on either side (Fieller 1954).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 20_000
MOST = 80.0  # log of a budget or a size; beyond it is no end
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

    Returns None where x has too few different values.
    """
    if len(set(x)) <= degree:
        return None
    design = np.vander(np.asarray(x, float), degree + 1, increasing=True)
    solution = np.linalg.lstsq(design, np.asarray(y, float), rcond=None)[0]
    free = len(x) - degree - 1
    if free < 1:
        return Polynomial(solution, None)
    residual = np.asarray(y, float) - design @ solution
    covariance = np.linalg.inv(design.T @ design) * float(residual @ residual) / free
    generator = np.random.default_rng(seed)
    root = np.linalg.cholesky(covariance + 1e-300 * np.eye(degree + 1))  # a perfect fit has 0
    normal = generator.standard_normal((DRAWS, degree + 1)) @ root.T
    spread = np.sqrt(free / generator.chisquare(free, (DRAWS, 1)))
    return Polynomial(solution, solution + normal * spread)


@dataclass(frozen=True)
class Optimum:
    """The best size at one budget.

    `where`: `inside` the sizes tried, at their `edge`, or `none` where the losses do not curve
    upwards; at the edge and without a curve it is the best size tried.
    """

    size: float
    loss: float
    where: str
    interval: tuple[float, float] | None = None  # of the size


def optimum(sizes: Sequence[float], losses: Sequence[float]) -> Optimum | None:
    """The size of the lowest loss, by a parabola in log size (IsoFLOP, arXiv:2203.15556, fig. 3).

    `sizes` and `losses` have one entry per run. None for fewer than three different sizes.
    """
    logs = np.log(np.asarray(sizes, float))
    middle = float(logs.mean())
    parabola = fit_polynomial([float(x) - middle for x in logs], losses, 2)
    if parabola is None:
        return None
    c, b, a = parabola.coefficients
    means = {
        s: float(np.mean([y for x, y in zip(sizes, losses, strict=True) if x == s])) for s in sizes
    }
    best = min(means, key=lambda size: means[size])
    if a <= 0:
        return Optimum(best, means[best], "none")
    lowest = -b / (2 * a)
    if not logs.min() <= lowest + middle <= logs.max():
        return Optimum(best, means[best], "edge")
    interval = None
    if parabola.draws is not None:
        _, bs, as_ = parabola.draws.T
        interval = _ratio(-bs, 2 * as_, middle)
    return Optimum(math.exp(lowest + middle), float(c - b * b / (4 * a)), "inside", interval)


def logit(share: float, n: int) -> float:
    """Log odds of `share` = k / n."""
    hits = share * n  # half a count more of hits and of misses keeps the odds of 0 and 1 finite
    return math.log((hits + 0.5) / (n - hits + 0.5))


@dataclass(frozen=True)
class Crossing:
    """The budget at which two lines meet.

    `budget` is None where they do not meet within `FAR` times the budgets measured;
    `extrapolated` says that it lies outside of these.
    """

    budget: float | None
    interval: tuple[float, float] | None
    extrapolated: bool = False


def crossing(first: Polynomial, second: Polynomial, budgets: Sequence[float]) -> Crossing:
    """Crossing of two lines over log budget; an open end of the interval is 0 or infinite."""
    low, high = math.log(min(budgets)), math.log(max(budgets))
    (i, s), (j, r) = first.coefficients, second.coefficients
    log_budget = (j - i) / (s - r) if s != r else math.inf
    interval = None
    if first.draws is not None and second.draws is not None:
        # Both were drawn with one seed: shifted rows make the draws of the two independent.
        unpaired = np.roll(second.draws, DRAWS // 2, axis=0)
        interval = _ratio(unpaired[:, 0] - first.draws[:, 0], first.draws[:, 1] - unpaired[:, 1])
    if not low - math.log(FAR) <= log_budget <= high + math.log(FAR):
        return Crossing(None, interval)
    return Crossing(math.exp(log_budget), interval, not low <= log_budget <= high)


def _ratio(above: np.ndarray, below: np.ndarray, shift: float = 0.0) -> tuple[float, float]:
    """exp of the 95% interval of above / below + shift; (0, inf) if `below` may be zero."""
    low, high = _quantiles(below)
    if low <= 0 <= high:
        return 0.0, math.inf
    ends = _quantiles(above / below)
    return _exp(ends[0] + shift), _exp(ends[1] + shift)


def _quantiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975], method="nearest")
    return float(low), float(high)


def _exp(value: float) -> float:
    """exp, with 0 and infinity beyond `MOST`, where no size or budget is."""
    return 0.0 if value < -MOST else math.inf if value > MOST else math.exp(value)
