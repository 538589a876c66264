"""Intervals and tests of differences, on synthetic data whose truth is by_scipy."""

import numpy as np
import pytest
from scipy import stats

from unify.analysis.paired_differences import (
    crossed,
    detectable,
    holm,
    paired,
    power,
    seeds_needed,
    verdict,
)


def outcomes(generator, seeds, prompts, effect, of_seed, of_prompt):
    """Two arms' right and wrong: a shift by seed and one by prompt in which arm is better."""
    a = of_seed * generator.standard_normal((seeds, 1))
    b = of_prompt * generator.standard_normal((1, prompts))
    chance = 0.6 + np.array([1, -1])[:, None, None] * (effect + a + b) / 2
    return (generator.random((2, seeds, prompts)) < chance).astype(float)


@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize("of_seed", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("of_prompt", [0.0, 0.15])
def test_95_percent_intervals_cover_the_truth_93_to_97_times(seeds, of_seed, of_prompt):
    generator, truth, trials = np.random.default_rng(seeds), 0.05, 2000
    hits = 0
    for _ in range(trials):
        result = crossed(*outcomes(generator, seeds, 128, truth, of_seed, of_prompt))
        low, high = result.interval
        hits += low <= truth <= high
    slack = 3 * (0.95 * 0.05 / trials) ** 0.5  # of the simulation itself
    assert 0.93 - slack <= hits / trials <= 0.97 + slack


def test_a_bootstrap_over_three_seeds_would_not():
    generator, hits = np.random.default_rng(0), 0
    for _ in range(300):
        difference = 0.05 + 0.05 * generator.standard_normal(3)
        means = difference[generator.integers(0, 3, (1000, 3))].mean(1)
        low, high = np.quantile(means, [0.025, 0.975])
        hits += low <= 0.05 <= high
    assert hits / 300 < 0.85


@pytest.mark.parametrize("seeds", [3, 8])
def test_no_more_than_5_percent_of_tables_without_a_difference_claim_one(seeds):
    generator, claimed, tables = np.random.default_rng(1), 0, 200
    for _ in range(tables):
        result = [crossed(*outcomes(generator, seeds, 64, 0, 0.05, 0.1)) for _ in range(10)]
        adjusted = holm([f.p for f in result])
        claimed += any(
            verdict(f, p) in ("higher", "lower") for f, p in zip(result, adjusted, strict=True)
        )
    assert claimed / tables <= 0.05 + 3 * (0.05 * 0.95 / tables) ** 0.5


def test_paired_is_the_t_test_of_scipy():
    generator = np.random.default_rng(2)
    a, b = generator.random(6), generator.random(6)
    by_scipy = stats.ttest_rel(a, b)
    result = paired(a, b)
    assert result.p == pytest.approx(by_scipy.pvalue)
    interval = by_scipy.confidence_interval()
    assert result.interval == pytest.approx((interval.low, interval.high))
    assert result.method == "paired t over 6 seeds"


def test_prompts_that_all_agree_leave_the_t_test_over_seeds():
    by_seed = np.array([[0.1], [0.3], [0.2]])
    a, b = np.repeat(by_seed, 50, 1), np.zeros((3, 50))
    one, other = crossed(a, b), paired(by_seed[:, 0], np.zeros(3))
    assert (*one.interval, one.p) == pytest.approx((*other.interval, other.p))


@pytest.mark.parametrize("scale", [0.02, 0.1, 1.0])
def test_the_test_rejects_exactly_what_the_interval_excludes(scale):
    generator = np.random.default_rng(3)
    for _ in range(50):
        a, b = outcomes(generator, 4, 32, scale / 10, 0.05, 0.1)
        result = crossed(a, b)
        assert (result.p < 0.05) == (not result.interval[0] <= 0 <= result.interval[1])
        assert crossed(b, a).mean == pytest.approx(-result.mean)
        assert crossed(b, a).p == pytest.approx(result.p)


def test_identical_arms_do_not_differ_and_constant_differences_do():
    a = np.ones((3, 8))
    same, apart = crossed(a, a), crossed(a, 0 * a)
    assert (same.mean, same.p) == (0, 1)
    assert apart.interval == (1, 1)
    assert apart.p < 1e-9
    assert apart.standardised is None


def test_one_seed_claims_nothing():
    result = crossed(np.ones((1, 8)), np.zeros((1, 8)))
    assert result.interval is None
    assert verdict(result, holm([result.p])[0]) == "one seed cannot tell"


def test_unpaired_outcomes_are_refused():
    with pytest.raises(ValueError, match="same seeds and prompts"):
        crossed(np.ones((3, 8)), np.ones((2, 8)))


def test_holm_by_hand():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]


def test_the_standardised_difference_has_its_nominal_coverage():
    generator, truth, hits = np.random.default_rng(4), 0.8, 0
    for _ in range(300):
        d = truth + generator.standard_normal(5)
        _, low, high = paired(d, np.zeros(5)).standardised
        hits += low <= truth <= high
    assert 0.92 <= hits / 300 <= 0.98


def test_power_is_how_often_a_difference_is_found():
    generator, result = np.random.default_rng(5), 0
    for _ in range(1000):
        d = 0.1 + 0.1 * generator.standard_normal(8)
        result += paired(d, np.zeros(8)).p < 0.05
    assert power(0.1, 0.1, 8) == pytest.approx(result / 1000, abs=0.05)
    needed = seeds_needed(0.1, 0.1)
    assert power(0.1, 0.1, needed) >= 0.8 > power(0.1, 0.1, needed - 1)
    assert seeds_needed(0.01, 0.1, prompt_variance=0.01) is None, "more prompts are needed"
    assert power(0.0, 0.1, 8, tests=10) == pytest.approx(0.005)
    assert power(0.2, 0.1, 8, tests=10) < power(0.2, 0.1, 8)
    assert seeds_needed(0.1, 0.1, tests=10) > needed
    least = detectable(0.1, 8, tests=10)
    assert least > detectable(0.1, 8)
    assert power(least, 0.1, 8, tests=10) == pytest.approx(0.8)


def test_power_rises_from_the_level_to_one_without_gaps():
    for seeds in (2, 3, 5, 8, 33):
        result = [power(effect, 1.0, seeds) for effect in np.linspace(0, 100, 401)]
        assert result[0] == pytest.approx(0.05)
        assert np.all(np.diff(result) >= -1e-12)
        assert result[-1] == pytest.approx(1.0, abs=1e-9)
