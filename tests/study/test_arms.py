"""Budgets and plans: steps solved from FLOPs, tokens or samples, before anything is trained."""

import json
from pathlib import Path

import pytest
import yaml
from places import EXPERIMENTS

from unify.config import load_recipe
from unify.costs.step_cost import Cost, TaskCost, cost_of, steps_for
from unify.runs.lookup import find_run
from unify.schema.study import Budget
from unify.study.jobs import StudyRequest
from unify.study.plan import plan
from unify.study.plan_table import as_data, lines
from unify.study.run_study import run_study
from unify.training.train_run import train

FIVE = ("ar_vq", "transfusion", "dual_tower", "queries_dit", "crossflow")
PART = Cost(10, {"t": TaskCost(4, 8, 100.0, 20.0)}, {})
COST = Cost(
    3, {"t": TaskCost(6, 20, 30.0, 10.0), "u": TaskCost(2, 5, 10.0, 0.0)}, {}, {"vae": PART}
)


@pytest.fixture
def study(tmp_path):
    def write(**more):
        path = tmp_path / "study.yaml"
        arms = {name: str(EXPERIMENTS / f"{name}.yaml") for name in FIVE}
        path.write_text(yaml.safe_dump({"name": "s", "arms": arms, **more}))
        return str(path)

    return write


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        (Budget(steps=7), 7),
        (Budget(samples=80), 10),
        (Budget(tokens=251), 10),
        (Budget(flops=401), 10),
        (Budget(flops=500, charge=["encoding"]), 10),
        (Budget(flops=1700, charge=["encoding", "needed"]), 10),
        (Budget(flops=1600, charge=["needed"]), 10),
    ],
)
def test_steps_are_what_is_left_over_the_cost_of_a_step(budget, steps):
    assert steps_for(budget, COST) == steps


def test_a_budget_that_does_not_reach_is_refused_with_what_was_charged():
    with pytest.raises(ValueError, match=r"does not reach.* after 1\.2e\+03 of what is trained"):
        steps_for(Budget(flops=1200, charge=["needed"]), COST)


@pytest.mark.parametrize("said", [{}, {"flops": 1, "tokens": 1}])
def test_a_budget_is_one_quantity(said):
    with pytest.raises(ValueError, match="one of steps, samples, tokens and flops"):
        Budget(**said)


@pytest.mark.parametrize("name", FIVE)
def test_the_plan_knows_what_the_run_will_measure(name, tmp_path):
    """Of an untrained build on the first rows: the same constants as of a real step."""
    overrides = [f"machine.runs={tmp_path}", "machine.tracker=none", "steps=1"]
    config = load_recipe(EXPERIMENTS / f"{name}.yaml", overrides, tiny=True)
    cost, run = cost_of(config), train(config, lambda text: None)
    assert cost.rows == run.info["rows_per_step"]
    assert cost.tokens == run.info["tokens_per_step"]
    assert cost.training == pytest.approx(run.info["flops_per_step"])
    assert cost.parameters["trainable"] == run.info["parameters"]["trainable"]


@pytest.mark.parametrize("quantity", ["flops", "tokens", "samples"])
def test_all_five_paradigms_match_a_budget_within_1_percent(study, quantity):
    amounts = {"flops": 5e9, "tokens": 1e5, "samples": 1e4}
    planned = plan(StudyRequest(study(budget={quantity: amounts[quantity]}), tiny=True))
    assert planned.spread(quantity) <= 0.01
    for arm, cost in planned.costs.items():
        assert cost.total(quantity) == pytest.approx(amounts[quantity], rel=0.01)
        assert planned.arms[arm]["steps"] == cost.steps


def test_what_is_charged_is_charged_in_flops_alone():
    budget = Budget(flops=1.0, charge=["encoding", "needed"])
    assert COST.total("flops", budget) == 3 * 50 + 1200
    assert COST.total("flops") == 3 * 40
    assert COST.total("steps", budget) == 3


def test_a_budget_of_what_a_model_does_not_count_is_refused():
    blind = Cost(3, {"t": TaskCost(6, 20, 0.0, 0.0)}, {})
    with pytest.raises(ValueError, match="its model counts none; write flops"):
        steps_for(Budget(flops=1e12), blind)


def test_a_budget_of_one_task_counts_nothing_else(study):
    assert COST.total("samples", Budget(samples=1, task="u")) == 3 * 2
    assert COST.total("flops", Budget(flops=1, task="t", charge=["encoding"])) == 3 * 40
    assert steps_for(Budget(samples=50, task="u"), COST) == 25
    planned = plan(StudyRequest(study(budget={"samples": 400, "task": "text_to_image"}), tiny=True))
    assert planned.spread("samples") == 0
    drawn = {a: c.steps * c.tasks["text_to_image"].rows for a, c in planned.costs.items()}
    assert set(drawn.values()) == {400}
    assert len({cost.total("samples") for cost in planned.costs.values()}) > 1, "others read too"
    assert "of text_to_image alone:" in lines(planned)


def test_a_budget_of_a_task_that_is_not_trained_is_refused(study):
    path = study(budget={"samples": 400, "task": "vqa"})
    with pytest.raises(ValueError, match=r"crossflow: budget\.task: vqa is not trained; it has"):
        plan(StudyRequest(path, tiny=True))
    with pytest.raises(ValueError, match="steps and needed runs are of no task"):
        Budget(steps=3, task="vqa")


def test_encoding_is_what_the_frozen_tokenizers_compute(study):
    planned = plan(StudyRequest(study(), tiny=True))
    assert all(cost.encoding > 0 for cost in planned.costs.values())
    transfusion, queries = planned.costs["transfusion"], planned.costs["queries_dit"]
    per_image = {
        name: cost.encoding / sum(t.rows for t in cost.tasks.values())
        for name, cost in (("transfusion", transfusion), ("queries_dit", queries))
    }
    assert per_image["transfusion"] == pytest.approx(per_image["queries_dit"]), "the same VAE"


def test_a_study_trains_the_steps_that_its_budget_buys(study, tmp_path):
    runs = tmp_path / "runs"
    overrides = [f"machine.runs={runs}", "machine.tracker=none", "evaluation=[]"]
    path = study(budget={"samples": 12})
    said = yaml.safe_load(Path(path).read_text())
    said["arms"] = {"transfusion": said["arms"]["transfusion"]}
    Path(path).write_text(yaml.safe_dump(said))
    planned = plan(StudyRequest(path, overrides, tiny=True))
    assert planned.states("transfusion") == {0: "missing"}
    assert run_study(StudyRequest(path, overrides, tiny=True), lambda text: None).failed == {}
    planned = plan(StudyRequest(path, overrides, tiny=True))
    assert planned.states("transfusion") == {0: "finished"}
    (info,) = (json.loads(p.read_text()) for p in runs.glob("s/*/run.json"))
    assert info["steps"] == planned.costs["transfusion"].steps == 12 // info["rows_per_step"]


def test_the_plan_is_shown_in_columns_and_as_data(study):
    planned = plan(StudyRequest(study(budget={"steps": 3}), tiny=True))
    text = "\n".join(lines(planned))
    assert "steps: matched, within 0.0%" in text
    assert "flops: not matched" in text
    assert set(as_data(planned)["arms"]) == set(FIVE)
    json.dumps(as_data(planned))


def test_an_experiment_is_planned_alone_and_what_it_needs_is_named(tmp_path):
    planned = plan(
        StudyRequest(str(EXPERIMENTS / "queries_dit.yaml"), [f"machine.runs={tmp_path}"])
    )
    assert list(planned.costs["queries_dit"].needed) == ["shapes_text", "vlm", "shapes_vae"]
    assert planned.costs["queries_dit"].before > planned.costs["queries_dit"].needed["vlm"].training
    assert find_run(planned.arms["queries_dit"]) is None
    assert not any(tmp_path.iterdir()), "nothing was made"


def test_time_left_is_what_a_run_took_or_a_few_steps_take(study, tmp_path):
    path = study(arms={"transfusion": str(EXPERIMENTS / "transfusion.yaml")}, seeds=[0, 1])
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
