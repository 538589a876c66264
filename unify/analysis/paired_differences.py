"""Difference between two arms, with an interval over seeds and prompts.

    d_sp = y_A,sp - y_B,sp        seed s trained both arms, prompt p was put to both
         = m + a_s + b_p + e_sp   a, b, e: variances v_a, v_b, v_e; m is what is asked for

Seeds and prompts are both drawn from more, so both limit what is known of m. With the mean squares
of the two-way layout, E[M_s] = v_e + N v_a, E[M_p] = v_e + S v_b, E[M_e] = v_e, the variance of the
mean is (M_s + (M_p - M_e)) / (S N). Its two parts have S - 1 and N - 1 degrees of freedom; their
half-widths are put together as those of independent parts are (MOVER, Zou and Donner 2008,
doi:10.1002/sim.3095):

    h^2 = (t_{S-1}^2 M_s + t_{N-1}^2 max(M_p - M_e, 0)) / (S N)

A percentile bootstrap over three seeds covers 75 to 80%, not 95%; this covers 94 to 97% at 3, 5 and
8 seeds, small and large variance between them (tests/analysis/test_paired_differences.py). Without
outcomes per prompt, the paired t interval over seeds, whose question is about these very prompts.

S seeds, N prompts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize, stats

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
SMALLEST = 1e-12  # p that is told apart from 0
POWER = 0.8
MOST_SEEDS = 1000  # that `seeds_needed` looks for


@dataclass(frozen=True)
class Difference:
    """Mean of A - B. `parts`: (variance of the mean, degrees of freedom) of what is independently
    uncertain in it, empty where nothing is known of that; `between_seeds`: the standard deviation
    of a seed's difference."""

    mean: float
    parts: tuple[tuple[float, int], ...]
    seeds: int
    prompts: int | None = None
    between_seeds: float | None = None

    @property
    def prompt_variance(self) -> float:
        """Variance of the mean from the choice of prompts; more seeds do not lessen it."""
        return self.parts[1][0] if len(self.parts) > 1 else 0.0

    @property
    def method(self) -> str:
        if not self.parts:
            return "one seed: nothing is known of how seeds differ"
        if self.prompts is None:
            return f"paired t over {self.seeds} seeds"
        return f"crossed model, {self.seeds} seeds x {self.prompts} prompts"

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of the mean; None for one seed."""
        if not self.parts:
            return None
        half = self._half(1 - LEVEL)
        return self.mean - half, self.mean + half

    @cached_property
    def p(self) -> float | None:
        """Two-sided p of no difference: the tail at which the interval just reaches zero."""
        if not self.parts:
            return None
        distance = abs(self.mean)
        if distance == 0:
            return 1.0
        if self._half(SMALLEST) <= distance:
            return SMALLEST
        return float(optimize.brentq(lambda tail: self._half(tail) - distance, SMALLEST, 1.0))

    def _half(self, tail: float) -> float:
        """Half-width of the interval that misses the mean with probability `tail` (MOVER)."""
        return math.sqrt(sum(float(stats.t.isf(tail / 2, df)) ** 2 * v for v, df in self.parts))

    @property
    def standardised(self) -> tuple[float, float, float] | None:
        """Cohen's d_z, mean / deviation over seeds, with its 95% interval by noncentral t."""
        if not self.between_seeds:
            return None
        ratio, root, df = self.mean / self.between_seeds, math.sqrt(self.seeds), self.seeds - 1
        low, high = (_shift(ratio * root, df, tail) / root for tail in (TAIL, 1 - TAIL))
        return ratio, low, high


def _shift(t: float, df: int, tail: float) -> float:
    """The noncentrality under which the statistic is at least t with probability `tail`."""

    def excess(shift: float) -> float:
        return float(stats.nct.sf(t, df, shift)) - tail

    step = 1.0
    while excess(t - step) > 0 or excess(t + step) < 0:
        step *= 1.5
    return float(optimize.brentq(excess, t - step, t + step))


def paired(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Difference from one score per seed, a [S] and b [S] in the same order of seeds.

    ValueError where the two have not as many scores.
    """
    difference = _difference(a, b, 1)
    seeds, mean = len(difference), float(difference.mean())
    if seeds < 2:
        return Difference(mean, (), seeds)
    deviation = float(difference.std(ddof=1))
    return Difference(mean, ((deviation**2 / seeds, seeds - 1),), seeds, None, deviation)


def crossed(a: np.ndarray, b: np.ndarray) -> Difference:
    """Difference from one outcome per seed and prompt, a [S N] and b [S N].

    Both arms had the same seeds and the same prompts, in the same order.
    """
    difference = _difference(a, b, 2)
    seeds, prompts = difference.shape
    mean = float(difference.mean())
    if seeds < 2 or prompts < 2:
        return Difference(mean, (), seeds, prompts)
    by_seed, by_prompt = difference.mean(1), difference.mean(0)
    residual = difference - by_seed[:, None] - by_prompt + mean
    ms_seeds = prompts * by_seed.var(ddof=1)
    ms_prompts = seeds * by_prompt.var(ddof=1)
    ms_residual = (residual**2).sum() / ((seeds - 1) * (prompts - 1))
    parts = (
        (float(ms_seeds) / (seeds * prompts), seeds - 1),
        (float(max(ms_prompts - ms_residual, 0)) / (seeds * prompts), prompts - 1),
    )
    return Difference(mean, parts, seeds, prompts, float(by_seed.std(ddof=1)))


def _difference(a: object, b: object, axes: int) -> np.ndarray:
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape or first.ndim != axes or first.size == 0:
        raise ValueError(
            f"outcomes of shapes {first.shape} and {second.shape} are not paired: give both arms "
            "the same seeds and prompts"
        )
    return first - second


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Adjusted p of a family of tests (Holm 1979); None stays None.

    Findings at p < 0.05 hold a false one with a probability of 5% at most.
    """
    order = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    reached = 0.0
    for rank, (p, index) in enumerate(order):
        reached = max(reached, min(1.0, p * (len(order) - rank)))
        adjusted[index] = reached
    return adjusted


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
    if seeds < 2:
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


def detectable(
    deviation: float, seeds: int, prompt_variance: float = 0.0, tests: int = 1
) -> float | None:
    """Smallest true difference found with probability 0.8 (see `power`); None for one seed."""
    spread = math.sqrt(deviation**2 / seeds + prompt_variance)
    if seeds < 2 or spread == 0:
        return None

    def excess(effect: float) -> float:
        return power(effect, deviation, seeds, prompt_variance, tests) - POWER

    high = spread
    while excess(high) < 0:
        high *= 2
    return float(optimize.brentq(excess, 0.0, high))


def verdict(difference: Difference, adjusted: float | None) -> str:
    """`higher`, `lower`, `not distinguishable at this budget`, or that one seed cannot tell."""
    if adjusted is None:
        return "one seed cannot tell"
    if adjusted > 1 - LEVEL:
        return "not distinguishable at this budget"
    return "higher" if difference.mean > 0 else "lower"
