"""A seed that lies apart from all the others: Grubbs' test.

    G = max |d_s - mean| / deviation > (S - 1) / sqrt(S) sqrt(t^2 / (S - 2 + t^2))

with t of S - 2 degrees of freedom at 1% / 2S (Grubbs 1950, doi:10.1214/aoms/1177729885): one in a
hundred sets of normal differences has such a seed. Training that succeeds under few seeds has it
often, and the interval's law of chance is then not that of the data.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from unify.analysis.finite import finite

LEVEL = 0.01


def outlying_seed(by_seed: Sequence[float]) -> int | None:
    """The place of the seed that lies apart; None where there is none, or fewer than three."""
    differences = finite("differences of seeds", by_seed)
    seeds = len(differences)
    deviation = float(differences.std(ddof=1)) if seeds > 2 else 0.0
    if deviation == 0:
        return None
    distance = np.abs(differences - differences.mean()) / deviation
    t = float(stats.t.isf(LEVEL / (2 * seeds), seeds - 2))
    critical = (seeds - 1) / math.sqrt(seeds) * math.sqrt(t**2 / (seeds - 2 + t**2))
    return int(distance.argmax()) if distance.max() > critical else None
