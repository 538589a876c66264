"""The expected best of k trials, by enumeration."""

import itertools
import statistics

import pytest

from unify.analysis.best_of_trials import best_of


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_best_of_k_is_the_mean_over_all_choices(better):
    scores, top = [0.4, 0.9, 0.1, 0.5, 0.5, 0.7], min if better == "lower" else max
    for k in range(1, len(scores) + 1):
        choices = itertools.combinations(scores[1:], k - 1)
        expected = statistics.mean(top([scores[0], *some]) for some in choices)
        assert best_of(scores, k, better) == pytest.approx(expected)
    with pytest.raises(ValueError, match="best of 7 out of 6"):
        best_of(scores, 7, better)


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"scores of trials: nan at \[1\]"):
        best_of([0.1, float("nan"), 0.2], 2, "higher")
