"""Costs of arms before anything is trained: as a run measures them, and matched to a budget."""

import pytest
from places import EXPERIMENTS

from unify.config import load_recipe, load_study
from unify.costs.step_cost import Cost, cost_of
from unify.schema.study import Budget
from unify.study import arm_costs as module
from unify.study.arm_costs import arm_costs
from unify.study.jobs import StudyRequest
from unify.study.plan import plan
from unify.study.plan_table import lines
from unify.training.train_run import train

FIVE = ("ar_vq", "transfusion", "dual_tower", "queries_dit", "crossflow")


@pytest.mark.slow
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
def test_all_five_paradigms_match_a_budget_within_1_percent(five, quantity):
    amounts = {"flops": 5e9, "tokens": 1e5, "samples": 1e4}
    planned = plan(StudyRequest(five(budget={quantity: amounts[quantity]}), tiny=True))
    assert planned.spread(quantity) <= 0.01
    for arm, cost in planned.costs.items():
        assert cost.total(quantity) == pytest.approx(amounts[quantity], rel=0.01)
        assert planned.arms[arm]["steps"] == cost.steps


def test_a_budget_of_one_task_counts_nothing_else(five):
    planned = plan(StudyRequest(five(budget={"samples": 400, "task": "text_to_image"}), tiny=True))
    assert planned.spread("samples") == 0
    drawn = {a: c.steps * c.tasks["text_to_image"].rows for a, c in planned.costs.items()}
    assert set(drawn.values()) == {400}
    assert len({cost.total("samples") for cost in planned.costs.values()}) > 1, "others read too"
    assert "of text_to_image alone:" in lines(planned)


def test_a_budget_of_a_task_that_is_not_trained_is_refused(five):
    path = five(budget={"samples": 400, "task": "vqa"})
    with pytest.raises(ValueError, match=r"queries_dit: budget\.task: vqa is not trained; it has"):
        plan(StudyRequest(path, tiny=True))
    with pytest.raises(ValueError, match="steps and needed runs are of no task"):
        Budget(steps=3, task="vqa")


def test_encoding_is_what_the_frozen_tokenizers_compute(five):
    planned = plan(StudyRequest(five(), tiny=True))
    assert all(cost.encoding > 0 for cost in planned.costs.values())
    transfusion, queries = planned.costs["transfusion"], planned.costs["queries_dit"]
    per_image = {
        name: cost.encoding / sum(t.rows for t in cost.tasks.values())
        for name, cost in (("transfusion", transfusion), ("queries_dit", queries))
    }
    assert per_image["transfusion"] == pytest.approx(per_image["queries_dit"]), "the same VAE"


def test_what_no_cost_depends_on_is_not_counted_again(study, monkeypatch):
    counted = []
    monkeypatch.setattr(module, "COUNTED", {})
    empty = Cost(5, {}, {})
    monkeypatch.setattr(module, "cost_of", lambda config, **_: counted.append(config) or empty)
    path = study(("transfusion",), replicate="all", seeds=[0, 1])
    for words in ([], ["seeds=[7]"], ["optimizer.lr=0.1", "seeds=[1]"]):
        loaded, arms = load_study(path, words)
        (cost,) = arm_costs(loaded, arms).values()
        assert [*cost.needed] == ["shapes_text", "shapes_vae"]
    assert [config["name"] for config in counted] == ["shapes_text", "shapes_vae", "transfusion"]
    cost.steps = 9  # solved from a budget
    arm_costs(*load_study(path, ["model.trunk.depth=3"]))
    assert len(counted) == 4
    assert arm_costs(*load_study(path))["transfusion"].steps == 5
