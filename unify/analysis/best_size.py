"""The best size at one budget: the lowest point of a curve of losses over log size.

    L(log N) at one budget C is a parabola near its lowest point N*(C)

(IsoFLOP, Hoffmann et al., arXiv:2203.15556, fig. 3). A law of sums of powers is none further away,
so the parabola's lowest point is off by more than its own interval says, the more so the more seeds
there are: with sizes from an eighth to eight times the best, such an interval held the truth in
none of a hundred studies. The interval here is the hull of the parabola's and the cubic's, both by
the delta method with the variance that the cubic leaves: how far the two lowest points lie apart is
the size of what the parabola leaves out. Under Chinchilla's law it holds the true N* in 95% and
more, with sizes from x1/2 to x2 up to x1/8 to x8 (tests/analysis/test_best_size.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from unify.analysis.finite import finite

TAIL = 0.025
FEWEST_FOR_INTERVAL = 4  # sizes: three leave nothing by which a parabola is seen to be none
MOST = 80.0  # log of a size; beyond it is no end


@dataclass(frozen=True)
class Optimum:
    """The best size at one budget.

    `where`: `inside` the sizes tried, at their `edge`, or `none` where the losses do not curve
    upwards; at the edge and without a curve it is the best size tried. `interval`: of the size; an
    open end is 0 or infinite; None with three sizes.
    """

    size: float
    loss: float
    where: str
    interval: tuple[float, float] | None = None


def optimum(sizes: Sequence[float], losses: Sequence[float]) -> Optimum | None:
    """The size of the lowest loss, by a parabola in log size.

    `sizes` and `losses` have one entry per run. None for fewer than three different sizes;
    ValueError for a loss that is not finite.
    """
    logs, ys = np.log(finite("sizes", sizes)), finite("losses", losses)
    kinds = len(set(sizes))
    if kinds < 3:
        return None
    middle = float(logs.mean())
    x = logs - middle
    parabola = _fit(x, ys, 2)
    means = {s: float(ys[np.asarray(sizes) == s].mean()) for s in sizes}
    best = min(means, key=lambda size: means[size])
    c, b, a = parabola
    if a <= 0:
        return Optimum(best, means[best], "none")
    lowest = -b / (2 * a)
    if not x.min() <= lowest <= x.max():
        return Optimum(best, means[best], "edge")
    interval = _hull(x, ys, middle) if kinds >= FEWEST_FOR_INTERVAL else None
    return Optimum(math.exp(lowest + middle), float(c - b * b / (4 * a)), "inside", interval)


def _fit(x: np.ndarray, y: np.ndarray, degree: int) -> np.ndarray:
    """Coefficients of a polynomial, lowest power first."""
    return np.linalg.lstsq(np.vander(x, degree + 1, increasing=True), y, rcond=None)[0]


def _hull(x: np.ndarray, y: np.ndarray, middle: float) -> tuple[float, float]:
    """The smallest interval of the size that holds those by a parabola and by a cubic."""
    degree = 3 if len(x) > 4 else 2  # four runs: the cubic goes through all of them
    freedom = len(x) - degree - 1
    left = y - np.vander(x, degree + 1, increasing=True) @ _fit(x, y, degree)
    variance, t = float(left @ left) / freedom, float(stats.t.isf(TAIL, freedom))
    ends = [_interval(x, y, degree, variance, t) for degree in (2, 3)]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return _exp(low + middle), _exp(high + middle)


def _interval(
    x: np.ndarray, y: np.ndarray, degree: int, variance: float, t: float
) -> tuple[float, float]:
    """Interval of the lowest point of one polynomial; without ends where it may not curve."""
    design = np.vander(x, degree + 1, increasing=True)
    coefficients = np.polynomial.Polynomial(_fit(x, y, degree))
    covariance = np.linalg.inv(design.T @ design) * variance
    slope, curve = coefficients.deriv(), coefficients.deriv(2)
    lows = [r.real for r in slope.roots() if abs(r.imag) < 1e-12 and curve(r.real) > 0]
    if not lows:
        return -math.inf, math.inf
    at = float(lows[0])  # a cubic has one lowest point
    powers = np.arange(degree + 1)
    of_slope = powers * at ** np.maximum(powers - 1, 0)  # derivatives by the coefficients
    of_curve = powers * (powers - 1) * at ** np.maximum(powers - 2, 0)
    bend = float(curve(at))
    if bend - t * math.sqrt(of_curve @ covariance @ of_curve) <= 0:
        return -math.inf, math.inf
    half = t * math.sqrt(of_slope @ covariance @ of_slope) / bend
    return at - half, at + half


def _exp(value: float) -> float:
    """exp, with 0 and infinity beyond `MOST`, where no size is."""
    return 0.0 if value < -MOST else math.inf if value > MOST else math.exp(value)
