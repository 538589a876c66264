"""Eta squared: shares of a table's sum of squares, of arms, of conditions, of their combination.

    y_aps = m + arm_a + condition_p + (arm x condition)_ap + seed_s + e_aps

Sums of squares of the two-way layout with seeds as blocks; each effect is tested by F against e.
Eta squared describes the table at hand; it is no estimate of a component of variance, which it
exceeds: an effect that is nothing has a share of its degrees of freedom.
Rank stability: Kendall's tau between the orders of the arms under every two conditions, 1 where no
two arms change places.

A arms, P conditions, S seeds.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import special, stats

from unify.analysis.finite import finite
from unify.analysis.paired_differences import ROUNDING

EFFECTS = ("arm", "condition", "both")


@dataclass(frozen=True)
class EtaSquared:
    """`shares` of the sum of squares, by effect, `seed` and `rest`; `p` of each effect, None where
    one seed leaves nothing to test against; `agreement`: tau of every two conditions."""

    shares: dict[str, float]
    p: dict[str, float | None]
    agreement: list[float]


def eta_squared(values: np.ndarray) -> EtaSquared | None:
    """Eta squared of scores [A P S]: A arms, P conditions, S seeds.

    None for fewer than two arms or conditions, or where nothing varies; ValueError for a score that
    is not finite.
    """
    arms, conditions, seeds = finite("scores", values).shape
    squares = _squares(values)
    total = sum(squares.values())
    rounding = values.size * (ROUNDING * float(np.abs(values).max())) ** 2
    if min(arms, conditions) < 2 or total <= rounding:
        return None
    if squares["rest"] <= rounding:
        squares["rest"] = 0.0
    freedom = {
        "arm": arms - 1,
        "condition": conditions - 1,
        "both": (arms - 1) * (conditions - 1),
        "rest": (arms * conditions - 1) * (seeds - 1),
    }
    return EtaSquared(
        {name: square / total for name, square in squares.items()},
        {name: _p(squares, freedom, name) for name in EFFECTS},
        _agreement(values.mean(-1)),
    )


def _squares(y: np.ndarray) -> dict[str, float]:
    """Sums of squares; they add up to that about the mean."""
    mean, cells = y.mean(), y.mean(2)
    arm, condition, seed = (y.mean(axes) - mean for axes in ((1, 2), (0, 2), (0, 1)))
    both = cells - mean - arm[:, None] - condition[None]
    residual = y - cells[..., None] - seed
    size = y.size
    return {
        "arm": float(size / len(arm) * (arm**2).sum()),
        "condition": float(size / len(condition) * (condition**2).sum()),
        "both": float(size / both.size * (both**2).sum()),
        "seed": float(size / len(seed) * (seed**2).sum()),
        "rest": float((residual**2).sum()),
    }


def _p(squares: dict[str, float], freedom: dict[str, int], name: str) -> float | None:
    if freedom["rest"] < 1:
        return None
    noise = squares["rest"] / freedom["rest"]
    if noise == 0:
        return None
    ratio = squares[name] / freedom[name] / noise
    return float(special.fdtrc(freedom[name], freedom["rest"], ratio))


def _agreement(cells: np.ndarray) -> list[float]:
    """Tau-b of every two columns of [A P]; those in which all arms tie say nothing."""
    each = [stats.kendalltau(a, b).statistic for a, b in combinations(cells.T, 2)]
    return [float(tau) for tau in each if np.isfinite(tau)]
