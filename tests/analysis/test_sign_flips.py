"""The exact p over seeds, by enumeration and against scipy."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unify.analysis.outlying_seed import outlying_seed
from unify.analysis.sign_flips import least_sign_flip_p, sign_flip_p


@settings(deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=9))
def test_sign_flips_are_all_combinations_of_signs(differences):
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    by_hand = sum(each >= observed for each in sums) / len(sums)
    assert sign_flip_p([d / 64 for d in differences]) == pytest.approx(by_hand)


def test_sign_flips_are_the_exact_permutation_test_of_scipy():
    d = np.random.default_rng(0).standard_normal(8) + 0.5
    by_scipy = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(d) == pytest.approx(by_scipy.pvalue)


def test_the_least_p_is_that_of_differences_of_one_sign():
    for seeds in (2, 3, 5, 8, 20):
        assert sign_flip_p(np.linspace(1, 2, seeds)) == least_sign_flip_p(seeds)
    assert least_sign_flip_p(5) > 0.05 > least_sign_flip_p(6), "fewer than six never reach 5%"
    assert sign_flip_p([0.1] * 21) is None


@pytest.mark.parametrize("law", ["normal", "cauchy", "rarely"])
def test_sign_flips_are_right_whatever_the_law(law):
    generator, trials = np.random.default_rng(1), 1000
    d = (
        generator.standard_cauchy((trials, 8))
        if law == "cauchy"
        else generator.normal(size=(trials, 8))
    )
    if law == "rarely":
        d *= generator.random((trials, 8)) < 0.2
    assert np.mean([sign_flip_p(one) <= 0.05 for one in d]) <= 0.05 + 3 * (0.0475 / trials) ** 0.5


def test_a_seed_that_lies_apart_is_found_and_others_are_not():
    assert outlying_seed([0.01, 0.0, 0.02, 0.8, 0.01]) == 3
    assert outlying_seed([0.0, 0.0, 0.0, -0.5]) == 3
    assert outlying_seed([0.1, 0.2, 0.3, 0.15, 0.25]) is None
    assert outlying_seed([0.0, 1.0]) is None
    assert outlying_seed([0.3] * 5) is None


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_one_in_a_hundred_normal_sets_has_a_seed_apart(seeds):
    d = np.random.default_rng(seeds).standard_normal((4000, seeds))
    assert np.mean([outlying_seed(one) is not None for one in d]) == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize("function", [sign_flip_p, outlying_seed])
def test_differences_that_are_no_numbers_are_refused(function):
    with pytest.raises(ValueError, match=r"at \[1\] is no finite number"):
        function([0.1, float("nan"), 0.2])
