"""Quality against cost."""

import pytest

from unify.answers.costs import pareto


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 0.5), (2, 0.4), (3, 0.9)], [(1, 0.5), (3, 0.9)]),
        ([(1, 0.5), (1, 0.7), (2, 0.7)], [(1, 0.7)]),
        ([(2, 0.1)], [(2, 0.1)]),
    ],
)
def test_the_front_has_what_nothing_cheaper_reaches(points, front):
    assert pareto(points, "higher") == front


def test_where_lower_is_better_the_front_falls():
    assert pareto([(1, 0.5), (2, 0.6), (3, 0.1)], "lower") == [(1, 0.5), (3, 0.1)]
