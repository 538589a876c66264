"""Equal tuning: the same trials for every arm, the expected best of k, a study from end to end."""

import itertools
import json
import statistics

import pytest
import yaml
from places import EXPERIMENTS

from unify.analysis.best_of_trials import best_of
from unify.report.page import render
from unify.report.study_records import load_study
from unify.schema.study import Study, Tune, Width
from unify.study.arms import resolve_arms
from unify.study.jobs import StudyRequest
from unify.study.plan import plan
from unify.study.plan_table import lines
from unify.study.run_study import run_study
from unify.study.tuning import Trial, best_trial, draw_values, save_trials
from unify.study.tuning_trials import plan_trials

METRIC = "text_to_image/exact"
SPACE = {
    "optimizer.lr": {"factor": 3},
    "model.time.mean": {"low": -2.0, "high": 0.5},
    "image_sampling.guidance": [1, 1.5, 2.5],
}


@pytest.fixture
def study(tmp_path):
    def write(tune, **more):
        arms = {name: str(EXPERIMENTS / f"{name}.yaml") for name in ("ar_vq", "transfusion")}
        path = tmp_path / "study.yaml"
        said = {"name": "s", "arms": arms, "primary": [METRIC], "tune": tune, **more}
        path.write_text(yaml.safe_dump(said, sort_keys=False))
        return str(path)

    return write


@pytest.mark.parametrize("lower", [False, True])
def test_best_of_k_is_the_mean_over_all_choices(lower):
    scores, top = [0.4, 0.9, 0.1, 0.5, 0.5, 0.7], min if lower else max
    for k in range(1, len(scores) + 1):
        choices = itertools.combinations(scores[1:], k - 1)
        expected = statistics.mean(top([scores[0], *some]) for some in choices)
        assert best_of(scores, k, lower) == pytest.approx(expected)
    with pytest.raises(ValueError, match="best of 7 out of 6"):
        best_of(scores, 7)


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
    for mine, its in zip(made, other, strict=True):
        assert its["optimizer.lr"] == pytest.approx(2 * mine["optimizer.lr"], rel=0.01)
        assert its["image_sampling.guidance"] == mine["image_sampling.guidance"]
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

    tune = Tune(METRIC, SPACE)
    assert best_trial(tune, trials(0.5, 0.5, None)) == 0
    assert best_trial(tune, trials(None, 0.1, 0.2)) == 2
    assert best_trial(Tune(METRIC, SPACE, lower=True), trials(0.5, 0.4, None)) == 1
    with pytest.raises(ValueError, match="every trial failed"):
        best_trial(tune, trials(None, None))


@pytest.mark.parametrize(
    ("said", "message"),
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
def test_what_is_no_space_is_refused(said, message):
    with pytest.raises(ValueError, match=message):
        Tune(**{"metric": METRIC, "space": SPACE, **said})


def test_trials_are_as_long_as_the_budget_says_and_scored_on_validation(study):
    path = study(
        {"metric": METRIC, "trials": 3, "share": 0.25, "space": SPACE}, budget={"steps": 8}
    )
    trials = plan_trials(StudyRequest(path, tiny=True))
    configs = {job.arm: job.config for jobs in trials.jobs.values() for job in jobs}
    assert len(configs) == 6
    assert {c["steps"] for c in configs.values()} == {2}
    assert {c["seeds"]["init"] for c in configs.values()} == {1000}
    for one in configs.values():
        assert one["study"] == "s-tuning"
        assert one["evaluation"]
        assert {m["split"] for m in one["evaluation"]} == {"validation"}
    first, third = (configs[f"transfusion,trial={n}"] for n in (0, 2))
    assert first["optimizer"]["lr"] == 3e-3
    assert third["model"]["time"]["mean"] == trials.values["transfusion"][2]["model.time.mean"]
    assert "FLOPs, tuning" in "\n".join(lines(plan(StudyRequest(path, tiny=True))))


def test_held_out_pairs_are_kept_for_the_test(study):
    images = {"class": "unify.metrics.shapes_images.TextToImage", "prompts": 4}
    path = study({"metric": METRIC, "space": SPACE}, set={"evaluation": [images]})
    for jobs in plan_trials(StudyRequest(path, tiny=True)).jobs.values():
        for job in jobs:
            assert [metric["heldout"] for metric in job.config["evaluation"]] == [0]
    speed = {"class": "unify.metrics.speed.Speed"}
    path = study({"metric": METRIC, "space": SPACE}, set={"evaluation": [speed]})
    with pytest.raises(
        ValueError, match=r"ar_vq,trial=0 has no metric that is measured on a split"
    ):
        plan_trials(StudyRequest(path, tiny=True))


def test_what_is_to_be_the_same_has_the_values_of_the_other(study, tmp_path):
    file = str(EXPERIMENTS / "transfusion.yaml")
    arms = {"one": file, "again": {"base": file, "seeds": {"init": 50}}}
    controls = [{"arm": "again", "expect": "same", "than": "one"}]
    said = {"metric": METRIC, "trials": 2, "space": {"optimizer.lr": {"factor": 3}}}
    path = study(said, arms=arms, controls=controls)
    words = [f"machine.runs={tmp_path}"]
    trials = plan_trials(StudyRequest(path, words, tiny=True))
    missing = trials.missing({"one", "again"})
    assert {arm: [job.name for job in jobs] for arm, jobs in missing.items()} == {
        "one": ["one,trial=0 seed 1000", "one,trial=1 seed 1000"]
    }
    made = [
        Trial(values, score, 2, 1.0, 1.0)
        for values, score in zip(trials.values["one"], (0, 1), strict=True)
    ]
    save_trials(tmp_path / "s", trials.study, "one", trials.arms["one"], made)
    assert not trials.missing({"one", "again"})
    tuned = resolve_arms(StudyRequest(path, words, tiny=True))[1]
    value = trials.values["one"][1]["optimizer.lr"]
    assert tuned["one"]["optimizer"]["lr"] == tuned["again"]["optimizer"]["lr"] == value != 3e-3


def test_arms_as_they_are_keep_their_budgets(study):
    said = {"metric": METRIC, "trials": 2, "space": {"optimizer.lr": {"factor": 3}}}
    grid = {"budget.steps": [4, 8]}
    _, arms = resolve_arms(StudyRequest(study({**said, "defaults": True}, grid=grid), tiny=True))
    assert len(arms) == 8
    for name, config in arms.items():
        assert config["steps"] == (4 if "steps=4" in name else 8), name


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


def test_a_tuning_seed_of_the_study_and_a_solved_width_are_refused():
    tune = Tune(METRIC, {"model.trunk.dim": [64]}, seed=3)
    with pytest.raises(ValueError, match=r"tune\.seed 3 is one of the study's seeds"):
        Study("s", {"a": "f"}, seeds=[2, 3], tune=tune)
    with pytest.raises(ValueError, match="not tuned as well"):
        Study("s", {"a": "f"}, widths={"a": Width(parameters=1.0)}, tune=tune)


def test_a_key_that_no_arm_has_is_named(study):
    said = {"metric": METRIC, "space": {**SPACE, "model.trunk.deph": [1]}}
    with pytest.raises(ValueError, match=r"no arm has model\.trunk\.deph"):
        plan_trials(StudyRequest(study(said), tiny=True))


def test_a_study_is_tuned_and_then_trained_at_the_best(study, tmp_path):
    images = {"class": "unify.metrics.shapes_images.TextToImage", "geneval": 0, "heldout": 0}
    scores = {"evaluation": [{**images, "prompts": 4}]}
    space = {"optimizer.lr": [0.02, 0.01], "image_sampling.guidance": [1.25]}
    tune = {"metric": "text_to_image/unreadable", "trials": 2, "space": space, "defaults": True}
    path = study(tune, set=scores)
    said = [f"machine.runs={tmp_path / 'runs'}", "machine.tracker=none"]
    made = run_study(StudyRequest(path, said, tiny=True, only="trans*"), lambda text: None)
    assert not made.failed
    entry = json.loads((made.folder / "tuning.json").read_text())["transfusion"]
    assert [len(trial["values"]) for trial in entry["trials"]] == [0, 2]
    assert all(trial["flops"] > 0 for trial in entry["trials"])
    values = entry["trials"][entry["best"]]["values"]
    runs = {run.arm: run for run in load_study(made.folder).runs}
    assert set(runs) == {"transfusion", "transfusion,default"}
    assert runs["transfusion,default"].config["optimizer"]["lr"] == 3e-3
    assert runs["transfusion"].config["optimizer"]["lr"] == values.get("optimizer.lr", 3e-3)
    stored = json.loads((made.folder / "tuning.json").read_text())
    stored["transfusion"]["best"] = 1  # whichever won, the values of this one
    (made.folder / "tuning.json").write_text(json.dumps(stored))
    run_study(StudyRequest(path, said, tiny=True, only="trans*"), lambda text: None)
    runs = {run.arm: run for run in load_study(made.folder).runs}
    assert runs["transfusion"].config["optimizer"]["lr"] in (0.02, 0.01)
    assert runs["transfusion"].config["image_sampling"]["guidance"] == 1.25
    assert runs["transfusion,default"].config["optimizer"]["lr"] == 3e-3
    page = render(load_study(made.folder))
    assert "best of k trials" in page
    assert "Every trial" in page
    again: list[str] = []
    run_study(StudyRequest(path, said, tiny=True, only="trans*"), again.append)
    assert not any("trial=" in line for line in again), "tuned once"
    changed = [*said, "tune.metric=text_to_image/exac"]
    failed = run_study(
        StudyRequest(path, changed, tiny=True, only="trans*"), lambda text: None
    ).failed
    assert "text_to_image/exac is not scored on validation" in failed["transfusion, tuning"]
    untuned = run_study(
        StudyRequest(path, [*said, "tune=null"], tiny=True, only="trans*"), lambda text: None
    )
    assert "best of k trials" not in render(load_study(untuned.folder))


@pytest.mark.slow
def test_trials_at_once_are_those_of_one_after_the_other(study, tmp_path):
    images = {"class": "unify.metrics.shapes_images.TextToImage", "geneval": 0, "heldout": 0}
    tune = {"metric": METRIC, "trials": 2, "space": {"optimizer.lr": {"factor": 2}}}
    path = study(tune, set={"evaluation": [{**images, "prompts": 4}]})
    tables = []
    for jobs in (1, 2):
        runs = tmp_path / f"runs{jobs}"
        said = [f"machine.runs={runs}", "machine.tracker=none", "machine.threads=1"]
        made = run_study(StudyRequest(path, said, tiny=True, at_once=jobs), lambda text: None)
        assert not made.failed
        known = json.loads((made.folder / "tuning.json").read_text())
        tables.append(
            {arm: [(t["values"], t["score"]) for t in e["trials"]] for arm, e in known.items()}
        )
    assert tables[0] == tables[1]
