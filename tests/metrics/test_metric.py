"""What every score has: a value of something, an interval over prompts, and no empty split."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unify.data.shapes import Shapes
from unify.data.source import Record
from unify.metrics.metric import Score, average, conditions, first_records, proportion
from unify.runs.stored_scores import read_scores, write_scores


class Small(Shapes):
    """A world with few records of a split."""

    def __init__(self, **sizes):
        super().__init__()
        self.sizes = sizes

    def size(self, task, split):
        return self.sizes.get(split, 0)


@pytest.mark.parametrize("split", ["train", "validation", "test", "heldout"])
def test_an_empty_split_is_refused_in_words(split):
    with pytest.raises(ValueError, match=rf"the {split} split of Small has no record of caption"):
        first_records(Small(), "caption", split, 4)


def test_the_message_says_where_there_are_some_and_what_to_do():
    with pytest.raises(ValueError) as error:
        first_records(Small(train=1200, validation=3), "image", "test", 4)
    assert "(train 1,200, validation 3, test 0)" in str(error.value)
    assert "`data.source.test`), or score another (`split: train`)" in str(error.value)


def test_no_more_records_are_read_than_there_are_and_none_asked_for_is_refused():
    assert len(first_records(Small(test=3), "image", "test", 9)) == 3
    with pytest.raises(ValueError, match="ask for 1 at least"):
        first_records(Small(test=3), "image", "test", 0)


@pytest.mark.parametrize("make", [proportion, average])
def test_no_trial_is_no_score(make):
    with pytest.raises(ValueError, match="x/y: there is no trial to score"):
        make("x/y", [])


@pytest.mark.parametrize("trial", [math.nan, 0.2, -1, 2, math.inf])
def test_a_share_is_of_hits_alone(trial):
    with pytest.raises(ValueError, match=r"x/y: a trial of a share is a hit or none.*1 of 3"):
        proportion("x/y", [True, trial, 0])
    assert proportion("x/y", [True, 0.0, np.bool_(True), 1]).value == 0.75


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_an_average_of_what_is_not_finite_is_none_and_the_other_scores_are_kept(tmp_path, value):
    score = average("x/psnr", [30.0, value, 25.0, 3.0, -value], prompts=[0, 1, 2, 2, 0])
    assert not math.isfinite(score.value)
    assert (score.low, score.high) == (None, None)
    rows = [s.row() for s in (average("x/psnr", [30.0, value]), average("x/other", [0.5, 1.5]))]
    trials = {"x/psnr": np.array([30.0, value]), "x/other": np.array([0.5, 1.5])}
    write_scores(tmp_path, "asked", True, rows, trials)
    assert [row["value"] for row in read_scores(tmp_path).rows] == [None, 1.0]


def test_repeats_of_a_prompt_are_counted_and_widen_the_interval():
    hits, texts = [True] * 200 + [False] * 56, [f"prompt {i % 40}" for i in range(256)]
    alone, repeated = proportion("x/y", hits), proportion("x/y", hits, prompts=texts)
    assert alone.row()["distinct"] is None
    assert repeated.row()["distinct"] == 40
    assert repeated.n == alone.n == 256
    assert repeated.low < alone.low < alone.high < repeated.high
    assert repeated.prompts[:3] == [0, 1, 2]
    assert repeated.prompts[40:43] == [0, 1, 2]


def test_an_average_stays_within_the_bounds_of_its_quantity():
    free = average("x/y", [1, 1, 1, 0.2])
    assert (free.low, free.high) == (pytest.approx(0.16, abs=0.01), pytest.approx(1.44, abs=0.01))
    assert average("x/y", [1, 1, 1, 0.2], bounds=(0, 1)).high == 1


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    st.integers(1, 5),
    st.sampled_from(["higher", "lower", None]),
)
def test_rows_say_what_is_better_and_what_n_counts(values, prompts, better):
    asked = [i % prompts for i in range(len(values))]
    score = average("a/b", values, better=better, unit="images", prompts=asked, bounds=(0, 1))
    row = json.loads(json.dumps(score.row(), allow_nan=False))
    assert (row["better"], row["unit"], row["n"]) == (better, "images", len(values))
    assert row["distinct"] == min(prompts, len(values))
    assert math.isclose(row["value"], sum(values) / len(values), abs_tol=1e-9)
    if row["low"] is not None:
        assert 0 <= row["low"] <= row["value"] + 1e-9
        assert row["value"] - 1e-9 <= row["high"] <= 1


def test_a_score_says_neither_unless_its_metric_does():
    assert Score("a/b", 1.0, 1).better is None
    assert Score("a/b", 1.0, 1).unit == "trials"


def test_conditions_are_what_a_model_is_given():
    world = Shapes()
    records = first_records(world, "vqa", "test", 40)
    asked = conditions(world, "vqa", records)
    assert len(set(asked)) > 30
    again = Record("another key", dict(records[0].fields, answer="another"))
    assert conditions(world, "vqa", [again]) == asked[:1]
    assert len(set(conditions(world, "image", first_records(world, "image", "test", 9)))) > 1


@pytest.mark.parametrize("stated", ["max", "Higher", True, ""])
def test_a_misspelt_direction_is_refused(stated):
    with pytest.raises(ValueError, match=r"mine/skill: `better` is .*; say 'higher'"):
        average("mine/skill", [0.5, 0.7], better=stated)
