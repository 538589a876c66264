"""Scoring a run: what is kept of it."""

import json

import numpy as np
import pytest
from parts import SHIPPED, recipe_of

from unify.assembly.assemble import assemble
from unify.config import load_recipe
from unify.evaluation.score_run import (
    check_preview,
    check_told_apart,
    evaluate,
    measure,
    outcomes_of,
    subject_of,
)
from unify.metrics.metric import average, proportion
from unify.runs.folder import Run
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


THRESHOLD = """
from unify.metrics.metric import Metric, average

class Within(Metric):
    tasks = frozenset({"text_to_image"})

    def __init__(self, threshold: float = 0.5):
        self.threshold = threshold

    def measure(self, subject):
        return [average("text_to_image/within", [self.threshold], {})], []
"""


def test_the_passport_of_a_metric_of_ones_own_states_its_arguments(tmp_path):
    (tmp_path / "own.py").write_text(THRESHOLD)
    nodes = [{"class": f"{tmp_path}/own.py:Within", "threshold": each} for each in (0.5, 0.9)]
    words = [f"evaluation={json.dumps(nodes)}"]
    recipe = assemble(load_recipe(SHIPPED / "transfusion.yaml", words, tiny=True), {})
    scores, _ = measure(recipe, {"seed": 0, "weights": "aa"}, recipe.evaluation)
    assert [score.passport["arguments"] for score in scores] == [
        {"threshold": 0.5}, {"threshold": 0.9}
    ]  # fmt: skip


def test_a_run_is_not_scored_on_other_data_than_it_was_trained_on(tmp_path):
    config = load_recipe(SHIPPED / "transfusion.yaml", ["evaluation=[]"], tiny=True)
    run = Run(tmp_path)
    run.update(source="aa", state="finished")
    with pytest.raises(ValueError, match=r"was trained on data whose fingerprint is aa, and its"):
        evaluate(run, assemble(config, {}), config)
