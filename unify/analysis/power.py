"""Power of a comparison of two arms: what these seeds and prompts would have found.

Everything follows from the deviation between seeds, which a few seeds hardly know: numbers from it
are rough, and say nothing of a difference that was found (Hoenig and Heisey 2001,
doi:10.1198/000313001300339897).
"""

import math

from scipy import optimize, stats

from unify.analysis.finite import finite
from unify.analysis.paired_differences import FEWEST_SEEDS, TAIL, Difference

POWER = 0.8
MOST_SEEDS = 1000  # that `seeds_needed` looks for


def power(
    effect: float, deviation: float, seeds: int, prompt_variance: float = 0.0, tests: int = 1
) -> float:
    """Probability that a true difference is found at 5%.

    Args:
        effect: the true difference of means.
        deviation: standard deviation of a seed's difference.
        seeds: seeds of each arm.
        prompt_variance: variance of the mean from the choice of prompts.
        tests: tests that share the 5% (Bonferroni: Holm finds it at least as often).
    """
    finite("effect, deviation and prompt variance", [effect, deviation, prompt_variance])
    if seeds < FEWEST_SEEDS:
        return 0.0
    tail = TAIL / tests
    if not effect:
        return 2 * tail
    spread = math.sqrt(deviation**2 / seeds + prompt_variance)
    if spread == 0:
        return 1.0
    df = seeds - 1
    beyond = float(stats.t.isf(tail, df))  # t^2 is a non-central F: its tail has no gaps
    return float(stats.ncf.sf(beyond**2, 1, df, (effect / spread) ** 2))


def seeds_needed(
    effect: float, deviation: float, prompt_variance: float = 0.0, tests: int = 1
) -> int | None:
    """Fewest seeds that find a difference of `effect` with probability 0.8 (see `power`).

    None if a thousand seeds do not, as where too few prompts limit the precision.
    """

    def reached(seeds: int) -> bool:
        return power(effect, deviation, seeds, prompt_variance, tests) >= POWER

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
    most, least = (
        seeds_needed(end * raw, deviation, difference.prompt_variance, tests) for end in ends
    )
    return most, least


def detectable(
    deviation: float, seeds: int, prompt_variance: float = 0.0, tests: int = 1
) -> float | None:
    """Smallest true difference found with probability 0.8 (see `power`); None where seeds are too
    few to find any."""
    spread = math.sqrt(deviation**2 / seeds + prompt_variance)
    if seeds < FEWEST_SEEDS or spread == 0:
        return None

    def excess(effect: float) -> float:
        return power(effect, deviation, seeds, prompt_variance, tests) - POWER

    high = spread
    while excess(high) < 0:
        high *= 2
    return float(optimize.brentq(excess, 0.0, high))
