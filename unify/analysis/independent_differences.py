"""Difference between two arms whose replicates share nothing, with an interval.

    y_A,sp, y_B,rp      seeds s = 1..S trained A, others r = 1..R trained B; prompts p are shared
    d_p = mean_s y_A,sp - mean_r y_B,rp

Nothing pairs a seed of A with one of B, so each arm's seeds are a sample of their own. With the
mean squares of each arm's own two-way layout (paired_differences.py), the variance of the mean
difference has three independent parts, put together by MOVER (Zou and Donner 2008,
doi:10.1002/sim.3095):

    h^2 = t_{S-1}^2 max(M_s^A, M_e^A) / (S N) + t_{R-1}^2 max(M_s^B, M_e^B) / (R N)
        + t_{N-1}^2 max(var_p d_p - M_e^A / S - M_e^B / R, 0) / N

Prompts of unlike weight are taken as in prompt_weights.py. Without outcomes per prompt, the first
two parts from one score for each seed (a Welch interval by MOVER), whose question is about these
very prompts.

S, R seeds, N prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unify.analysis.finite import finite
from unify.analysis.paired_differences import FEWEST_SEEDS, ROUNDING, Difference
from unify.analysis.prompt_weights import (
    Share,
    degrees_of_freedom,
    layout_variances,
    shares,
    square_factors,
    weighted_mean,
)


@dataclass(frozen=True)
class IndependentDifference(Difference):
    """Mean of A - B over replicates that are not paired: `by_seed` is empty.

    `replicates`: how many seeds A and B have.
    """

    replicates: tuple[int, int] = (0, 0)

    @property
    def seeds(self) -> int:
        """Those of the arm that has fewer."""
        return min(self.replicates)

    @property
    def between_seeds(self) -> None:
        """No seed has a difference."""
        return None

    @property
    def seed_deviation(self) -> None:
        return None

    @property
    def method(self) -> str:
        prompts = "" if self.prompts is None else f" x {self.prompts} prompts{self._worth}"
        return "independent replicates, {} and {} seeds".format(*self.replicates) + prompts

    @property
    def refusal(self) -> str:
        if self.seeds >= FEWEST_SEEDS and self.prompts != 1 and not self.parts:
            return "no verdict: every seed of an arm gave exactly the same score"
        return super().refusal


def independent(a: Sequence[float], b: Sequence[float]) -> IndependentDifference:
    """Difference from one score per seed, a [S] and b [R]. ValueError for one not finite."""
    arms = [finite("scores", scores) for scores in (a, b)]
    mean = float(arms[0].mean() - arms[1].mean())
    replicates = (len(arms[0]), len(arms[1]))
    if _is_constant(arms):
        return IndependentDifference(mean, (), (), None, None, replicates)
    parts = tuple((float(one.var(ddof=1)) / len(one), len(one) - 1) for one in arms)
    return IndependentDifference(mean, parts, (), None, None, replicates)


def independent_crossed(
    a: np.ndarray, b: np.ndarray, trials: np.ndarray | None = None
) -> IndependentDifference:
    """Difference from one outcome per seed and prompt, a [S N] and b [R N], of the same prompts in
    the same order.

    `trials` [N]: how many trials each outcome is the mean of, as in `paired_differences.crossed`.

    ValueError where the prompts are not the same, or an outcome is not finite.
    """
    arms = [finite("outcomes", outcomes) for outcomes in (a, b)]
    if any(one.ndim != 2 or one.size == 0 for one in arms) or arms[0].shape[1] != arms[1].shape[1]:
        raise ValueError(
            f"outcomes of shapes {arms[0].shape} and {arms[1].shape} are not of the same prompts"
        )
    prompts, replicates = arms[0].shape[1], (len(arms[0]), len(arms[1]))
    share = shares(trials)
    by_seed = [weighted_mean(one, share) for one in arms]
    mean = float(by_seed[0].mean() - by_seed[1].mean())
    if prompts < 2 or _is_constant(by_seed):
        return IndependentDifference(mean, (), (), prompts, share, replicates)
    of_a, of_b, of_prompts = map(float, independent_variances(arms[0], arms[1], share))
    df = degrees_of_freedom(share, prompts)
    parts = ((of_a, len(arms[0]) - 1), (of_b, len(arms[1]) - 1), (of_prompts, df))
    return IndependentDifference(mean, parts, (), prompts, share, replicates)


def independent_variances(
    a: np.ndarray, b: np.ndarray, share: Share = None
) -> tuple[np.ndarray, ...]:
    """The three parts of the variance of the mean difference [...], of the seeds of each arm and of
    prompts, from a [... S N] and b [... R N]."""
    seeds_a, _, rest_a = layout_variances(a, share)
    seeds_b, _, rest_b = layout_variances(b, share)
    by_prompt = a.mean(-2) - b.mean(-2)
    residual = by_prompt - weighted_mean(by_prompt, share)[..., None]
    of_prompts = residual**2 @ square_factors(share, a.shape[-1]) - rest_a - rest_b
    return np.maximum(seeds_a, rest_a), np.maximum(seeds_b, rest_b), of_prompts.clip(0)


def _is_constant(arms: Sequence[np.ndarray]) -> bool:
    """True if the seeds of an arm are fewer than two, or all score alike: nothing then shows how
    another seed would."""
    scale = max(float(np.abs(one).max()) for one in arms)
    return any(len(one) < 2 or float(one.std(ddof=1)) <= ROUNDING * scale for one in arms)
