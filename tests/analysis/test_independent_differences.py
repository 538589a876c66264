"""Differences of replicates that share nothing: mean, what the interval covers, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unify.analysis.independent_differences import (
    independent,
    independent_crossed,
    independent_variances,
)
from unify.analysis.paired_differences import half_width


def test_two_scores_a_seed_give_the_parts_of_welchs_interval():
    a, b = [0.5, 0.7, 0.6], [0.4, 0.3, 0.5, 0.35]
    one = independent(a, b)
    assert one.mean == pytest.approx(np.mean(a) - np.mean(b))
    assert [df for _, df in one.parts] == [2, 3]
    assert sum(v for v, _ in one.parts) == pytest.approx(
        np.var(a, ddof=1) / 3 + np.var(b, ddof=1) / 4
    )
    low, high = one.interval
    squares = [stats.t.ppf(0.975, df) ** 2 * v for v, df in one.parts]
    assert (high - low) / 2 == pytest.approx(np.sqrt(sum(squares)))
    assert one.p == independent(b, a).p
    assert one.method == "independent replicates, 3 and 4 seeds"


@settings(deadline=None, max_examples=200)
@given(st.integers(3, 6), st.integers(3, 6), st.integers(2, 9), st.randoms())
def test_trials_of_a_prompt_weigh_as_many_and_the_order_of_seeds_does_not(s, r, n, chance):
    generator = np.random.default_rng(chance.getrandbits(32))
    a, b = generator.normal(size=(s, n)), generator.normal(size=(r, n))
    one = independent_crossed(a, b)
    shuffled = independent_crossed(a[::-1], generator.permutation(b))
    assert shuffled.mean == pytest.approx(one.mean)
    assert np.array(shuffled.parts) == pytest.approx(np.array(one.parts))
    alike = independent_crossed(a, b, np.full(n, 3))
    assert np.array(alike.parts) == pytest.approx(np.array(one.parts))
    trials = generator.integers(1, 5, n)
    weighted = independent_crossed(a, b, trials)
    assert weighted.mean == pytest.approx((a @ trials / trials.sum()).mean()
                                          - (b @ trials / trials.sum()).mean())  # fmt: skip
    assert (one.seeds, one.replicates, one.by_seed) == (min(s, r), (s, r), ())


def test_intervals_cover_the_truth_with_seeds_and_prompts_that_differ():
    """2,000 studies of 3 and 8 seeds, 40 prompts: the arms' seeds differ unlike, prompts too."""
    generator, tables = np.random.default_rng(5), 2000
    for deviations in ((0.3, 0.1), (0.0, 0.0), (0.1, 0.5)):
        prompts = generator.normal(0, 0.4, (2, tables, 1, 40))
        a, b = (
            own + generator.normal(0, d, (tables, n, 1)) + generator.normal(0, 1, (tables, n, 40))
            for d, own, n in zip(deviations, prompts, (3, 8), strict=True)
        )
        mean = a.mean((1, 2)) - b.mean((1, 2))
        parts = independent_variances(a, b)
        half = half_width(0.05, *zip(parts, (2, 7, 39), strict=True))
        assert (abs(mean) <= half).mean() > 0.945


def test_what_cannot_tell_is_refused_by_name():
    two, eight = np.eye(2, 5), np.random.default_rng(0).random((8, 5))
    assert independent_crossed(two, eight).refusal == "two seeds cannot tell"
    assert independent([0.5], [0.4, 0.5]).refusal == "one seed cannot tell"
    assert independent_crossed(eight[:, :1], eight[:, :1]).refusal == "one prompt cannot tell"
    alike = "no verdict: every seed of an arm gave exactly the same score"
    assert independent([0.5] * 3, [0.4, 0.5, 0.6]).refusal == alike
    one = independent_crossed(np.tile(eight[:1], (3, 1)), eight)
    assert one.refusal == alike
    assert one.p is one.interval is one.standardised is one.seed_deviation is None
    with pytest.raises(ValueError, match="not of the same prompts"):
        independent_crossed(eight, eight[:, :4])
