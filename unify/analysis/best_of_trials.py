"""Expected best of k tuning trials."""

import math
from collections.abc import Sequence

from unify.analysis.finite import finite

SIGNS = {"higher": 1.0, "lower": -1.0}  # times a score: more is better
FLOOR = 0.02  # scores no higher than this leave nothing to choose by, where higher is better


def nothing_to_choose_by(scores: Sequence[float | None], better: str) -> str:
    """Why no trial can be told to be the best, by the scores of those that did not fail: all at the
    floor, or all equal. Empty where one can."""
    some = [score for score in scores if score is not None]
    if better == "higher" and some and max(some) <= FLOOR:
        return f"all at the floor, at most {max(some):.3g}"
    return f"all {some[0]:.3g}" if len(some) > 1 and len({*some}) == 1 else ""


def best_of(scores: list[float], k: int, better: str) -> float:
    """Expected best of k trials: the first, and k - 1 of the others drawn without replacement.

    `better` is `higher` or `lower`. Unbiased whatever the scores' distribution: over all choices,
    the i-th smallest of n is the largest of k in C(i - 1, k - 1) of C(n, k) (arXiv:2004.13705,
    eq. 4, who correct arXiv:1909.03004).
    """
    sign = SIGNS[better]
    first, *others = (sign * float(score) for score in finite("scores of trials", scores))
    if not 1 <= k <= len(scores):
        raise ValueError(f"best of {k} out of {len(scores)} trials")
    if k == 1:
        return sign * first
    ranked = sorted(max(first, other) for other in others)
    ways = math.comb(len(ranked), k - 1)
    return sign * math.fsum(
        value * math.comb(i, k - 2) / ways for i, value in enumerate(ranked) if i >= k - 2
    )
