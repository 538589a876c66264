"""Budget of the arms: what the runs logged, and which of it is equal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_study import write_study

from unify.answers.budget import Quantity, budget, progress
from unify.answers.study_records import load_study


def quantity(**values):
    return Quantity("Steps", values, "{:g}".format, arms=2)


def test_arms_within_a_hundredth_are_matched_and_one_without_a_value_is_not_known():
    assert quantity(a=[100.0], b=[100.0, 100.5]).matched
    assert quantity(a=[100.0], b=[110.0]).matched is False
    assert quantity(a=[100.0]).matched is None


def test_an_arm_shows_its_range_over_seeds_and_the_sentence_the_factor_of_medians():
    one = quantity(a=[10.0], b=[30.0, 20.0, 40.0])
    assert (one.text("a"), one.text("b"), one.text("c")) == ("10", "20 – 40", "n/a")
    assert one.sentence() == "Steps: a 10, b 20 – 40 (a factor of 3.00)."


@given(st.lists(st.floats(1, 1e12), min_size=1), st.floats(1.05, 10))
def test_matching_does_not_depend_on_order_or_unit(values, unit):
    one, scaled = quantity(a=values, b=values[::-1]), [v * unit for v in values]
    assert one.matched == quantity(a=scaled[::-1], b=scaled).matched


def test_a_study_states_what_its_runs_logged(tmp_path):
    study = load_study(write_study(tmp_path / "study", seeds=(0, 1)))
    by_name = {one.name: one for one in budget(study)}
    assert by_name["Optimizer steps"].matched
    assert by_name["Optimizer steps"].values == {arm: [400, 400] for arm in study.arms}
    steps, rows = by_name["Optimizer steps"].values, by_name["Rows per step"].values
    for arm, samples in by_name["Samples seen"].values.items():
        assert samples == [a * b for a, b in zip(steps[arm], rows[arm], strict=True)]


def test_a_run_that_ended_early_says_how_far_it_came(tmp_path):
    run = load_study(write_study(tmp_path / "study")).runs[0]
    run.info |= {"state": "failed"}
    assert progress(run).startswith(f"failed at {run.steps:,}")
    assert pytest.approx(run.steps) == 400
