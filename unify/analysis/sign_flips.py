"""Exact p over seeds without a model: the differences of seeds with all combinations of signs.

If neither arm is better, a seed's difference is as likely with the other sign, whatever its
distribution (Fisher 1935). Of the 2^S combinations, p is the share whose mean is as far from 0 as
the observed one. It is never below 2 / 2^S: with fewer than six seeds it cannot reach 5%. Its
question is about these very prompts.
"""

from collections.abc import Sequence

import numpy as np

from unify.analysis.finite import finite

MOST_SEEDS = 20  # half a million sums; with more, none is given
TIE = 1e-9  # sums that differ by less, as a share, are equal


def sign_flip_p(by_seed: Sequence[float]) -> float | None:
    """Two-sided exact p of the differences of seeds [S]; None for more than `MOST_SEEDS`."""
    differences = finite("differences of seeds", by_seed)
    if not 1 <= len(differences) <= MOST_SEEDS:
        return None
    sums = differences[:1]  # the first keeps its sign: the other half are the negatives of these
    for one in differences[1:]:
        sums = np.concatenate([sums + one, sums - one])
    observed = abs(float(differences.sum()))
    return float(np.mean(np.abs(sums) >= observed * (1 - TIE) - TIE * np.abs(differences).sum()))


def least_sign_flip_p(seeds: int) -> float:
    """The smallest p that so many seeds can reach."""
    return 2.0 / 2**seeds
