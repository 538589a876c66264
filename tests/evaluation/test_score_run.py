"""Scoring a run: what is kept of it."""

import numpy as np
import pytest
from parts import SHIPPED, recipe_of

from unify.evaluation.score_run import (
    check_preview,
    check_told_apart,
    outcomes_of,
    subject_of,
)
from unify.metrics.metric import average, proportion
from unify.runs.stored_scores import pack_outcomes


def test_the_distinct_prompt_of_each_trial_is_kept_beside_its_outcome(tmp_path):
    asked = ["a circle", "a square", "a circle"]
    kept = [proportion("a/b", [True, False, True], prompts=asked), average("c", [0.5, 2.0])]
    (tmp_path / "outcomes.npz").write_bytes(pack_outcomes(outcomes_of(kept)))
    with np.load(tmp_path / "outcomes.npz") as stored:
        assert set(stored.files) == {"a/b", "c", "prompts/a/b"}
        assert stored["prompts/a/b"].dtype == np.int64
        assert stored["prompts/a/b"].tolist() == [0, 1, 0]
    assert "prompts" not in kept[0].row()


def test_a_preview_of_an_empty_validation_split_is_refused_before_training():
    made = subject_of(recipe_of(SHIPPED / "transfusion.yaml"), 0)
    made.source.size = lambda task, split: 0 if split == "validation" else 9
    with pytest.raises(ValueError, match=r"logging.samples_every: the validation split .* 0 draws"):
        check_preview(made)


def test_outcomes_are_kept_trial_by_trial(tmp_path):
    kept = [proportion("a/b", [True, False, True]), average("c", [0.5, 2.0])]
    (tmp_path / "outcomes.npz").write_bytes(pack_outcomes(outcomes_of(kept)))
    with np.load(tmp_path / "outcomes.npz") as stored:
        assert stored["a/b"].tolist() == [1, 0, 1]
        assert stored["c"].tolist() == [0.5, 2]
    assert "outcomes" not in kept[0].row()


def test_scores_of_one_name_keep_their_trials_and_are_told_apart_by_their_passports():
    made = [average("c", [0.5, 2.0], {"split": "test"}), average("c", [7.0], {"split": "other"})]
    assert [outcomes_of(made)[name].tolist() for name in ("c", "c 2")] == [[0.5, 2], [7]]
    check_told_apart(made)
    check_told_apart([made[0], made[0]])
    made[1].passport = {"split": "test"}
    with pytest.raises(ValueError, match=r"c is measured twice, as 1\.25 and as 7\.0"):
        check_told_apart(made)
