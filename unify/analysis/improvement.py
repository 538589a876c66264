"""Probability of improvement: how often one arm does better than another.

    P(A > B) = sum over p of w_p / (S T) * sum over s, t of h(y_A,sp, y_B,tp)
    h(x, y)  = 1 where x is better, 1/2 where they are equal, 0 else

after Agarwal et al. 2021 (arXiv:2108.13264, rliable), whose tasks are prompts here: at a prompt and
a replicate of each arm that are drawn at random, A does better, ties counted half. It is the
statistic of Mann and Whitney at every prompt. P(A > B) + P(B > A) = 1, and 1/2 is no improvement.

Its interval is that of paired_differences.py: P is linear in the placements of single replicates
(the structural components of DeLong et al. 1988),

    c_sp = mean over t of h(y_A,sp, y_B,tp) + mean over t of h(y_A,tp, y_B,sp) - P_p

whose mean over s is P_p, what all pairs of replicates give at prompt p. Seeds, which both arms
share, and prompts are both drawn from more, as for a difference. Of outcomes that are right or
wrong h(x, y) = 1/2 + (x - y) / 2, so c_sp = 1/2 + d_sp / 2: P and its interval are then those of
the difference, on another scale.

S replicates of A, T of B, N prompts.
"""

import numpy as np

from unify.analysis.finite import finite
from unify.analysis.paired_differences import Difference, crossed


def probability_of_improvement(a: object, b: object) -> float:
    """P(A > B) of scores a [S] and b [T]: over all pairs of replicates, ties counted half.

    ValueError where there is none of one, or one is not finite.
    """
    first, second = finite("scores", a), finite("scores", b)
    if first.ndim != 1 or second.ndim != 1 or not first.size or not second.size:
        raise ValueError(
            f"scores of shapes {first.shape} and {second.shape}: give one score a replicate, and "
            "one replicate at least"
        )
    return float(_wins(first, second).sum() / (first.size * second.size))


def improvement(a: np.ndarray, b: np.ndarray, trials: np.ndarray | None = None) -> Difference:
    """P(A > B) with its interval, from outcomes a [S N] and b [S N] of which more is better.

    Both arms had the same seeds and prompts, in the same order; `trials` [N] as in `crossed`.
    `mean` is P; an interval may reach beyond [0, 1], which no P does. ValueError as for `crossed`.
    """
    crossed(a, b, trials)  # refuses what is not paired
    of_first, of_second = _wins(a, b) / len(b), 1 - _wins(b, a) / len(a)
    components = of_first + of_second - of_first.mean(0)
    return crossed(components, np.zeros_like(components), trials)


def _wins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How many of b [T ...] each of a [S ...] does better than, ties counted half: [S ...]."""
    return np.stack([((one > b) + 0.5 * (one == b)).sum(0) for one in a])
