"""The trials of a study: which runs they are, and a tuned study from end to end."""

import json
from types import SimpleNamespace

import pytest
from places import EXPERIMENTS

from unify.answers.study_records import load_study
from unify.config import ConfigError
from unify.report.page import render
from unify.runs.lookup import needed_configs
from unify.runs.study_files import read_tuning
from unify.study import run_job
from unify.study.arms import resolve_arms, resolve_jobs
from unify.study.jobs import StudyRequest
from unify.study.plan import plan
from unify.study.plan_table import lines
from unify.study.run_study import run_study
from unify.study.tuning import Trial, before_trials, save_trials
from unify.study.tuning_trials import plan_trials, tuned_arms

METRIC = "text_to_image/exact"


SPACE = {
    "optimizer.lr": {"factor": 3},
    "model.time.mean": {"low": -2.0, "high": 0.5},
    "image_sampling.guidance": [1, 1.5, 2.5],
}


def test_trials_are_as_long_as_the_budget_says_and_scored_on_validation(study):
    path = study(
        tune={"metric": METRIC, "trials": 3, "share": 0.25, "space": SPACE},
        budget={"steps": 8},
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


def test_held_out_pairs_and_sealed_prompts_are_kept_for_the_test(study):
    images = {"class": "unify.metrics.shapes_images.TextToImage", "prompts": 4, "sealed": "a.md"}
    path = study(tune={"metric": METRIC, "space": SPACE}, set={"evaluation": [images]})
    for jobs in plan_trials(StudyRequest(path, tiny=True)).jobs.values():
        for job in jobs:
            (metric,) = job.config["evaluation"]
            assert (metric["heldout"], metric["sealed"]) == (0, None)
    speed = {"class": "unify.metrics.speed.Speed"}
    rate = {"metric": "generate/images_per_s", "space": SPACE}
    path = study(tune=rate, set={"evaluation": [speed]})
    with pytest.raises(
        ValueError, match=r"ar_vq,trial=0 has no metric that is measured on a split"
    ):
        plan_trials(StudyRequest(path, tiny=True))


def test_what_is_to_be_the_same_has_the_values_of_the_other(study, tmp_path):
    file = str(EXPERIMENTS / "transfusion.yaml")
    arms = {"one": file, "again": {"base": file, "seeds": {"init": 50}}}
    controls = [{"arm": "again", "expect": "same", "than": "one"}]
    printed = {"metric": METRIC, "trials": 2, "space": {"optimizer.lr": {"factor": 3}}}
    path = study(tune=printed, arms=arms, controls=controls)
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
    save_trials(tmp_path / "s", trials.study, "one", trials.arms["one"], made, "higher")
    assert not trials.missing({"one", "again"})
    tuned = resolve_arms(StudyRequest(path, words, tiny=True))[1]
    value = trials.values["one"][1]["optimizer.lr"]
    assert tuned["one"]["optimizer"]["lr"] == tuned["again"]["optimizer"]["lr"] == value != 3e-3


def test_each_seed_of_whole_pipelines_has_trials_of_its_own(study, tmp_path):
    file = str(EXPERIMENTS / "transfusion.yaml")
    arms = {"one": file, "again": {"base": file, "seeds": {"init": 50}}}
    controls = [{"arm": "again", "expect": "same", "than": "one"}]
    tune = {"metric": METRIC, "trials": 2, "space": {"optimizer.lr": {"factor": 3}}}
    path = study(tune=tune, arms=arms, controls=controls, seeds=[0, 3], replicate="all")
    request = StudyRequest(path, [f"machine.runs={tmp_path}"])
    trials = plan_trials(request)
    assert {key: [job.name for job in jobs] for key, jobs in trials.missing({"again"}).items()} == {
        f"again-s{seed}": [f"again,trial={n} seed {1000 + seed}" for n in (0, 1)] for seed in (0, 3)
    }, "a second draw of an arm is one of its tuning, too"
    (_, trial) = trials.jobs["again-s3"]
    assert trial.config["seeds"] == {"init": 1053, "data": 1003, "noise": 1003}
    needed = needed_configs(trial.config).values()
    assert all(part["seeds"] == {"init": 53, "data": 3, "noise": 3} for part in needed)
    drawn = {key: values[1]["optimizer.lr"] for key, values in trials.values.items()}
    assert len({*drawn.values()}) == 4
    shared = plan_trials(StudyRequest(path, [*request.overrides, "replicate=arm"]))
    assert drawn["one-s0"] == shared.values["one"][1]["optimizer.lr"]
    assert {job.config["needed_seeds"] is None for job in shared.jobs["one"]} == {True}

    made = [Trial(values, n, 2, 1.0, 1.0) for n, values in enumerate(trials.values["one-s3"])]
    key, resolved = "one-s3", resolve_arms(request, {})
    own = before_trials(trials.study, trials.arms["one"], 3)
    save_trials(tmp_path / "s", trials.study, key, own, made, "higher")
    assert tuned_arms(request) == {key}
    assert set(trials.missing({"one"})) == {"one-s0"}
    rates = {(j.arm, j.seed): j.config["optimizer"]["lr"] for j in resolve_jobs(request, *resolved)}
    assert rates == {
        ("one", 3): drawn[key],
        ("one", 0): 3e-3,
        ("again", 0): 3e-3,
        ("again", 3): 3e-3,
    }
    (only,) = (job for job in resolve_jobs(request, *resolved, seed=3) if job.arm == "one")
    assert only.config["optimizer"]["lr"] == drawn[key]


def test_a_process_runs_the_trial_of_its_seed_alone(study, tmp_path, monkeypatch):
    tune = {"metric": METRIC, "trials": 2, "space": {"optimizer.lr": {"factor": 3}}}
    path = study(("transfusion",), tune=tune, seeds=[0, 3], replicate="all")
    request = StudyRequest(path, [f"machine.runs={tmp_path}"], tiny=True)
    trained = []
    monkeypatch.setattr(run_job, "train", lambda config, *_, **__: trained.append(config))
    monkeypatch.setattr(run_job, "finished_or_stopped", lambda _: SimpleNamespace(folder="x"))
    for name in ("score", "ship_scores"):
        monkeypatch.setattr(run_job, name, lambda *_, **__: None)
    assert run_job.run_arm(request, "transfusion,trial=1", 1003, lambda _: None, untimed=True) == 0
    (job,) = (j for j in plan_trials(request).jobs["transfusion-s3"] if "trial=1" in j.arm)
    assert trained == [job.config]
    with pytest.raises(ValueError, match="has no arm 'transfusion,trial=1' with seed 7"):
        run_job.run_arm(request, "transfusion,trial=1", 7, lambda _: None, untimed=True)


def test_the_best_trial_is_that_of_the_direction_which_the_scores_state(study, tmp_path):
    printed = {"metric": METRIC, "trials": 2, "space": {"optimizer.lr": {"factor": 3}}}
    request = StudyRequest(study(tune=printed), [f"machine.runs={tmp_path}"], tiny=True)
    trials = plan_trials(request)

    def scored(better):
        return [[{"metric": METRIC, "value": v, "better": better}] for v in (0.5, 0.25)]

    for better, best in (("lower", 1), ("higher", 0)):
        trials.save("transfusion", scored(better))
        assert read_tuning(tmp_path / "s")["transfusion"]["best"] == best
    for refuse in (
        lambda: trials.save("transfusion", scored(None)),
        lambda: trials.check(scored(None)[0]),
    ):
        with pytest.raises(ValueError, match=f"{METRIC} states no direction"):
            refuse()


def test_a_score_may_be_the_mean_of_the_outcomes_that_an_arm_has(study, tmp_path):
    other = "vqa/accuracy"
    printed = {"metric": [METRIC, other], "trials": 2, "space": {"optimizer.lr": {"factor": 3}}}
    request = StudyRequest(study(tune=printed), [f"machine.runs={tmp_path}"], tiny=True)
    trials = plan_trials(request)

    def saved(*rows):
        trials.save("transfusion", [[scored(*of) for of in each] for each in rows])
        entry = read_tuning(tmp_path / "s")["transfusion"]
        return entry["best"], [trial["score"] for trial in entry["trials"]], entry["metric"]

    def scored(metric, value, better="higher"):
        return {"metric": metric, "value": value, "better": better}

    both = [[(METRIC, 0.5), (other, 0.1)], [(METRIC, 0.4), (other, 0.4), ("x/y", 9.0)]]
    assert saved(*both) == (1, [0.3, 0.4], f"mean of {METRIC} and {other}")
    assert saved(*([row] for row, *_ in both))[:2] == (0, [0.5, 0.4]), "it answers no question"
    assert saved(both[0], [(METRIC, 0.4), (other, None)])[:2] == (0, [0.3, None]), "not finite"
    with pytest.raises(ValueError, match=f"{METRIC} and {other} is not scored on validation"):
        trials.check([scored("x/y", 1.0)])
    with pytest.raises(ValueError, match=f"of {METRIC} higher, of {other} lower is better"):
        trials.check([scored(METRIC, 1.0), scored(other, 1.0, "lower")])
    printed["metric"] = [METRIC, "vqa/accurate"]
    with pytest.raises(ConfigError, match=r"tune\.metric\.1: no arm measures 'vqa/accurate'"):
        plan_trials(StudyRequest(study(tune=printed), tiny=True))


def test_scores_that_cannot_be_tuned_by_end_an_arm_after_its_first_trial(
    study, tmp_path, monkeypatch
):
    printed = {"metric": METRIC, "trials": 5, "space": {"optimizer.lr": {"factor": 3}}}
    request = StudyRequest(study(tune=printed), [f"machine.runs={tmp_path}"], tiny=True)
    scored, done = [{"metric": "x/z", "value": 1.0}], []
    monkeypatch.setattr(
        "unify.study.run_study.finish_job", lambda job, say: done.append(job) or scored
    )
    failed = run_study(request, lambda text: None).failed
    assert f"{METRIC} is not scored on validation; there are x/z" in failed["transfusion, tuning"]
    assert [job.arm for job in done].count("transfusion,trial=0") == 1
    assert not any("trial=1" in job.arm for job in done)


def test_a_key_that_no_arm_has_is_named(study):
    printed = {"metric": METRIC, "space": {**SPACE, "model.trunk.deph": [1]}}
    with pytest.raises(ValueError, match=r"tune\.space\.model\.trunk\.deph: no arm has it"):
        plan_trials(StudyRequest(study(tune=printed), tiny=True))


@pytest.mark.slow
def test_a_study_is_tuned_and_then_trained_at_the_best(study, tmp_path):
    images = {"class": "unify.metrics.shapes_images.TextToImage", "geneval": 0, "heldout": 0}
    scores = {"evaluation": [{**images, "prompts": 4}]}
    space = {"optimizer.lr": [0.02, 0.01], "image_sampling.guidance": [1.25]}
    tune = {"metric": "text_to_image/unreadable", "trials": 2, "space": space, "defaults": True}
    path = study(tune=tune, set=scores, primary=[METRIC])
    printed = [f"machine.runs={tmp_path / 'runs'}", "machine.tracker=none"]
    made = run_study(StudyRequest(path, printed, tiny=True, only="trans*"), lambda text: None)
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
    run_study(StudyRequest(path, printed, tiny=True, only="trans*"), lambda text: None)
    runs = {run.arm: run for run in load_study(made.folder).runs}
    assert runs["transfusion"].config["optimizer"]["lr"] in (0.02, 0.01)
    assert runs["transfusion"].config["image_sampling"]["guidance"] == 1.25
    assert runs["transfusion,default"].config["optimizer"]["lr"] == 3e-3
    page = render(load_study(made.folder))
    assert "best of k trials" in page
    assert "Every trial" in page
    again: list[str] = []
    run_study(StudyRequest(path, printed, tiny=True, only="trans*"), again.append)
    assert not any("trial=" in line for line in again), "tuned once"
    changed = [*printed, "tune.metric=text_to_image/exact/nine_objects"]
    failed = run_study(
        StudyRequest(path, changed, tiny=True, only="trans*"), lambda text: None
    ).failed
    assert "nine_objects is not scored on validation" in failed["transfusion, tuning"]
    untuned = run_study(
        StudyRequest(path, [*printed, "tune=null"], tiny=True, only="trans*"), lambda text: None
    )
    assert "best of k trials" not in render(load_study(untuned.folder))


@pytest.mark.drill
def test_trials_at_once_are_those_of_one_after_the_other(study, tmp_path):
    images = {"class": "unify.metrics.shapes_images.TextToImage", "geneval": 0, "heldout": 0}
    tune = {"metric": METRIC, "trials": 2, "space": {"optimizer.lr": {"factor": 2}}}
    path = study(tune=tune, set={"evaluation": [{**images, "prompts": 4}]})
    tables = []
    for jobs in (1, 2):
        runs = tmp_path / f"runs{jobs}"
        printed = [f"machine.runs={runs}", "machine.tracker=none", "machine.threads=1"]
        made = run_study(StudyRequest(path, printed, tiny=True, at_once=jobs), lambda text: None)
        assert not made.failed
        known = json.loads((made.folder / "tuning.json").read_text())
        tables.append(
            {arm: [(t["values"], t["score"]) for t in e["trials"]] for arm, e in known.items()}
        )
    assert tables[0] == tables[1]
