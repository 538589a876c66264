"""Probability of improvement: a count by hand, scipy, known values and identities."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from outcome_simulation import outcomes
from scipy.stats import mannwhitneyu

from unify.analysis.improvement import improvement, probability_of_improvement
from unify.analysis.paired_differences import crossed

FEW_VALUES = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0])  # so that there are ties
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 5))
TWO = SHAPES.flatmap(lambda shape: st.tuples(*[arrays(float, shape, elements=FEW_VALUES)] * 2))


def counted(a, b):
    """The sums of the definition, one pair of replicates and one prompt after another."""
    wins = 0.0
    for one in a:
        for other in b:
            for x, y in zip(one, other, strict=True):
                wins += 1.0 if x > y else 0.5 if x == y else 0.0
    return wins / (len(a) * len(b) * len(a[0]))


@settings(max_examples=300, deadline=None)
@given(TWO)
def test_it_is_the_count_over_all_pairs_and_prompts(two):
    a, b = two
    assert improvement(a, b).mean == pytest.approx(counted(a, b))
    column = probability_of_improvement(a[:, 0], b[:, 0])
    assert column == pytest.approx(counted(a[:, :1], b[:, :1]))


@settings(max_examples=300, deadline=None)
@given(TWO)
def test_the_two_directions_sum_to_one_with_their_intervals(two):
    a, b = two
    one, other = improvement(a, b), improvement(b, a)
    assert 0 <= one.mean <= 1
    assert one.mean + other.mean == pytest.approx(1)
    assert one.refusal == other.refusal
    if one.interval is not None:
        low, high = one.interval
        assert other.interval == pytest.approx((1 - high, 1 - low))
    assert probability_of_improvement(a[:, 0], a[:, 0]) == 0.5


@settings(max_examples=200, deadline=None)
@given(TWO, st.randoms())
def test_the_order_of_prompts_says_nothing_and_of_values_only_the_order_counts(two, luck):
    a, b = two
    order = list(range(a.shape[1]))
    luck.shuffle(order)
    assert improvement(a[:, order], b[:, order]).mean == pytest.approx(improvement(a, b).mean)
    assert improvement(np.exp(a), np.exp(b)).mean == improvement(a, b).mean


def test_known_values():
    low, high = np.zeros((3, 8)), np.ones((3, 8))
    assert improvement(high, low).mean == 1
    assert improvement(low, high).mean == 0
    assert improvement(low, low).mean == 0.5
    assert probability_of_improvement([1, 2, 3], [2, 2]) == pytest.approx((0 + 1 + 2) / 6)
    some, others = np.random.default_rng(0).random((2, 7))
    by_scipy = mannwhitneyu(some, others).statistic / 49
    assert probability_of_improvement(some, others) == pytest.approx(by_scipy)


def test_of_right_and_wrong_it_is_the_difference_on_another_scale():
    a, b = outcomes(np.random.default_rng(1), 1, (0.7, 0.6), 5, 64, 0.4)[0]
    for trials in (None, np.arange(1, 65)):
        one, difference = improvement(a, b, trials), crossed(a, b, trials)
        assert one.mean == pytest.approx((1 + difference.mean) / 2)
        assert one.interval == pytest.approx([(1 + end) / 2 for end in difference.interval])
        assert one.method == difference.method


def test_prompts_weigh_by_their_trials():
    a, b = np.array([[1.0, 0.0]] * 3), np.array([[0.0, 1.0]] * 3)
    assert improvement(a, b, np.array([3, 1])).mean == pytest.approx(0.75)


def test_few_seeds_have_no_interval():
    a, b = outcomes(np.random.default_rng(2), 1, (0.7, 0.6), 5, 64, 0.4)[0]
    assert improvement(a[:2], b[:2]).interval is None
    assert improvement(a[:3], b[:3]).interval is not None
    assert improvement(np.ones((5, 8)), np.zeros((5, 8))).interval is None, "all seeds alike"


def test_the_interval_covers_where_outcomes_are_neither_right_nor_wrong():
    """Scores of parts, as shares of attributes are; the truth by very many replicates."""
    generator = np.random.default_rng(3)
    draw = lambda replicates, seeds, lead: (  # noqa: E731
        lead
        + generator.standard_normal((replicates, 1, 48))
        + 0.5 * generator.standard_normal((replicates, seeds, 1))
        + generator.standard_normal((replicates, seeds, 48))
    ).round()
    far, near = draw(4000, 1, 0.4), draw(4000, 1, 0.0)
    truth = float((far > near).mean() + 0.5 * (far == near).mean())
    assert truth > 0.55
    held = [
        low <= truth <= high
        for low, high in (
            improvement(draw(1, 5, 0.4)[0], draw(1, 5, 0.0)[0]).interval for _ in range(400)
        )
    ]
    assert np.mean(held) > 0.93


@pytest.mark.parametrize("bad", [[], [math.nan], [[1.0]]])
def test_scores_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="score"):
        probability_of_improvement(bad, [1.0])
    with pytest.raises(ValueError, match="outcomes"):
        improvement(np.full((3, 4), math.nan), np.ones((3, 4)))
    with pytest.raises(ValueError, match="not paired"):
        improvement(np.ones((3, 4)), np.ones((2, 4)))
