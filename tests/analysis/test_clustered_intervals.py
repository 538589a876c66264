"""Intervals over prompts that are asked more than once: coverage, and their limits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from unify.analysis.clustered_intervals import mean_interval, share_interval


def trials(generator, prompts, n, share, alike):
    """Hits [n] and prompts [n]; `alike`, 0 to 1: how far a prompt decides."""
    asked = generator.integers(prompts, size=n)
    if alike in (0, 1):
        each = generator.random(prompts) < share if alike else np.full(prompts, share)
    else:
        weight = 1 / alike - 1
        each = generator.beta(share * weight, (1 - share) * weight, prompts)
    return (generator.random(n) < each[asked]).astype(float), asked


@pytest.mark.parametrize("alike", [0, 0.1, 0.5, 1])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.98])
@pytest.mark.parametrize(("prompts", "n"), [(40, 256), (12, 64)])
def test_the_interval_of_a_share_over_repeated_prompts_covers_it(prompts, n, share, alike):
    generator = np.random.default_rng(0)
    tries = 400
    ends = [share_interval(*trials(generator, prompts, n, share, alike)) for _ in range(tries)]
    covered = sum(low <= share <= high for low, high in ends) / tries
    assert covered >= 0.92, "93% within two standard errors of the simulation"


def test_wilsons_over_trials_does_not():
    generator = np.random.default_rng(0)
    made = [trials(generator, 40, 256, 0.9, 1)[0] for _ in range(200)]
    covered = sum(low <= 0.9 <= high for low, high in map(share_interval, made)) / 200
    assert covered < 0.7


def test_repeats_of_one_prompt_are_clustered():
    hits, asked = [1.0] * 230 + [0.0] * 26, [i % 40 for i in range(256)]
    alone, clustered = share_interval(hits), share_interval(hits, asked)
    assert clustered[0] < alone[0]
    assert clustered[1] > alone[1]
    assert share_interval([1.0] * 256, asked)[0] == pytest.approx(0.896, abs=0.02)  # 40 of 40
    assert share_interval([1.0] * 256)[0] == pytest.approx(0.985, abs=1e-3)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 9))
def test_an_interval_has_its_share_and_stays_in_0_to_1(hits, prompts):
    asked = [i % prompts for i in range(len(hits))]
    ends = share_interval([float(hit) for hit in hits], asked)
    if ends is None:
        assert len(set(asked)) == 1 < len(hits)
        return
    assert 0 <= ends[0] <= sum(hits) / len(hits) + 1e-9
    assert sum(hits) / len(hits) - 1e-9 <= ends[1] <= 1


def test_a_prompt_to_each_trial_is_wilsons_and_students_own():
    hits = [1.0, 0.0, 1.0, 1.0]
    assert share_interval(hits, [3, 1, 2, 0]) == share_interval(hits)
    known = stats.binomtest(3, 4).proportion_ci(method="wilson")
    assert share_interval(hits) == pytest.approx((known.low, known.high), abs=1e-6)
    values = [0.3, 1.2, 0.7, 2.0]
    known = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert mean_interval(values) == pytest.approx(known)
    assert mean_interval(values, [0, 1, 2, 3]) == pytest.approx(known)


def test_a_mean_of_a_bounded_quantity_has_a_bounded_interval():
    values = [1.0, 1.0, 1.0, 0.2]
    low, high = mean_interval(values)
    assert (low, high) == (pytest.approx(0.164, abs=1e-3), pytest.approx(1.436, abs=1e-3))
    assert mean_interval(values, bounds=(0, 1)) == (low, 1)
    assert mean_interval([-v for v in values], bounds=(-1, math.inf)) == (-1, pytest.approx(-low))


def test_one_prompt_says_nothing_of_others():
    assert share_interval([1.0, 0.0, 1.0], [4, 4, 4]) is None
    assert mean_interval([1.0, 0.0, 1.0], [4, 4, 4]) is None
    assert mean_interval([1.0]) is None


def test_alike_trials_of_a_prompt_count_once():
    doubled = mean_interval([0.1, 0.1, 0.5, 0.5, 0.9, 0.9], [0, 0, 1, 1, 2, 2])
    assert doubled == pytest.approx(mean_interval([0.1, 0.5, 0.9]))


@pytest.mark.parametrize("trials", [1, 7, 69, 512])
def test_the_interval_of_no_hit_or_of_hits_alone_ends_at_the_edge_exactly(trials):
    assert share_interval([0.0] * trials + [0.0], range(trials + 1))[0] == 0
    assert share_interval([1.0] * trials + [1.0], range(trials + 1))[1] == 1
