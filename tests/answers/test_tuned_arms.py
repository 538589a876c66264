"""Results of equal tuning, read from tuning.json."""

import itertools
import json
from types import SimpleNamespace

import pytest

from unify.answers.tuned_arms import (
    best_of_k,
    mean_best_of_k,
    settings_text,
    tuned_arms,
    untold_choices,
)


def entry(*scores, better="higher"):
    return {"better": better, "trials": [{"score": score} for score in scores]}


def test_only_arms_that_the_study_tunes_have_an_entry(tmp_path):
    (tmp_path / "tuning.json").write_text(json.dumps({"a": entry(1.0), "gone": entry(2.0)}))
    study = SimpleNamespace(folder=tmp_path, info={"tune": {"trials": 1}, "tuned": ["a", "b"]})
    assert tuned_arms(study) == {"a": entry(1.0)}
    assert tuned_arms(SimpleNamespace(folder=tmp_path, info={})) == {}


def test_settings_are_as_a_command_line_takes_them():
    assert settings_text({"optimizer.lr": 0.003, "name": "x"}) == 'optimizer.lr=0.003 name="x"'
    assert settings_text({}) == "as it is"


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_the_best_of_k_is_the_mean_over_all_choices_that_have_the_first_trial(better):
    scores = [0.3, 0.9, 0.1, 0.5]
    best = min if better == "lower" else max
    for k, value in best_of_k(entry(*scores, better=better)):
        choices = [[scores[0], *c] for c in itertools.combinations(scores[1:], int(k) - 1)]
        assert value == pytest.approx(sum(map(best, choices)) / len(choices))


def test_a_failed_trial_counts_as_the_worst():
    assert best_of_k(entry(0.2, None, 0.8)) == best_of_k(entry(0.2, 0.2, 0.8))
    assert best_of_k(entry(0.2, None, 0.8, better="lower")) == best_of_k(
        entry(0.2, 0.8, 0.8, better="lower")
    )


def test_the_curve_of_an_arm_is_the_mean_over_the_seeds_that_have_trials_of_their_own():
    entries = [entry(0.2, 0.8, 0.4), entry(0.0, 0.6, 0.4)]
    each = [[y for _, y in best_of_k(one)] for one in entries]
    assert mean_best_of_k(entries) == [
        (k + 1.0, (a + b) / 2) for k, (a, b) in enumerate(zip(*each, strict=True))
    ]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (entry(0.0, 0.015, None), "all at the floor, at most 0.015"),
        (entry(0.0, 0.03), ""),
        (entry(0.01, 0.02, better="lower"), ""),
        (entry(0.4, 0.4, None), "all 0.4"),
        (entry(0.4, None), ""),
    ],
)
def test_trials_that_leave_nothing_to_choose_by_are_named(one, said):
    one |= {"arm": "a", "seed": 2}
    text = (
        f"a, seed 2: its trials cannot be told apart ({said}), so its values are chosen by nothing."
    )
    assert untold_choices({"a-s2": one}) == ([text] if said else [])
