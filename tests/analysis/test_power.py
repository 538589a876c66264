"""Power, detectable differences and seeds needed."""

import math

import numpy as np
import pytest

from unify.analysis.paired_differences import crossed, paired
from unify.analysis.power import detectable, power, seeds_needed, seeds_range


def test_power_is_how_often_a_difference_is_found():
    generator, result = np.random.default_rng(5), 0
    for _ in range(1000):
        d = 0.1 + 0.1 * generator.standard_normal(8)
        result += paired(d, np.zeros(8)).p < 0.05
    assert power(0.1, 0.1, 8) == pytest.approx(result / 1000, abs=0.05)
    needed = seeds_needed(0.1, 0.1)
    assert power(0.1, 0.1, needed) >= 0.8 > power(0.1, 0.1, needed - 1)
    assert seeds_needed(0.01, 0.1, (0.01, 255)) is None, "more prompts are needed"
    assert power(0.0, 0.1, 8, tests=10) == pytest.approx(0.005, abs=1e-4)
    assert power(0.2, 0.1, 8, tests=10) < power(0.2, 0.1, 8)
    assert seeds_needed(0.1, 0.1, tests=10) > needed
    least = detectable(0.1, 8, tests=10)
    assert least > detectable(0.1, 8)
    assert power(least, 0.1, 8, tests=10) == pytest.approx(0.8)


@pytest.mark.parametrize("of_seeds", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("seeds", [3, 8])
def test_power_of_crossed_outcomes_is_how_often_their_interval_leaves_zero_out(seeds, of_seeds):
    """Whichever of seeds and prompts is the more uncertain part."""
    generator, prompts, found = np.random.default_rng(3), 64, []
    for _ in range(600):
        chance = 0.3 * generator.standard_normal((seeds, prompts))
        own = of_seeds * generator.standard_normal((seeds, 1))
        asked = 0.6 * generator.standard_normal(prompts)
        low, high = crossed(0.25 + own + asked + chance, np.zeros((seeds, prompts))).interval
        found.append(not low <= 0 <= high)
    deviation = math.hypot(of_seeds, 0.3 / math.sqrt(prompts))
    said = power(0.25, deviation, seeds, (0.36 / prompts, prompts - 1))
    assert said == pytest.approx(np.mean(found), abs=0.06)


def test_power_rises_from_the_level_to_one_without_gaps():
    for seeds in (3, 5, 8, 33):
        result = [power(effect, 1.0, seeds) for effect in np.linspace(0, 100, 401)]
        assert result[0] == pytest.approx(0.05, abs=1e-3)
        assert np.all(np.diff(result) >= -1e-12)
        assert result[-1] == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("seeds", [1, 2])
def test_two_seeds_find_nothing(seeds):
    assert power(100.0, 0.1, seeds) == 0
    assert detectable(0.1, seeds) is None
    assert seeds_needed(1e6, 0.1) == 3


def test_seeds_needed_is_a_range_that_holds_the_truth():
    """True d_z of 1 takes ten seeds; a bare number from three seeds would say 3 to 270."""
    generator, truth, held = np.random.default_rng(7), seeds_needed(1.0, 1.0), 0
    for _ in range(200):
        fewest, most = seeds_range(paired(1.0 + generator.standard_normal(5), np.zeros(5)))
        held += fewest <= truth and (most is None or truth <= most)
    assert held / 200 >= 0.91


def test_seeds_needed_has_no_end_where_no_difference_is_possible():
    undecided = paired([0.1, -0.1, 0.2, 0.0], [0.0] * 4)
    fewest, most = seeds_range(undecided)
    assert fewest >= 3
    assert most is None
    assert seeds_range(paired([1.0, 1.0, 1.0], [0.0] * 3)) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_effects_that_are_no_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="effect, deviation"):
        power(bad, 0.1, 8)


def test_what_is_detectable_knows_that_chance_within_a_seed_alone_makes_seeds_differ():
    """By the deviation that the interval takes, which lucky seeds do not make smaller."""
    generator = np.random.default_rng(7)
    for _ in range(40):
        a, b = (generator.random((2, 3, 256)) < 0.6).astype(float)
        difference = crossed(a, b)
        assert difference.refusal or difference.seed_deviation >= difference.between_seeds - 1e-12
        if difference.interval is not None:
            low, high = difference.interval
            found = detectable(difference.seed_deviation, 3, difference.of_prompts)
            assert found > (high - low) / 2, (
                "an effect as large as half the width is missed as often"
            )
