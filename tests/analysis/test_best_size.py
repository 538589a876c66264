"""The best size under Chinchilla's law: found, and held by its interval against the true N*."""

import math

import numpy as np
import pytest
from chinchilla_law import loss, sizes_around

from unify.analysis.best_size import optimum

BUDGETS = (1e15, 4e15, 1.6e16, 6.4e16)
RANGES = {"x1/2 to x2": 1, "x1/4 to x4": 2, "x1/8 to x8": 3}  # log2 of the largest


def factors(span, sizes):
    return tuple(2 ** np.linspace(-span, span, sizes))


def test_the_best_size_of_a_known_law():
    for budget in BUDGETS:
        best, sizes = sizes_around(budget)
        result = optimum(sizes, [loss(size, budget) for size in sizes])
        assert result.where == "inside"
        assert result.size == pytest.approx(best, rel=0.05), "a parabola in log size is near"
        assert result.loss == pytest.approx(loss(best, budget), rel=0.002)
        low, high = result.interval
        assert low < best < high, "also without any noise"


def test_edges_and_too_few_sizes_are_marked():
    assert optimum([1e6, 2e6, 4e6], [3.0, 2.5, 2.2]).where == "edge"
    assert optimum([1e6, 2e6, 4e6], [3.0, 2.5, 2.2]).size == 4e6
    assert optimum([1e6, 2e6, 4e6], [2.0, 2.5, 2.2]).where == "none"
    assert optimum([1e6, 2e6], [2.0, 2.5]) is None
    exact = optimum([1e6, 2e6, 4e6], [3.0, 2.0, 3.0])
    assert exact.size == pytest.approx(2e6)


@pytest.mark.parametrize("seeds", [1, 3, 8])
def test_three_sizes_get_no_interval_however_many_seeds(seeds):
    """Nothing shows how far from a parabola the law is: the seeds' spread would cover in 12%."""
    noise = np.random.default_rng(0).normal(0, 0.01, 3 * seeds)
    result = optimum([1e6, 2e6, 4e6] * seeds, ([3.0, 2.0, 3.0] * seeds + noise).tolist())
    assert result.where == "inside"
    assert result.interval is None


def covered(span, sizes, seeds, noise, replicates):
    """Share of intervals that hold the size of least loss under the law itself."""
    generator, hits, inside = np.random.default_rng([span, sizes, seeds]), 0, 0
    best, tried = sizes_around(BUDGETS[0], factors(span, sizes))
    tried = tried * seeds
    exact = np.array([loss(size, BUDGETS[0]) for size in tried])
    for _ in range(replicates):
        result = optimum(tried, (exact + generator.normal(0, noise, len(tried))).tolist())
        if result.where == "inside":
            low, high = result.interval
            inside += 1
            hits += low <= best <= high
    return hits / max(inside, 1), inside


@pytest.mark.parametrize("span", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("sizes", [4, 5, 7])
def test_intervals_hold_the_true_best_size_and_not_that_of_the_parabola(span, sizes):
    for seeds in (1, 3):
        for noise in (0.001, 0.02):
            share, inside = covered(span, sizes, seeds, noise, 100)
            assert share >= 0.93 - 3 * (0.93 * 0.07 / max(inside, 1)) ** 0.5, (seeds, noise)


@pytest.mark.slow
@pytest.mark.parametrize(
    "span", [1, *(pytest.param(span, marks=pytest.mark.drill) for span in (2, 3))]
)
def test_intervals_hold_the_true_best_size_in_every_cell(span):
    for sizes in (4, 5, 7, 9):
        for seeds in (1, 2, 5):
            for noise in (0.0003, 0.001, 0.005, 0.02):
                share, inside = covered(span, sizes, seeds, noise, 100)
                assert share >= 0.93 - 3 * (0.93 * 0.07 / inside) ** 0.5, (sizes, seeds, noise)


def test_intervals_are_of_use():
    """With five sizes and three seeds, within a few percent of the best size."""
    _, tried = sizes_around(BUDGETS[0], factors(2, 5))
    noise = np.random.default_rng(1).normal(0, 0.005, 15)
    losses = [loss(size, BUDGETS[0]) for size in tried * 3] + noise
    low, high = optimum(tried * 3, losses.tolist()).interval
    assert high / low < 1.1


def test_a_curve_that_may_be_straight_does_not_bound_the_best_size():
    losses = [2.42, 0.44, 0.18, -0.09, 1.93, 0.80, 0.67, 0.53]
    result = optimum([1e5, 2e5, 4e5, 8e5] * 2, losses)
    assert result.interval in (None, (0.0, math.inf))


def test_losses_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match=r"losses: nan at \[2\]"):
        optimum([1e6, 2e6, 4e6], [3.0, 2.0, math.nan])
