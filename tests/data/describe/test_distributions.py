"""Quantiles and bars hold every value once."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from unify.data.describe.distributions import MOST_BARS, distribution, shapes

VALUES = st.lists(st.integers(0, 1 << 16), min_size=1, max_size=60)


@given(VALUES)
def test_every_value_is_in_one_bar_and_quantiles_are_values(values):
    found = distribution(Counter(values))
    edges, counts = found["edges"], found["counts"]
    assert edges == sorted(set(edges))
    assert edges[0] <= min(values)
    assert edges[-1] > max(values)
    assert len(counts) == len(edges) - 1 <= MOST_BARS + 1
    assert counts == [sum(low <= v < high for v in values) for low, high in pairwise(edges)]
    ordered = sorted(values)
    for name, share in (("median", 0.5), ("p90", 0.9), ("p99", 0.99)):
        at = found[name]
        assert at in values
        assert sum(v <= at for v in ordered) >= share * len(values)
        assert sum(v < at for v in ordered) < share * len(values)
    assert (found["records"], found["least"], found["most"]) == (
        len(values), min(values), max(values)
    )  # fmt: skip


@given(st.lists(st.tuples(st.integers(8, 90), st.integers(8, 90), st.integers(1, 9)), max_size=20))
def test_every_size_has_one_shape(sizes):
    found = shapes(sizes)
    assert sum(found.values()) == sum(count for *_, count in sizes)
    assert found["square"] == sum(n for width, height, n in sizes if width == height)
    wide = sum(n for width, height, n in sizes if width >= 3 * height)
    assert found["3:1 or more"] == wide
    assert found["below 1:3"] == sum(n for w, h, n in sizes if 3 * w < h)
