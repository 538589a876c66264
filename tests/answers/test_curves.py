"""Curves over training: means over seeds, running means, and what is drawn of a journal."""

import math
from pathlib import Path

import pytest

from unify.answers.curves import (
    cosine_curves,
    loss_terms,
    mean_curve,
    samples_at,
    seed_curves,
    smooth,
    time_bins,
)
from unify.answers.run_records import RunRecord


def test_a_running_mean_of_a_constant_is_that_constant():
    assert [y for _, y in smooth([(i, 5.0) for i in range(100)])] == [5.0] * 100


def test_a_running_mean_looks_back_over_a_twentieth_and_leaves_gaps():
    line = [(float(i), float(i)) for i in range(40)]
    assert [y for _, y in smooth(line)] == [0.0, *(i - 0.5 for i in range(1, 40))]
    line[20] = (20.0, math.nan)
    smoothed = [y for _, y in smooth(line)]
    assert math.isnan(smoothed[20])
    assert smoothed[21] == 21.0, "of what is finite"


def test_the_mean_over_seeds_is_where_all_have_a_point():
    assert mean_curve([[(1, 0.0), (2, 4.0)], [(2, 2.0), (3, 9.0)]]) == [(2, 3.0)]


def test_loss_terms_and_their_bins_of_flow_time_are_told_apart():
    keys = ["loss", "loss/text", "loss/flow", "loss/flow/t1", "loss/flow/t0", "lr"]
    assert loss_terms(keys) == ["loss/text", "loss/flow"]
    assert time_bins(keys) == {"loss/flow": ["loss/flow/t0", "loss/flow/t1"]}


def run(**records):
    return RunRecord(Path("x"), "x", 0, {"rows_per_step": 8}, {}, **records)


def test_curves_are_against_samples_and_of_the_seeds_that_have_them():
    has = run(train=[{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}])
    ((first, second),) = seed_curves([has, run()], "loss", lambda one: one.train)
    assert first == (8.0, 2.0)
    assert second[0] == 16.0
    assert math.isnan(second[1])
    assert samples_at(RunRecord(Path("x"), "x", 0, {}), {"step": 3}) == 3.0, "steps, not known"


def test_cosines_are_averaged_by_pair_and_block():
    runs = [run(gradients=[{"step": 1, "cosine/a|b/trunk": c}]) for c in (0.2, 0.4)]
    ((point,),) = cosine_curves([*runs, run()])["a|b"].values()
    assert point == (8.0, pytest.approx(0.3))
