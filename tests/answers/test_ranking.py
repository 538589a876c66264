"""The order of the arms: groups where the verdicts make some, and no more than they say else."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from unify.answers.ranking import Ranking

ARMS = tuple("abcdefg")


def ranked(count, apart, tried=None):
    pairs = frozenset(apart)
    return Ranking("m", ARMS[:count], pairs, len(pairs) if tried is None else tried)


def between(*groups):
    """Every pair of arms of two groups, the first better."""
    return [(a, b) for one, other in combinations(groups, 2) for a in one for b in other]


def test_groups_are_in_braces_and_the_best_comes_first():
    assert ranked(4, between("a", "bc", "d")).text == "a > {b, c} > d"
    assert ranked(2, between("a", "b")).text == "a > b"
    assert ranked(3, [], tried=3).text == "3 arms not told apart"
    assert ranked(2, [], tried=1).text == "a and b not told apart"
    assert ranked(3, [], tried=0).text == "no verdict"
    some = Ranking("m", ARMS[:3], frozenset(), 2, whole=False)  # a and c were not compared
    assert some.text == "none of 2 pairs told apart"


def test_verdicts_that_make_no_groups_are_listed():
    chain = ranked(3, [("a", "c")], tried=3)  # b is told apart from neither
    assert chain.groups is None
    assert chain.text == "a > c; otherwise no verdict"
    against = ranked(3, [("a", "b"), ("b", "c")], tried=2)  # a baseline: a and c were not compared
    assert against.text == "a > b; b > c; otherwise no verdict"
    pairs = list(combinations(ARMS, 2))
    assert (
        ranked(7, [*pairs[:-2], ("g", "f")], tried=21).text == "a first; 20 of 21 pairs told apart"
    )


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 6), st.data())
def test_an_order_is_written_only_where_every_pair_across_it_was_told_apart(count, data):
    every = list(combinations(ARMS[:count], 2))
    some = data.draw(st.lists(st.sampled_from(every), unique=True))
    groups = ranked(count, some, tried=len(every)).groups
    if groups is None:
        return
    assert [arm for group in groups for arm in group] == list(ARMS[:count])
    assert set(between(*groups)) == set(some)
