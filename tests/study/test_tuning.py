"""Equal tuning: values drawn alike for every arm, and the best trial."""

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import EXPERIMENTS

from unify.config import load_recipe
from unify.schema.study import Study, Tune, Width
from unify.study.tuning import Trial, best_trial, chosen_overrides, draw_values, save_trials

METRIC = "text_to_image/exact"
SPACE = {
    "optimizer.lr": {"factor": 3},
    "model.time.mean": {"low": -2.0, "high": 0.5},
    "image_sampling.guidance": [1, 1.5, 2.5],
}


def config(name="a", lr=1e-3, guidance=1.5):
    return {"name": name, "optimizer": {"lr": lr}, "image_sampling": {"guidance": guidance}}


def test_values_are_inside_the_space_and_the_same_for_arms_that_share_a_key():
    tune = Tune(METRIC, SPACE, trials=100)
    assert draw_values(tune, config(), 0) == {}
    made = [draw_values(tune, config(), n) for n in range(1, 100)]
    assert set(made[0]) == {"optimizer.lr", "image_sampling.guidance"}, "no time in this arm"
    rates = [values["optimizer.lr"] for values in made]
    assert min(rates) >= 1e-3 / 3.01
    assert max(rates) <= 3.01e-3
    assert 25 < sum(rate < 1e-3 for rate in rates) < 75, "log-uniform around the arm's own"
    assert {values["image_sampling.guidance"] for values in made} == {1, 1.5, 2.5}
    other = [draw_values(tune, config("b", lr=2e-3), n) for n in range(1, 100)]
    for mine, own in zip(made, other, strict=True):
        assert own["optimizer.lr"] == pytest.approx(2 * mine["optimizer.lr"], rel=0.01)
        assert own["image_sampling.guidance"] == mine["image_sampling.guidance"]
    assert made == [draw_values(tune, config(), n) for n in range(1, 100)]
    assert made != [draw_values(Tune(METRIC, SPACE, seed=7), config(), n) for n in range(1, 100)]


def test_logarithmic_and_plain_ranges():
    tune = Tune(METRIC, {"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}, trials=200)
    rates = [draw_values(tune, config(), n)["optimizer.lr"] for n in range(1, 200)]
    assert statistics.median(rates) == pytest.approx(1e-3, rel=0.5)
    tune = Tune(METRIC, {"optimizer.lr": {"low": 1e-4, "high": 1e-2}}, trials=200)
    rates = [draw_values(tune, config(), n)["optimizer.lr"] for n in range(1, 200)]
    assert statistics.median(rates) == pytest.approx(5e-3, rel=0.3)


def test_an_arm_stays_as_it_is_unless_something_is_better():
    def trials(*scores):
        return [Trial({}, score, 1, 1.0, 1.0) for score in scores]

    assert best_trial(trials(0.5, 0.5, None), "higher") == 0
    assert best_trial(trials(None, 0.1, 0.2), "higher") == 2
    assert best_trial(trials(0.5, 0.4, None), "lower") == 1
    with pytest.raises(ValueError, match="every trial failed"):
        best_trial(trials(None, None), "higher")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"space": {}}, "two trials"),
        ({"trials": 1}, "two trials"),
        ({"share": 0}, "share is 0"),
        ({"space": {"a": {"low": 2, "high": 1}}}, "space.a is"),
        ({"space": {"a": {"low": -1, "high": 1, "log": True}}}, "space.a is"),
        ({"space": {"a": {"factor": 1}}}, "space.a is"),
        ({"space": {"a": 3}}, "space.a is"),
        ({"space": {"a": []}}, "space.a is"),
        ({"space": {"a": {"low": "x", "high": 1}}}, "space.a is"),
    ],
)
def test_what_is_no_space_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Tune(**{"metric": METRIC, "space": SPACE, **given})


def test_whole_numbers_stay_whole():
    space = {"image_sampling.steps": {"low": 5, "high": 50}, "x.depth": {"factor": 2}}
    tune, config = (
        Tune(METRIC, space, trials=50),
        {"image_sampling": {"steps": 20}, "x": {"depth": 4}},
    )
    values = [draw_values(tune, {"name": "a", **config}, n) for n in range(1, 50)]
    assert {type(value) for one in values for value in one.values()} == {int}
    assert {one["x.depth"] for one in values} <= set(range(2, 9))
    with pytest.raises(ValueError, match=r"x\.depth: there is no factor around 0"):
        draw_values(tune, {"name": "a", "x": {"depth": 0}}, 1)


@pytest.mark.parametrize("choice", [{"factor": 1.5}, {"low": 1, "high": 1e2}])
def test_a_setting_of_whole_numbers_gets_no_others(choice):
    tune = Tune(METRIC, {"optimizer.warmup": choice}, trials=50)
    arm = {"name": "a", "optimizer": {"warmup": 20}}
    assert {type(draw_values(tune, arm, n)["optimizer.warmup"]) for n in range(1, 50)} == {int}


@given(st.floats(1e-6, 1.0), st.floats(1e-9, 1.0), st.booleans())
@settings(max_examples=200)
def test_values_of_a_narrow_range_are_inside_of_it_and_differ(low, width, log):
    high = low * (1 + width)
    space = {"optimizer.lr": {"low": low, "high": high, "log": log}}
    tried = [draw_values(Tune(METRIC, space), config(), n)["optimizer.lr"] for n in range(1, 8)]
    assert all(low <= value <= high for value in tried)
    assert len({*tried}) > 3


def test_a_tuning_seed_of_the_study_and_a_solved_width_are_refused():
    tune = Tune(METRIC, {"model.trunk.dim": [64]}, seed=3)
    with pytest.raises(ValueError, match=r"tune\.seed 3 is one of the study's seeds"):
        Study("s", {"a": "f"}, seeds=[2, 3], tune=tune)
    with pytest.raises(ValueError, match="not tuned as well"):
        Study("s", {"a": "f"}, widths={"a": Width(parameters=1.0)}, tune=tune)


OWN = """
from pathlib import Path

from unify.data.shapes import Shapes

X = 1


class Own(Shapes):
    def fingerprint(self):
        return Path(__file__).with_name("data.txt").read_text()
"""


def test_tuning_that_was_done_with_other_code_or_data_is_not_taken(tmp_path):
    path, data = tmp_path / "mine.py", tmp_path / "data.txt"
    path.write_text(OWN)
    data.write_text("1")
    words = [f"data.source={{class: '{path}:Own'}}", "evaluation=[]", "name=a"]
    arm = load_recipe(EXPERIMENTS / "transfusion.yaml", [*words, f"machine.runs={tmp_path}"])
    study = Study("s", {"a": "a.yaml"}, tune=Tune(METRIC, SPACE))
    save_trials(tmp_path / "s", study, "a", arm, [Trial({}, 0.5, 1, 1.0, 1.0)], "higher")
    assert "a" in chosen_overrides(study, {"a": arm})
    data.write_text("2")
    assert chosen_overrides(study, {"a": arm}) == {}
    data.write_text("1")
    assert "a" in chosen_overrides(study, {"a": arm})
    other = {**arm, "model": {**arm["model"], "class": f"{tmp_path}/model.py:Mine"}}
    for text in ("X = 1", "X = 2"):
        (tmp_path / "model.py").write_text(text)
        if text == "X = 1":
            save_trials(tmp_path / "s", study, "a", other, [Trial({}, 0.5, 1, 1.0, 1.0)], "higher")
        assert bool(chosen_overrides(study, {"a": other})) == (text == "X = 1")
