"""95% intervals of a share and of a mean over prompts, some of which are asked more than once.

n trials, G distinct prompts, z = 1.96.

Trials of one prompt are alike, so 256 trials of 40 prompts say less than 256 prompts. The prompts
are what is sampled: the interval is that of a ratio of sums over G clusters (Cochran, Sampling
Techniques, 1977, 6.3 and 11.12), with the correction and the degrees of freedom df of clusters of
unlike size (prompt_weights.py),

    V = sum over g of (sum over trials of g of (y - mean))^2 / (c_g n^2)

which for a prompt to each trial is s^2 / n, with df = G - 1. A share takes Wilson's interval, which
holds near 0 and 1, at the number of trials that V is worth (Korn and Graubard, Survey Methodology
24, 1998, who do so with Clopper and Pearson's; Dean and Pagano, J. Survey Statistics and
Methodology 3, 2015):

    n' = n / deff * (t_{n-1} / t_df)^2       deff = max(1, V n / (p (1 - p)))

Few misses tell little about how alike the trials of a prompt are, and none nothing: V would then be
that of independent trials, and cover 50% where a prompt decides. So deff is taken with two prompts
more, of n / G trials each, one always hit and one never. Far from 0 and 1 they change nothing; at 0
and 1 the trials of a prompt count as one. Simulated (tests/analysis/test_clustered_intervals.py):
93 to 100% for shares from 0.02 to 0.98, however alike the trials of a prompt are; Wilson's over
trials 0 to 97%.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from unify.analysis.prompt_weights import degrees_of_freedom, shares, square_factors

Interval = tuple[float, float]
Z = 1.959964
UNBOUNDED = (-math.inf, math.inf)


def share_interval(hits: Sequence[float], prompts: Sequence[int] = ()) -> Interval | None:
    """Of the share of hits; Wilson's own where each trial has its own prompt.

    Args:
        hits: n of 0 and 1, one at least.
        prompts: n indices of the distinct prompt of each trial; empty: each its own.

    None for repeats of a single prompt, which say nothing of others.
    """
    n, p = len(hits), math.fsum(hits) / len(hits)
    if len(prompts) == 0 or len(set(prompts)) == n:
        return _wilson(p, n)
    sizes, sums = _sums([1.0] * n, prompts), _sums(hits, prompts)
    if len(sizes) == 1:
        return None
    more = n / len(sizes)
    padded, of_padded = np.append(sizes, [more, more]), np.append(sums, [more, 0.0])
    mean = of_padded.sum() / padded.sum()
    variance = _variance(padded, of_padded, mean)
    deff = max(1.0, variance * padded.sum() / (mean * (1 - mean)))
    df = degrees_of_freedom(shares(sizes), len(sizes))
    return _wilson(p, n / deff * (_student(n - 1) / _student(df)) ** 2)


def mean_interval(
    values: Sequence[float],
    prompts: Sequence[int] = (),
    bounds: Interval = UNBOUNDED,
) -> Interval | None:
    """Of the mean of `values`, `prompts` as above; None for one value or one prompt.

    `bounds` are those of a single value. No mean lies outside of them, so what the interval has
    there is cut off: its coverage stays the same.
    """
    ends = ratio_interval(values, [1.0] * len(values), prompts)
    return ends and (max(bounds[0], ends[0]), min(bounds[1], ends[1]))


def ratio_interval(
    totals: Sequence[float], counts: Sequence[float], prompts: Sequence[int] = ()
) -> Interval | None:
    """Of the sum of n `totals` over that of their `counts`, as nats over tokens of n rows."""
    index = prompts if len(prompts) else range(len(totals))
    sizes, sums = _sums(counts, index), _sums(totals, index)
    mean = math.fsum(totals) / math.fsum(counts)
    if np.count_nonzero(sizes) == 1:
        return None
    df = degrees_of_freedom(shares(sizes), len(sizes))
    half = _student(df) * math.sqrt(_variance(sizes, sums, mean))
    return mean - half, mean + half


def _sums(values: Sequence[float], prompts: Sequence[int]) -> np.ndarray:
    """Sum [G] of the values of each distinct prompt."""
    _, index = np.unique(np.asarray(prompts), return_inverse=True)
    return np.bincount(index, np.asarray(values, float))


def _variance(sizes: np.ndarray, sums: np.ndarray, mean: float) -> float:
    """V of the head of this file."""
    factors = square_factors(shares(sizes), len(sizes))  # w^2 / c, of the squares of sum / size
    residual = sums - mean * sizes
    used = sizes > 0  # a row without tokens has no mean, and no weight
    return float(np.sum(factors[used] * (residual[used] / sizes[used]) ** 2))


@functools.cache
def _student(df: float) -> float:
    """97.5% quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, df))


def _wilson(p: float, trials: float) -> Interval:
    """Wilson's interval of a share p of so many trials, which may be no whole number."""
    n = float(trials)
    centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    # exactly the edge for a share at it, which rounding of centre - half would miss by 1e-18
    low = 0.0 if p == 0 else max(0.0, centre - half)
    return low, 1.0 if p == 1 else min(1.0, centre + half)
