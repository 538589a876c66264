"""Difference between two arms, with an interval over seeds and prompts.

    d_sp = y_A,sp - y_B,sp        seed s trained both arms, prompt p was put to both
         = m + a_s + b_p + e_sp   a, b, e: variances v_a, v_b, v_e; m is what is asked for

Seeds and prompts are both drawn from more, so both limit what is known of m. With the mean squares
of the two-way layout, E[M_s] = v_e + N v_a, E[M_p] = v_e + S v_b, E[M_e] = v_e, the variance of the
mean is (M_s + (M_p - M_e)) / (S N). Its two parts have S - 1 and N - 1 degrees of freedom; their
half-widths are put together as those of independent parts are (MOVER, Zou and Donner 2008,
doi:10.1002/sim.3095):

    h^2 = (t_{S-1}^2 max(M_s, M_e) + t_{N-1}^2 max(M_p - M_e, 0)) / (S N)

E[M_s] is never below E[M_e], so a smaller M_s is luck: seeds whose totals happen to be equal would
otherwise give an interval of no width. Prompts that are asked unlike often weigh unlike; the mean
squares and N - 1 are then those of prompt_weights.py. What this covers, and where it does not, is
in docs/statistics.md. Without outcomes per prompt, the paired t interval over seeds, whose question
is about these very prompts.

S seeds, N prompts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import optimize, special, stats

from unify.analysis.finite import finite
from unify.analysis.prompt_weights import (
    Share,
    degrees_of_freedom,
    layout_variances,
    shares,
    weighted_mean,
    worth,
)

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
SMALLEST = 1e-12  # p that is told apart from 0
FEWEST_SEEDS = 3  # that get a verdict: the intervals of two do not cover (docs/statistics.md)
HALF = 0.5  # of the trials: a prompt that has it decides the mean, and no other prompt tells of it
ROUNDING = 1e-9  # a deviation below this share of the outcomes themselves is rounding
LARGE = 1e3  # t at which only its denominator is uncertain
Part = tuple[float, float]  # of what is uncertain: variance of the mean, degrees of freedom
NO_PROMPTS: Part = (0.0, 1e9)
HIGHER, LOWER, SAME = "higher", "lower", "not distinguishable at this budget"


@dataclass(frozen=True)
class Difference:
    """Mean of A - B, and the differences of its seeds. `parts`: of what is independently uncertain
    in it, first of the seeds; empty where nothing is known of that.
    `share`: of the trials, by prompt; None where prompts weigh alike."""

    mean: float
    parts: tuple[Part, ...]
    by_seed: tuple[float, ...]
    prompts: int | None = None
    share: Share = field(default=None, compare=False, repr=False)

    @property
    def seeds(self) -> int:
        return len(self.by_seed)

    @property
    def between_seeds(self) -> float | None:
        """Standard deviation of a seed's difference; None where it is not known."""
        return float(np.std(self.by_seed, ddof=1)) if self.parts else None

    @property
    def seed_deviation(self) -> float | None:
        """The same as the interval takes it: no smaller than chance within a seed makes it."""
        return math.sqrt(self.parts[0][0] * self.seeds) if self.parts else None

    @property
    def of_prompts(self) -> Part:
        """The part from the choice of prompts; more seeds do not lessen it."""
        return self.parts[1] if len(self.parts) > 1 else NO_PROMPTS

    @property
    def method(self) -> str:
        if self.prompts is None:
            return f"paired t over {self.seeds} seed{'s' * (self.seeds > 1)}"
        return f"crossed model, {self.seeds} seeds x {self.prompts} prompts{self._worth}"

    @property
    def _worth(self) -> str:
        """How many prompts of equal weight would tell as much, where that is less than half."""
        prompts = self.prompts or 1
        alike = worth(self.share, prompts)
        return f" (weighing as {alike:.1f} asked equally often)" if 2 * alike < prompts else ""

    @property
    def refusal(self) -> str:
        """Why there can be no verdict; empty where there can be one."""
        if self.seeds < FEWEST_SEEDS:
            return f"{('one seed', 'two seeds')[self.seeds - 1]} cannot tell"
        if self.prompts == 1:
            return "one prompt cannot tell"
        if self.share is not None and len(self.share) > 2 and self.share.max() >= HALF:
            return f"one prompt with {self.share.max():.0%} of the trials cannot tell"
        return "" if self.parts else "no verdict: every seed gave exactly the same difference"

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of the mean; None where there can be no verdict."""
        return self.interval_at(LEVEL)

    def interval_at(self, level: float) -> tuple[float, float] | None:
        """Interval of the mean that covers it with probability `level`, such as 0.95."""
        if self.refusal:
            return None
        half = self._half(1 - level)
        return self.mean - half, self.mean + half

    @cached_property
    def p(self) -> float | None:
        """Two-sided p of no difference: the tail at which the interval just reaches zero. None
        where there can be no verdict."""
        if self.refusal:
            return None
        distance = abs(self.mean)
        if distance == 0:
            return 1.0
        if self._half(SMALLEST) <= distance:
            return SMALLEST
        return float(optimize.brentq(lambda tail: self._half(tail) - distance, SMALLEST, 1.0))

    def _half(self, tail: float) -> float:
        return float(half_width(tail, *((np.array(v), df) for v, df in self.parts)))

    @property
    def standardised(self) -> tuple[float, float, float] | None:
        """Cohen's d_z, mean / deviation over seeds, with its 95% interval by noncentral t; None
        where no two seeds differ."""
        if self.refusal or not self.between_seeds:
            return None
        ratio, root, df = self.mean / self.between_seeds, math.sqrt(self.seeds), self.seeds - 1
        low, high = sorted(_shift(ratio * root, df, tail) / root for tail in (TAIL, 1 - TAIL))
        return ratio, low, high


def half_width(tail: float, *parts: tuple[np.ndarray, float]) -> np.ndarray:
    """Half-width [...] of the interval that misses the mean with probability `tail` (MOVER).

    `parts`: (variance of the mean [...], degrees of freedom) of each independent part.
    """
    squares = [special.stdtrit(df, tail / 2) ** 2 * variance for variance, df in parts]
    return np.sqrt(np.sum(squares, axis=0))


def _shift(t: float, df: int, tail: float) -> float:
    """The noncentrality under which the statistic is at least t with probability `tail`."""
    if abs(t) > LARGE:  # scipy's noncentral t ends before; the numerator's own error is 1 of 1000
        return t * math.sqrt(special.chdtri(df, 1 - tail) / df)

    def excess(shift: float) -> float:
        return float(stats.nct.sf(t, df, shift)) - tail

    step = 1.0
    while excess(t - step) > 0 or excess(t + step) < 0:
        step *= 1.5
    return float(optimize.brentq(excess, t - step, t + step, xtol=1e-7))


def paired(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Difference from one score per seed, a [S] and b [S] in the same order of seeds.

    ValueError where the two have not as many scores, or one is not finite.
    """
    difference, scale = _difference(a, b, 1)
    seeds, mean = len(difference), float(difference.mean())
    by_seed = tuple(map(float, difference))
    deviation = float(difference.std(ddof=1)) if seeds > 1 else 0.0
    if deviation <= ROUNDING * scale:
        return Difference(mean, (), by_seed)
    return Difference(mean, ((deviation**2 / seeds, seeds - 1),), by_seed)


def crossed(a: np.ndarray, b: np.ndarray, trials: np.ndarray | None = None) -> Difference:
    """Difference from one outcome per seed and prompt, a [S N] and b [S N].

    Both arms had the same seeds and the same prompts, in the same order. `trials` [N]: how many
    trials each outcome is the mean of, one by default. A prompt then weighs by its trials, and the
    difference is the mean of the trials.

    ValueError where the two are not paired, or an outcome is not finite.
    """
    difference, scale = _difference(a, b, 2)
    seeds, prompts = difference.shape
    share = shares(trials)
    each = weighted_mean(difference, share)
    by_seed, mean = tuple(map(float, each)), float(each.mean())
    if seeds < 2 or prompts < 2 or np.std(by_seed, ddof=1) <= ROUNDING * scale:
        return Difference(mean, (), by_seed, prompts, share)
    of_seeds, of_prompts = map(float, crossed_variances(difference, share))
    parts = ((of_seeds, seeds - 1), (of_prompts, degrees_of_freedom(share, prompts)))
    return Difference(mean, parts, by_seed, prompts, share)


def crossed_variances(difference: np.ndarray, share: Share = None) -> tuple[np.ndarray, np.ndarray]:
    """The two parts of the variance of the mean [...], of seeds and of prompts, from [... S N]."""
    of_seeds, of_prompts, of_rest = layout_variances(difference, share)
    return np.maximum(of_seeds, of_rest), (of_prompts - of_rest).clip(0)


def _difference(a: object, b: object, axes: int) -> tuple[np.ndarray, float]:
    """a - b, and the largest number among them."""
    first, second = finite("outcomes", a), finite("outcomes", b)
    if first.shape != second.shape or first.ndim != axes or first.size == 0:
        raise ValueError(
            f"outcomes of shapes {first.shape} and {second.shape} are not paired: give both arms "
            "the same seeds and prompts"
        )
    return first - second, float(max(np.abs(first).max(), np.abs(second).max()))


def verdict(difference: Difference, adjusted: float | None) -> str:
    """`higher`, `lower`, `not distinguishable at this budget`, or why there can be no verdict."""
    if difference.refusal or adjusted is None:
        return difference.refusal or "no verdict: it was not tested"
    if float(finite("adjusted p", adjusted)) > 1 - LEVEL:
        return SAME
    return HIGHER if difference.mean > 0 else LOWER
