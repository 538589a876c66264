"""Power of a comparison of two arms: what these seeds and prompts would have found.

Everything follows from the deviation between seeds, which a few seeds hardly know: numbers from it
are rough, and say nothing of a difference that was found (Hoenig and Heisey 2001,
doi:10.1198/000313001300339897).
"""

import math
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from unify.analysis.finite import finite
from unify.analysis.paired_differences import (
    FEWEST_SEEDS,
    NO_PROMPTS,
    TAIL,
    Difference,
    Part,
    half_width,
)

POWER = 0.8
QUANTILES = 256, 16  # of the mean square of seeds, whose degrees of freedom are few; of prompts
MOST_SEEDS = 1000  # that `seeds_needed` looks for


def power(
    effect: float, deviation: float, seeds: int, of_prompts: Part = NO_PROMPTS, tests: int = 1
) -> float:
    """Probability that the interval of `paired_differences` leaves 0 out, at 5%.

    By quadrature: the mean is normal, the mean squares that the interval takes are chi-squared.

    Args:
        effect: the true difference of means.
        deviation: standard deviation of a seed's difference.
        seeds: seeds of each arm.
        of_prompts: variance of the mean from the choice of prompts, and its degrees of freedom.
        tests: tests that share the 5% (Bonferroni: Holm finds it at least as often).
    """
    finite("effect, deviation and prompt variance", [effect, deviation, *of_prompts])
    if seeds < FEWEST_SEEDS:
        return 0.0
    parts = [(deviation**2 / seeds, seeds - 1.0), of_prompts]
    spread = math.sqrt(sum(variance for variance, _ in parts))
    if spread == 0:
        return 1.0 if effect else 0.0
    found = [  # [Q], [P]
        variance * _chi_squared(df, count) / df
        for (variance, df), count in zip(parts, QUANTILES, strict=True)
    ]
    each = [
        (one, df) for one, (_, df) in zip(np.broadcast_arrays(*np.ix_(*found)), parts, strict=True)
    ]
    half = half_width(2 * TAIL / tests, *each)  # [Q P]
    beyond = special.ndtr((effect - half) / spread) + special.ndtr((-effect - half) / spread)
    return float(beyond.mean())


@lru_cache(maxsize=64)
def _chi_squared(df: float, count: int) -> np.ndarray:
    """Quantiles [count] of chi-squared in the middle of equal shares of its probability."""
    return special.chdtri(df, (np.arange(count) + 0.5) / count)


def seeds_needed(
    effect: float, deviation: float, of_prompts: Part = NO_PROMPTS, tests: int = 1
) -> int | None:
    """Fewest seeds that find a difference of `effect` with probability 0.8 (see `power`).

    None if a thousand seeds do not, as where too few prompts limit the precision.
    """

    def reached(seeds: int) -> bool:
        return power(effect, deviation, seeds, of_prompts, tests) >= POWER

    if not reached(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS  # not reached at low, reached at high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def seeds_range(difference: Difference, tests: int = 1) -> tuple[int | None, int | None] | None:
    """Seeds needed (see `seeds_needed`) for the largest and the smallest effect that the 95%
    interval of d_z holds; None of one for which no number of seeds is enough, and for both where
    there is no d_z. The observed effect alone would be one number that luck moves by a factor of
    ten."""
    size, raw = difference.standardised, difference.between_seeds
    deviation = difference.seed_deviation
    if size is None or raw is None or deviation is None:
        return None
    _, low, high = size
    ends = [max(abs(low), abs(high)), 0.0 if low <= 0 <= high else min(abs(low), abs(high))]
    most, least = (seeds_needed(end * raw, deviation, difference.of_prompts, tests) for end in ends)
    return most, least


def detectable(
    deviation: float, seeds: int, of_prompts: Part = NO_PROMPTS, tests: int = 1
) -> float | None:
    """Smallest true difference found with probability 0.8 (see `power`); None where seeds are too
    few to find any."""
    spread = math.sqrt(deviation**2 / seeds + of_prompts[0])
    if seeds < FEWEST_SEEDS or spread == 0:
        return None

    def excess(effect: float) -> float:
        return power(effect, deviation, seeds, of_prompts, tests) - POWER

    high = spread
    while excess(high) < 0:
        high *= 2
    return float(optimize.brentq(excess, 0.0, high))
