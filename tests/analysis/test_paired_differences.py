"""Intervals and tests of differences: identities, refusals and scipy as the reference; whether they
cover is in test_coverage.py."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outcome_simulation import outcomes
from scipy import stats

from unify.analysis.multiple_tests import holm
from unify.analysis.paired_differences import (
    crossed,
    crossed_variances,
    paired,
    verdict,
)

FINITE = st.floats(-1e6, 1e6, allow_nan=False)
BAD = st.sampled_from([math.nan, math.inf, -math.inf])


def two_arms(generator, seeds, prompts, rates=(0.6, 0.6), of_seed=0.3):
    return outcomes(generator, 1, rates, seeds, prompts, of_seed)[0]


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


@pytest.mark.parametrize("rates", [(0.6, 0.6), (0.7, 0.5), (0.9, 0.1)])
def test_the_test_rejects_exactly_what_the_interval_excludes(rates):
    generator = np.random.default_rng(3)
    for _ in range(50):
        a, b = two_arms(generator, 4, 32, rates)
        result = crossed(a, b)
        assert (result.p < 0.05) == (not result.interval[0] <= 0 <= result.interval[1])
        assert crossed(b, a).mean == pytest.approx(-result.mean)
        assert crossed(b, a).p == pytest.approx(result.p)


def test_the_variance_of_seeds_is_never_below_its_expectation():
    """Seeds with equal totals and other prompts right: M_s is 0 by luck, and M_e is not."""
    a = np.zeros((3, 256))
    a[[0, 0, 1, 2], [5, 6, 77, 200]] = 1  # two hits under a seed, one under each other
    result = crossed(a, np.zeros((3, 256)))
    low, high = result.interval
    assert low < 0 < high
    assert result.p > 0.05
    totals = np.random.default_rng(0).permuted(np.repeat([[1.0] * 40 + [0.0] * 24], 3, 0), axis=1)
    of_seeds, _ = crossed_variances(totals)
    squares = ((totals - totals.mean(0)) ** 2).sum() / (2 * 63)
    assert of_seeds == pytest.approx(squares / totals.size, rel=0.1), "that of M_e"


@pytest.mark.parametrize("hits", [1, 20])
def test_seeds_that_give_exactly_the_same_difference_have_no_verdict(hits):
    """Whatever chance within a seed gives: equal totals are luck."""
    a = np.zeros((3, 64))
    for seed in range(3):
        a[seed, seed * 15 : seed * 15 + hits] = 1
    result = crossed(a, np.zeros((3, 64)))
    assert np.ptp(result.by_seed) == 0
    assert (result.interval, result.p) == (None, None)
    assert "exactly the same difference" in result.refusal


def test_variances_of_many_differences_are_those_of_each():
    many = np.random.default_rng(1).standard_normal((5, 2, 4, 16))
    of_seeds, of_prompts = crossed_variances(many)
    for place in np.ndindex(5, 2):
        result = crossed(many[place], np.zeros((4, 16)))
        assert result.parts == (
            (pytest.approx(of_seeds[place]), 3),
            (pytest.approx(of_prompts[place]), 15),
        )


def test_repeated_prompts_weigh_by_their_trials_and_count_once():
    """Three trials of one prompt are one prompt; the difference stays the mean of the trials."""
    generator = np.random.default_rng(4)
    trials = generator.integers(1, 5, 20)
    a, b = two_arms(generator, 5, int(trials.sum()))
    index = np.repeat(np.arange(20), trials)
    means = [np.stack([np.bincount(index, row) for row in y]) / trials for y in (a, b)]
    result = crossed(*means, trials)
    assert result.mean == pytest.approx((a - b).mean())
    assert result.by_seed == pytest.approx((a - b).mean(1))
    assert result.prompts == 20
    once = crossed(means[0], means[1], np.full(20, 3))
    plain = crossed(*means)
    assert (*once.interval, once.p) == pytest.approx((*plain.interval, plain.p))


def test_one_prompt_asked_many_times_is_not_many_prompts():
    """With one hard and one easy prompt repeated, trials would look like independent evidence."""
    generator, false = np.random.default_rng(5), 0
    for _ in range(200):
        chance = 0.5 + 0.4 * np.sign(generator.standard_normal((2, 1, 8)))  # of arm and prompt
        y = generator.random((2, 5, 8, 32)) < chance[..., None]
        false += crossed(*y.mean(-1), np.full(8, 32)).p <= 0.05
    assert false / 200 <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


REFUSED = {
    "one seed cannot tell": (np.ones((1, 8)), np.zeros((1, 8))),
    "two seeds cannot tell": (np.ones((2, 8)), np.eye(2, 8)),
    "one prompt cannot tell": (np.ones((3, 1)), np.zeros((3, 1))),
    "every seed gave exactly the same": (np.ones((3, 8)), np.zeros((3, 8))),
}


@pytest.mark.parametrize("words", REFUSED)
def test_no_verdict_where_seeds_or_prompts_cannot_tell(words):
    result = crossed(*REFUSED[words])
    assert words in verdict(result, holm([result.p])[0])
    assert (result.interval, result.p, result.standardised) == (None, None, None)
    assert words in verdict(result, 0.001), "whatever p it is given"


@pytest.mark.parametrize("seeds", [1, 2, 3, 8])
def test_no_verdict_on_scores_without_spread(seeds):
    b = np.random.default_rng(6).random(seeds)
    for a in (b, b + 0.1, b + 1e-14):  # not one of the sums is exact
        result = paired(a, b)
        words = verdict(result, holm([result.p])[0])
        assert words == ("no verdict: every seed gave exactly the same difference" if seeds > 2
                         else f"{('one seed', 'two seeds')[seeds - 1]} cannot tell")  # fmt: skip
        assert (result.p, result.standardised) == (None, None)


@settings(deadline=None)
@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=8))
def test_finite_scores_never_raise(pairs):
    a, b = zip(*pairs, strict=True)
    result = paired(a, b)
    assert verdict(result, holm([result.p])[0])
    size = result.standardised
    if size is not None:
        ratio, low, high = size
        assert np.isfinite(size).all()
        assert low <= ratio <= high or abs(ratio) < 1e-3 * max(abs(low), abs(high))
    if result.interval is not None:
        low, high = result.interval
        assert low <= result.mean <= high
        assert 0 <= result.p <= 1


@settings(deadline=None)
@given(BAD, st.integers(0, 2), st.integers(0, 1))
def test_outcomes_that_are_no_numbers_are_refused_by_place(bad, seed, arm):
    scores = [[0.1, 0.2, 0.3], [0.3, 0.1, 0.2]]
    scores[arm][seed] = bad
    with pytest.raises(ValueError, match=rf"at \[{seed}\] is no finite number"):
        paired(*scores)
    many = np.zeros((2, 3, 4))
    many[arm, seed, 2] = bad
    with pytest.raises(ValueError, match=rf"at \[{seed}, 2\] is no finite number"):
        crossed(*many)


@settings(deadline=None)
@given(BAD)
def test_a_p_that_is_no_number_is_refused(bad):
    with pytest.raises(ValueError, match="adjusted p"):
        verdict(paired([1, 2, 3.5], [0, 0, 0]), bad)
    with pytest.raises(ValueError, match="p of a family"):
        holm([0.01, bad, 0.04])


def test_unpaired_outcomes_are_refused():
    with pytest.raises(ValueError, match="same seeds and prompts"):
        crossed(np.ones((3, 8)), np.ones((2, 8)))


def test_the_standardised_difference_has_its_nominal_coverage():
    generator, truth, hits = np.random.default_rng(4), 0.8, 0
    for _ in range(300):
        d = truth + generator.standard_normal(5)
        _, low, high = paired(d, np.zeros(5)).standardised
        hits += low <= truth <= high
    assert 0.92 <= hits / 300 <= 0.98


def test_the_standardised_interval_goes_on_where_scipy_ends():
    """At large t, the noncentral t and its limit agree."""
    d = np.array([-1.0, 0.0, 1.0, 0.5, -0.5])
    below, above = (paired(d + 0.9 * t, 0 * d).standardised for t in (390.0, 400.0))
    assert [x / below[0] for x in below] == pytest.approx([x / above[0] for x in above], rel=1e-2)
