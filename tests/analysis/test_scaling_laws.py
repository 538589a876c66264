"""Known scaling laws recovered, and intervals that cover."""

import math

import numpy as np
import pytest
from chinchilla_law import loss, sizes_around

from unify.analysis.scaling_laws import crossing, fit_polynomial, logit, optimum

BUDGETS = (1e15, 4e15, 1.6e16, 6.4e16)


def test_the_best_size_of_a_known_law():
    for budget in BUDGETS:
        best, sizes = sizes_around(budget)
        result = optimum(sizes, [loss(size, budget) for size in sizes])
        assert result.where == "inside"
        assert result.size == pytest.approx(best, rel=0.05), "a parabola in log size is near"
        assert result.loss == pytest.approx(loss(best, budget), rel=0.002)


def test_the_exponent_of_the_best_size():
    logs = [(math.log(c), sizes_around(c)) for c in BUDGETS]
    result = [optimum(s, [loss(n, math.exp(c)) for n in s]).size for c, (_, s) in logs]
    line = fit_polynomial([c for c, _ in logs], np.log(result).tolist(), 1)
    assert line.coefficients[1] == pytest.approx(0.37 / (0.34 + 0.37), rel=0.01)


def test_edges_and_too_few_sizes_are_marked():
    assert optimum([1e6, 2e6, 4e6], [3.0, 2.5, 2.2]).where == "edge"
    assert optimum([1e6, 2e6, 4e6], [3.0, 2.5, 2.2]).size == 4e6
    assert optimum([1e6, 2e6, 4e6], [2.0, 2.5, 2.2]).where == "none"
    assert optimum([1e6, 2e6], [2.0, 2.5]) is None
    exact = optimum([1e6, 2e6, 4e6], [3.0, 2.0, 3.0])
    assert exact.interval is None, "three points leave nothing to tell the error from"
    assert exact.size == pytest.approx(2e6)


def test_least_squares_are_those_of_numpy_and_its_draws_of_student():
    generator = np.random.default_rng(0)
    x = generator.uniform(0, 3, 12)
    y = 2 - x + 0.5 * x**2 + generator.normal(0, 0.1, 12)
    result = fit_polynomial(x.tolist(), y.tolist(), 2)
    assert result.coefficients == pytest.approx(np.polynomial.polynomial.polyfit(x, y, 2))
    from scipy import stats

    line = fit_polynomial(x.tolist(), y.tolist(), 1)
    slope = stats.linregress(x, y)
    half = slope.stderr * stats.t.isf(0.025, 10)
    low, high = line.interval(1)
    assert low == pytest.approx(slope.slope - half, abs=0.03 * half)
    assert high == pytest.approx(slope.slope + half, abs=0.03 * half)


def test_interval_of_the_best_size_covers():
    generator, hits, trials = np.random.default_rng(1), 0, 400
    budget = BUDGETS[0]
    sizes = sorted(sizes_around(budget)[1] * 3)  # three seeds
    truth = optimum(sizes, [loss(size, budget) for size in sizes]).size
    for _ in range(trials):
        losses = [loss(size, budget) + generator.normal(0, 0.01) for size in sizes]
        low, high = optimum(sizes, losses).interval
        hits += low <= truth <= high
    assert 0.92 <= hits / trials <= 0.98


def test_interval_of_a_crossing_covers():
    generator, hits, trials = np.random.default_rng(2), 0, 400
    xs = np.log(np.repeat([1e12, 3e12, 9e12], 3))
    middle = math.log(4e12)
    for _ in range(trials):
        first = 1.5 * (xs - middle) + generator.normal(0, 0.2, len(xs))
        second = 0.5 * (xs - middle) + generator.normal(0, 0.2, len(xs))
        one, other = (fit_polynomial(xs.tolist(), y.tolist(), 1) for y in (first, second))
        low, high = crossing(one, other, [1e12, 9e12]).interval
        hits += low <= 4e12 <= high
    assert 0.92 <= hits / trials <= 0.985


def test_a_crossing_is_inside_beyond_or_none():
    budgets, xs = [1e12, 1e13], np.log([1e12, 3e12, 1e13])
    steep, flat = (
        fit_polynomial(xs.tolist(), (s * (xs - math.log(5e12))).tolist(), 1) for s in (2, 1)
    )
    result = crossing(steep, flat, budgets)
    assert result.budget == pytest.approx(5e12)
    assert not result.extrapolated
    late = fit_polynomial(xs.tolist(), (2 * (xs - math.log(1e14))).tolist(), 1)
    low = fit_polynomial(xs.tolist(), (0 * xs).tolist(), 1)
    assert crossing(late, low, budgets).extrapolated
    above = fit_polynomial(xs.tolist(), (2 * xs + 1).tolist(), 1)
    below = fit_polynomial(xs.tolist(), (2 * xs).tolist(), 1)
    assert crossing(above, below, budgets).budget is None, "parallel"


def test_parallel_lines_have_no_bounded_crossing():
    generator = np.random.default_rng(3)
    xs = np.log(np.repeat([1e12, 3e12, 9e12], 3))
    one, other = (
        fit_polynomial(xs.tolist(), (level + xs + generator.normal(0, 0.3, 9)).tolist(), 1)
        for level in (0.0, 0.2)
    )
    assert crossing(one, other, [1e12, 9e12]).interval == (0.0, math.inf)


def test_lines_that_may_be_parallel_mostly_have_no_bounded_crossing():
    generator, xs = np.random.default_rng(4), np.log(np.repeat([1e12, 3e12, 9e12], 3))
    unbounded = 0
    for _ in range(200):
        one, other = (
            fit_polynomial(xs.tolist(), (level + xs + generator.normal(0, 0.3, 9)).tolist(), 1)
            for level in (0.0, 0.2)
        )
        unbounded += crossing(one, other, [1e12, 9e12]).interval == (0.0, math.inf)
    assert 0.9 <= unbounded / 200 <= 0.99, "95% of the intervals of the slopes hold their equality"


def test_a_parabola_that_may_be_straight_does_not_bound_the_best_size():
    losses = [2.42, 0.44, 0.18, -0.09, 1.93, 0.80, 0.67, 0.53]
    result = optimum([1e5, 2e5, 4e5, 8e5] * 2, losses)
    assert result.interval in (None, (0.0, math.inf))


def test_log_odds_are_finite_at_the_ends():
    assert logit(0.0, 10) == -logit(1.0, 10)
    assert math.isfinite(logit(1.0, 10))
    assert logit(0.5, 10) == 0
