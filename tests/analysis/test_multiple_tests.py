"""Families of tests: Holm's p, and intervals that hold together and agree with the verdicts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unify.analysis.multiple_tests import holm, simultaneous_interval
from unify.analysis.paired_differences import LEVEL, paired


def test_holm_by_hand():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]


SEEDS = st.lists(st.floats(-1, 1), min_size=5, max_size=5)


@settings(deadline=None)
@given(st.lists(SEEDS, min_size=1, max_size=8), st.floats(0, 2))
def test_simultaneous_intervals_leave_out_zero_exactly_where_there_is_a_verdict(family, shift):
    made = [paired(np.array(d) + shift, np.zeros(5)) for d in family]
    adjusted = holm([one.p for one in made])
    tests = sum(p is not None for p in adjusted)
    for one, p in zip(made, adjusted, strict=True):
        ends = simultaneous_interval(one, p, max(1, tests))
        assert (ends is None) == (p is None)
        if ends is not None:
            low, high = ends
            inside = low < 0 < high  # an end of exactly 0 is left out
            assert inside == (p > 1 - LEVEL)
            assert low <= one.mean <= high


def test_simultaneous_intervals_hold_together():
    """In 95% of families, all of them hold; the intervals of each by itself do not."""
    generator, together, alone, tables = np.random.default_rng(0), 0, 0, 300
    truth = np.array([0.0, 0.0, 0.5, 1.0, 3.0, 6.0])
    for _ in range(tables):
        made = [paired(m + generator.standard_normal(6), np.zeros(6)) for m in truth]
        ps = holm([one.p for one in made])
        all_ends = [simultaneous_interval(*pair, 6) for pair in zip(made, ps, strict=True)]
        together += all(lo <= m <= hi for (lo, hi), m in zip(all_ends, truth, strict=True))
        alone += all(d.interval[0] <= m <= d.interval[1] for d, m in zip(made, truth, strict=True))
    assert together / tables >= 0.95 - 3 * (0.05 * 0.95 / tables) ** 0.5
    assert alone / tables < 0.9


def test_a_sign_that_only_holm_tells_is_all_that_its_interval_says():
    strong = paired([1.0, 1.01, 0.99, 1.0], [0.0] * 4)
    weak = paired([0.9, 0.3, 0.7, 0.35], [0.0] * 4)
    adjusted = holm([strong.p, weak.p])
    assert weak.p > 0.025
    assert adjusted[1] <= 0.05
    assert simultaneous_interval(weak, adjusted[1], 2)[0] == 0.0
    assert simultaneous_interval(strong, adjusted[0], 2)[0] > 0
