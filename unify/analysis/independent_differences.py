"""Difference between two arms whose replicates share nothing, with an interval.

    y_A,sp, y_B,rp      seeds s = 1..S trained A, others r = 1..R trained B; prompts p are shared
    d_p = mean_s y_A,sp - mean_r y_B,rp

Nothing pairs a seed of A with one of B, so each arm's seeds are a sample of their own. With the
mean squares of each arm's own two-way layout (paired_differences.py), the variance of the mean
difference has three independent parts, put together by MOVER (Zou and Donner 2008,
doi:10.1002/sim.3095):

    h^2 = t_{S-1}^2 max(M_s^A, M_e^A) / (S N) + t_{R-1}^2 max(M_s^B, M_e^B) / (R N)
        + t_{N-1}^2 max(var_p d_p - M_e^A / S - M_e^B / R, 0) / N

Without outcomes per prompt, the first two parts from one score for each seed (a Welch interval by
MOVER), whose question is about these very prompts.

S, R seeds, N prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unify.analysis.finite import finite
from unify.analysis.paired_differences import FEWEST_SEEDS, ROUNDING, Difference, mean_squares


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
    def prompt_variance(self) -> float:
        return self.parts[2][0] if len(self.parts) > 2 else 0.0

    @property
    def method(self) -> str:
        prompts = "" if self.prompts is None else f" x {self.prompts} prompts"
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
        return IndependentDifference(mean, (), (), None, replicates)
    parts = tuple((float(one.var(ddof=1)) / len(one), len(one) - 1) for one in arms)
    return IndependentDifference(mean, parts, (), None, replicates)


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
    if trials is not None:  # linearised about each arm's mean, as a weighted mean over clusters
        share = np.asarray(trials, float) / np.sum(trials)
        means = [float((one @ share).mean()) for one in arms]
        arms = [m + prompts * share * (one - m) for one, m in zip(arms, means, strict=True)]
    mean = float(arms[0].mean() - arms[1].mean())
    if prompts < 2 or _is_constant([one.mean(1) for one in arms]):
        return IndependentDifference(mean, (), (), prompts, replicates)
    of_a, of_b, of_prompts = map(float, independent_variances(arms[0], arms[1]))
    parts = ((of_a, len(arms[0]) - 1), (of_b, len(arms[1]) - 1), (of_prompts, prompts - 1))
    return IndependentDifference(mean, parts, (), prompts, replicates)


def independent_variances(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
    """The three parts of the variance of the mean difference [...], of the seeds of each arm and of
    prompts, from a [... S N] and b [... R N]."""
    prompts = a.shape[-1]
    of_seeds, residuals = zip(*map(_seeds_and_residual, (a, b)), strict=True)
    by_prompt = a.mean(-2) - b.mean(-2)
    of_prompts = by_prompt.var(-1, ddof=1) - residuals[0] - residuals[1]
    return (*(each / prompts for each in of_seeds), of_prompts.clip(0) / prompts)


def _seeds_and_residual(outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(max(M_s, M_e) / S, M_e / S) of one arm's layout [... S N]."""
    ms_seeds, _, ms_residual = mean_squares(outcomes)
    seeds = outcomes.shape[-2]
    return np.maximum(ms_seeds, ms_residual) / seeds, ms_residual / seeds


def _is_constant(arms: Sequence[np.ndarray]) -> bool:
    """True if the seeds of an arm are fewer than two, or all score alike: nothing then shows how
    another seed would."""
    scale = max(float(np.abs(one).max()) for one in arms)
    return any(len(one) < 2 or float(one.std(ddof=1)) <= ROUNDING * scale for one in arms)
