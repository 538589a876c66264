"""Plots of the page: axes, and lines that break where values are not finite."""

import math

import pytest

from unify.report.svg_plots import Curve, panel, thin, ticks


def test_curves_break_at_non_finite_values_and_keep_their_ends():
    points = [(1.0, 1.0), (2.0, math.nan), (3.0, 2.0), (4.0, 3.0)]
    assert panel([Curve(0, points)], 4.0).count("M") == 2
    assert "nan" not in panel([Curve(0, points)], 4.0)
    assert panel([Curve(0, [(1.0, 2.0)])], 1.0)  # one point, no range
    long = thin([(float(i), float(i)) for i in range(1000)], most=10)
    assert len(long) == 10
    assert long[-1][0] == 999
    assert sum(y for _, y in long) / 10 == pytest.approx(499.5)


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [(0, 25_600, False), (0.13, 4.7, True), (1e-6, 1e3, True), (-2, 3, False), (0.31, 0.32, False)],
)
def test_ticks_are_few_round_and_inside(low, high, log):
    result = ticks(low, high, log)
    assert 2 <= len(result) <= 7
    assert all(low <= tick <= high * (1 + 1e-9) for tick in result)
