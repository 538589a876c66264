"""Plans: which runs exist, what they need, and how long the others take."""

import json
from pathlib import Path

import pytest
import yaml
from places import EXPERIMENTS

from unify.runs.lookup import find_run
from unify.study.jobs import StudyRequest
from unify.study.plan import plan
from unify.study.plan_table import lines
from unify.study.run_study import run_study


def test_a_study_trains_the_steps_that_its_budget_buys(five, tmp_path):
    runs = tmp_path / "runs"
    overrides = [f"machine.runs={runs}", "machine.tracker=none", "evaluation=[]"]
    path = five(budget={"samples": 12})
    printed = yaml.safe_load(Path(path).read_text())
    printed["arms"] = {"transfusion": printed["arms"]["transfusion"]}
    Path(path).write_text(yaml.safe_dump(printed))
    planned = plan(StudyRequest(path, overrides, tiny=True))
    assert planned.states("transfusion") == {0: "missing"}
    assert run_study(StudyRequest(path, overrides, tiny=True), lambda text: None).failed == {}
    planned = plan(StudyRequest(path, overrides, tiny=True))
    assert planned.states("transfusion") == {0: "finished"}
    (info,) = (json.loads(p.read_text()) for p in runs.glob("s/*/run.json"))
    assert info["steps"] == planned.costs["transfusion"].steps == 12 // info["rows_per_step"]


def test_an_experiment_is_planned_alone_and_what_it_needs_is_named(tmp_path):
    planned = plan(
        StudyRequest(str(EXPERIMENTS / "queries_dit.yaml"), [f"machine.runs={tmp_path}"])
    )
    assert list(planned.costs["queries_dit"].needed) == ["shapes_text", "shapes_vae", "vlm"]
    assert planned.costs["queries_dit"].before > planned.costs["queries_dit"].needed["vlm"].training
    assert find_run(planned.arms["queries_dit"]) is None
    assert not any(tmp_path.iterdir()), "nothing was made"


@pytest.mark.slow
def test_time_left_is_what_a_run_took_or_a_few_steps_take(five, tmp_path):
    path = five(arms={"transfusion": str(EXPERIMENTS / "transfusion.yaml")}, seeds=[0, 1])
    words = [f"machine.runs={tmp_path}/runs", "machine.tracker=none", "evaluation=[]"]
    unknown = plan(StudyRequest(path, words, tiny=True))
    assert unknown.left("transfusion") is None
    assert "unknown" in lines(unknown)[-2]
    timed = plan(StudyRequest(path, words, tiny=True), measure=True)
    assert timed.left("transfusion") == 2 * timed.seconds["transfusion"] > 0
    run_study(StudyRequest(path, [*words, "seeds=[0]"], tiny=True), lambda _: None)
    planned = plan(StudyRequest(path, words, tiny=True))
    (info,) = (json.loads(p.read_text()) for p in (tmp_path / "runs").glob("s/*/run.json"))
    assert planned.left("transfusion") == info["train_seconds"], "one of two is there"
    run_study(StudyRequest(path, words, tiny=True), lambda _: None)
    assert plan(StudyRequest(path, words, tiny=True)).left("transfusion") == 0


@pytest.mark.slow
def test_the_pretrained_track_spends_its_budget_on_all_that_it_takes():
    words = ["seeds=[0]", "budget.flops=2e10", "machine.tracker=none"]
    path = EXPERIMENTS / "studies" / "pretrained_track.yaml"
    planned = plan(StudyRequest(str(path), words, tiny=True))
    assert planned.spread("flops") <= 0.01
    before = {arm: cost.before for arm, cost in planned.costs.items()}
    assert before["queries_dit"] > 0, "the tiny denoiser"
    for arm, cost in planned.costs.items():
        assert cost.steps * (cost.training + cost.encoding) + before[arm] == pytest.approx(
            2e10, rel=0.01
        )
