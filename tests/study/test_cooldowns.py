"""One run, several budgets: the trunks of a study's arms, who trains them, and what is planned."""

import pytest

from unify.cluster.missing_jobs import missing_jobs
from unify.study.arms import resolve_arms, resolve_jobs
from unify.study.cooldowns import one_of_each_trunk, trained_by_others
from unify.study.jobs import StudyRequest
from unify.study.plan import plan
from unify.study.plan_table import as_data, lines
from unify.study.tuning_trials import plan_trials
from unify.training.trunk import trunk_of

BUDGETS = {"grid": {"budget.steps": [10, 20, 40]}, "cooldowns": {"share": 0.2}}


def request_of(path, tmp_path):
    return StudyRequest(path, [f"machine.runs={tmp_path / 'runs'}"], tiny=True)


def test_budgets_of_an_arm_cool_down_from_one_trunk_a_seed(study, tmp_path):
    request = request_of(study(seeds=[0, 1], **BUDGETS), tmp_path)
    resolved, arms = resolve_arms(request)
    starts = {arm: config["cooldown"]["start"] for arm, config in arms.items()}
    assert starts["ar_vq,steps=10"] == 8
    assert starts["ar_vq,steps=40"] == 32
    assert {config["optimizer"]["schedule"] for config in arms.values()} == {"constant"}
    jobs = resolve_jobs(request, resolved, arms)
    trunks = {(job.arm.partition(",")[0], job.seed): trunk_of(job.config) for job in jobs}
    assert {t["name"] for t in trunks.values()} == {"ar_vq,trunk", "transfusion,trunk"}
    assert all(t["steps"] == 32 for t in trunks.values())
    assert all(t["logging"]["keep_steps"] == [8, 16, 32] for t in trunks.values())
    assert {t["seeds"]["init"] for t in trunks.values()} == {0, 1}
    first = one_of_each_trunk(jobs)
    assert [(job.arm, job.seed) for job in first] == [
        (f"{arm},steps=10", seed) for seed in (0, 1) for arm in ("ar_vq", "transfusion")
    ]


def test_a_run_waits_for_that_which_trains_its_trunk_and_for_no_other(study, tmp_path):
    request = request_of(study(seeds=[0, 1], **BUDGETS), tmp_path)
    jobs = resolve_jobs(request, *resolve_arms(request))
    after = trained_by_others(jobs)
    first = {job.name for job in one_of_each_trunk(jobs)}
    assert after.keys() == {job.name for job in jobs} - first
    for name, trainer in after.items():
        assert trainer in first
        parts = [(n.partition(",")[0], n.rpartition(" seed ")[2]) for n in (trainer, name)]
        assert parts[0] == parts[1], "of its own arm and seed"


def test_of_arms_that_train_alike_the_later_ones_wait_for_the_first(study, tmp_path):
    path = study(("transfusion",), seeds=[0, 1], grid={"image_sampling.guidance": [1.0, 2.0, 3.0]})
    request = request_of(path, tmp_path)
    after = trained_by_others(resolve_jobs(request, *resolve_arms(request)))
    name = "transfusion,guidance={} seed {}".format
    assert after == {name(g, s): name(1, s) for g in (2, 3) for s in (0, 1)}


def test_arms_that_train_otherwise_have_trunks_of_their_own(study, tmp_path):
    grid = {"optimizer.lr": [0.1, 0.2], "budget.steps": [10, 20]}
    path = study(("transfusion",), grid=grid, cooldowns={})
    request = request_of(path, tmp_path)
    assert len(one_of_each_trunk(resolve_jobs(request, *resolve_arms(request)))) == 2


def test_a_plan_says_what_the_trunks_take(study, tmp_path):
    request = request_of(study(("transfusion",), **BUDGETS), tmp_path)
    planned = plan(request)
    (trunk,) = as_data(planned)["trunks"]
    assert (trunk["name"], trunk["steps"], trunk["state"]) == ("transfusion,trunk", 32, "missing")
    assert trunk["checkpoints"] == [8, 16, 32]
    text = "\n".join(lines(planned))
    assert "trunks missing: 1 of 1, 32 steps, from which the runs take over 56" in text


def test_on_a_cluster_those_that_train_a_trunk_go_first(study, tmp_path):
    request = request_of(study(("transfusion",), **BUDGETS), tmp_path)
    jobs = {job.name: job for job in missing_jobs(request, *resolve_arms(request))}
    first, later = (jobs[f"transfusion,steps={n}-s0"] for n in (10, 40))
    assert first.level + 1 == later.level == jobs["report"].level - 1
    assert later.whatever


def test_trials_have_a_whole_schedule_of_their_own(study, tmp_path):
    tune = {"metric": "text_to_image/exact", "trials": 2, "share": 0.5}
    tune["space"] = {"optimizer.lr": {"factor": 2}}
    request = request_of(study(("transfusion",), tune=tune, **BUDGETS), tmp_path)
    trials = plan_trials(request)
    trial = trials.jobs["transfusion,steps=20"][0].config
    assert (trial["steps"], trial["cooldown"]) == (
        10,
        {"start": 8, "shape": "linear", "trunk": None},
    )
    scores = [
        [{"metric": "text_to_image/exact", "value": value, "better": "higher"}]
        for value in (0.5, 0.6)
    ]
    for key in trials.jobs:
        trials.save(key, scores)
    assert trials.missing({*trials.arms}) == {}
    tuned = resolve_arms(request)[1]["transfusion,steps=20"]
    assert tuned["optimizer"]["lr"] == trials.values["transfusion,steps=20"][1]["optimizer.lr"]
    assert tuned["cooldown"]["start"] == 16


@pytest.mark.slow
def test_a_study_of_several_budgets_trains_its_trunk_once(study, tmp_path):
    from unify.answers.study_records import load_study
    from unify.answers.total_cost import total_cost
    from unify.study.run_study import run_study

    images = {"class": "unify.metrics.shapes_images.TextToImage", "prompts": 4, "geneval": 0}
    more = {"set": {"evaluation": [images]}, "primary": ["text_to_image/exact"], "learned": {}}
    grid = {"grid": {"budget.steps": [5, 10]}, "cooldowns": {"share": 0.4}}
    path = study(("transfusion",), **grid, **more)
    words = [f"machine.runs={tmp_path / 'runs'}", "machine.tracker=none"]
    made = run_study(StudyRequest(path, words, tiny=True), lambda text: None)
    assert not made.failed
    record = load_study(made.folder)
    flops = {run.planned: total_cost(record, run).own for run in record.runs}
    assert flops[10] == 2 * flops[5], "each counts all its steps, those of the trunk too"
    assert len(list(made.folder.glob("transfusion,trunk-s0-*"))) == 1
    assert all(run.info["trunk"]["step"] == round(0.6 * run.planned) for run in record.runs)
    (long,) = (run for run in record.runs if run.planned == 10)
    assert {5, 10} <= {point["step"] for point in long.curve}
