"""Means of arms: what their intervals are over, and which two lines stand for an arm's sides."""

from dataclasses import replace

import numpy as np
import pytest
from outcome_simulation import OF_SEED, interval, outcomes
from report_study import write_study

from unify.analysis.paired_differences import crossed, paired
from unify.answers.arm_means import (
    BOTH,
    PROMPTS,
    SEEDS,
    arm_mean,
    generation_and_understanding,
)
from unify.answers.score_lines import score_lines
from unify.answers.study_records import load_study

EXACT = "text_to_image/exact"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("runs") / "four", seeds=(0, 1, 2, 3), steps=5)
    return load_study(folder)


def line_of(study, metric=EXACT):
    return next(line for line in score_lines(study.rows) if line.metric == metric)


def test_with_outcomes_it_is_over_seeds_and_prompts(study):
    mean = arm_mean(study, line_of(study), "ar_vq")
    rows = np.stack([run.outcomes[EXACT] for run in study.runs_of("ar_vq")])
    alone = crossed(rows, np.zeros_like(rows)).interval
    assert mean.over == BOTH
    assert mean.interval == (pytest.approx(alone[0]), min(1.0, alone[1]))
    assert mean.estimate == pytest.approx(np.mean(list(mean.by_seed.values())))
    assert list(mean.by_seed) == [0, 1, 2, 3]


def test_without_outcomes_it_is_over_seeds_alone(study):
    mean = arm_mean(study, line_of(study, "caption/exact"), "transfusion")
    values = list(mean.by_seed.values())
    assert mean.over == SEEDS
    assert mean.interval == pytest.approx(paired(values, [0.0] * 4).interval)


def test_few_seeds_say_less(study):
    rows = [row for row in study.rows if row["seed"] == 0]
    one = arm_mean(study, line_of(replace(study, rows=rows)), "ar_vq")
    assert (one.over, one.ends) == (PROMPTS, one.interval)
    rows = [row for row in study.rows if row["seed"] < 2]
    two = arm_mean(study, line_of(replace(study, rows=rows)), "ar_vq")
    assert (two.interval, two.over) == (None, "")
    assert two.ends == (two.estimate, two.estimate)
    assert arm_mean(study, line_of(study), "no such arm") is None


def test_the_slowest_and_fastest_of_some_repeats_are_no_interval(study):
    rows = [{**row, "passport": {"repeats": 3}} for row in study.rows if row["seed"] == 0]
    one = arm_mean(study, line_of(replace(study, rows=rows)), "ar_vq")
    assert (one.interval, one.over) == (None, "")


def test_shares_stay_within_their_bounds(study):
    wide = [{**row, "value": (256, 200, 255, 250)[row["seed"]] / 256} for row in study.rows]
    line = line_of(replace(study, rows=wide), "caption/exact")
    assert arm_mean(study, line, "ar_vq").interval[1] == 1


def test_the_two_sides_are_primary_where_they_can_be(study):
    lines = score_lines(study.rows)

    def sides(*primary, rows=None):
        some = lines if rows is None else score_lines(rows)
        info = {**study.info, "primary": list(primary)}
        found = generation_and_understanding(replace(study, info=info), some)
        return None if found is None else tuple(line.metric for line in found)

    heldout = "text_to_image/exact/heldout"
    assert sides() == (EXACT, "vqa/accuracy")
    assert sides(heldout, "caption/exact") == (heldout, "caption/exact")
    assert sides("text/perplexity", EXACT) == (EXACT, "vqa/accuracy")
    drawing_alone = [row for row in study.rows if row["metric"].startswith("text_to_image/")]
    assert sides(rows=drawing_alone) is None


@pytest.mark.parametrize("rate", [0.3, 0.98])
def test_its_interval_holds_the_mean_of_the_arm(rate):
    """Seeds that differ, and prompts that are not alike: 400 arms whose true mean is known."""
    rows = outcomes(np.random.default_rng(5), 400, (rate,), 5, 64, OF_SEED)[:, 0]
    mean, half, refused = interval(rows)
    assert np.mean((np.abs(mean - rate) <= half) | refused) > 0.91
