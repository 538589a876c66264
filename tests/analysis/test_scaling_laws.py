"""Known scaling laws recovered, and intervals that cover."""

import math

import numpy as np
import pytest
from chinchilla_law import loss, sizes_around

from unify.analysis.best_size import optimum
from unify.analysis.scaling_laws import crossing, fit_polynomial, logit

BUDGETS = (1e15, 4e15, 1.6e16, 6.4e16)


def test_the_exponent_of_the_best_size():
    logs = [(math.log(c), sizes_around(c)) for c in BUDGETS]
    result = [optimum(s, [loss(n, math.exp(c)) for n in s]).size for c, (_, s) in logs]
    line = fit_polynomial([c for c, _ in logs], np.log(result).tolist(), 1)
    assert line.coefficients[1] == pytest.approx(0.37 / (0.34 + 0.37), rel=0.01)


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


def test_lines_do_not_cross_only_where_one_is_above_at_both_ends():
    """Nearly parallel lines whose crossing lies seven times beyond the largest budget."""
    generator, xs = np.random.default_rng(5), np.log(np.repeat([1e12, 3e12, 9e12], 3))
    said_near = said_far = 0
    for _ in range(100):
        near, other, far = (
            fit_polynomial(xs.tolist(), (level + xs + generator.normal(0, 0.3, 9)).tolist(), 1)
            for level in (0.0, 0.05, 3.0)
        )
        said_near += crossing(near, other, [1e12, 9e12]).apart
        said_far += crossing(near, far, [1e12, 9e12]).apart
    assert said_near / 100 <= 0.05
    assert said_far / 100 >= 0.95
    crossing_inside = crossing(
        fit_polynomial(xs.tolist(), (2 * (xs - math.log(4e12))).tolist(), 1),
        fit_polynomial(xs.tolist(), (xs - math.log(4e12)).tolist(), 1),
        [1e12, 9e12],
    )
    assert not crossing_inside.apart


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match=r"y: .* at \[1\] is no finite number"):
        fit_polynomial([0.0, 1.0, 2.0], [0.0, bad, 2.0], 1)
    with pytest.raises(ValueError, match="share"):
        logit(bad, 10)


def test_log_odds_are_finite_at_the_ends():
    assert logit(0.0, 10) == -logit(1.0, 10)
    assert math.isfinite(logit(1.0, 10))
    assert logit(0.5, 10) == 0
