"""Costs of arms before anything is trained: as a run measures them, and matched to a budget."""

import pytest
import yaml
from places import EXPERIMENTS

from unify.config import load_recipe, load_study
from unify.costs.step_cost import Cost, TaskCost, cost_of
from unify.schema.study import Budget
from unify.study import arm_costs as module
from unify.study.arm_costs import arm_costs
from unify.study.jobs import StudyRequest
from unify.study.plan import plan
from unify.study.plan_table import lines
from unify.training.train_run import train

BYTES = "unify.tokenizers.text.Bytes"
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
    assert cost.encoding == run.info["encoding_flops_per_step"] > 0
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
    with pytest.raises(ValueError, match=r"budget\.task: queries_dit has no rows of 'vqa'; it has"):
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


def test_what_no_cost_depends_on_is_not_counted_again(study, monkeypatch, tmp_path):
    runs = f"machine.runs={tmp_path}/runs"  # no vocabulary is fitted there
    counted = []
    monkeypatch.setattr(module, "COUNTED", {})
    empty = Cost(5, {}, {})
    monkeypatch.setattr(module, "cost_of", lambda config, **_: counted.append(config) or empty)
    path = study(("transfusion",), replicate="all", seeds=[0, 1])
    for words in ([], ["seeds=[7]"], ["optimizer.lr=0.1", "seeds=[1]"]):
        loaded, arms = load_study(path, [runs, *words])
        (cost,) = arm_costs(loaded, arms).values()
        assert [*cost.needed] == ["shapes_text", "shapes_vae"]
    assert [config["name"] for config in counted] == ["shapes_text", "shapes_vae", "transfusion"]
    cost.steps = 9  # solved from a budget
    arm_costs(*load_study(path, [runs, "model.trunk.depth=3"]))
    assert len(counted) == 4
    assert arm_costs(*load_study(path, [runs]))["transfusion"].steps == 5


SMALL = {"trunk": {"dim": 32, "depth": 2, "heads": 2}, "text": {"class": BYTES}}


@pytest.fixture
def track(tmp_path):
    """Language models `llm` and `other`, a denoiser over `other`, and arms that start from them."""
    vlm = {"base": f"{EXPERIMENTS}/vlm.yaml", "model": SMALL}
    draws = {"base": f"{EXPERIMENTS}/queries_dit.yaml"}
    image = {"class": "unify.tokenizers.vae.VAE", "channels": 4, "widths": [8, 8, 8]}
    parts = {"image": image, "connector": {"dim": 32, "encoder": {"dim": 32}}}
    words = {"class": "unify.nn.words.LanguageTrunk", "llm": {"weights": {"run": "llm.yaml"}}}
    denoiser = {"weights": {"run": "denoiser.yaml", "part": "denoiser"}}
    sequence = {"trunk": words, "text": {"class": BYTES}, "image": image, "patches": {"dim": 32}}
    files = {
        "llm": {**vlm, "steps": 7},
        "other": {**vlm, "steps": 9},
        "denoiser": {
            **draws,
            "model": {**parts, "llm": {"weights": {"run": "other.yaml"}}},
            "steps": 5,
        },
        "sequence": {"base": f"{EXPERIMENTS}/transfusion.yaml", "model": sequence},
        "queries": {
            **draws,
            "model": {**parts, "llm": {"weights": {"run": "llm.yaml"}}, "denoiser": denoiser},
        },
    }
    for name, content in files.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    study = {
        "name": "t",
        "arms": {arm: f"{arm}.yaml" for arm in ("sequence", "queries")},
        "replicate": "all",
        "budget": {"flops": 1e6, "charge": ["encoding", "needed"]},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    return tmp_path / "study.yaml"


def costs_of(study, monkeypatch):
    """Arm costs, where a step of each experiment takes 1,000 FLOPs and 100 of encoding."""
    each = {"text_to_image": TaskCost(1, 1, training=1000.0, encoding=100.0)}
    monkeypatch.setattr(module, "COUNTED", {})
    monkeypatch.setattr(module, "cost_of", lambda config, **_: Cost(config["steps"], each, {}))
    loaded, arms = load_study(study)
    return loaded, arm_costs(loaded, arms)


def test_what_is_left_of_a_budget_after_all_that_had_to_be_trained_buys_the_steps(
    track, monkeypatch
):
    study, costs = costs_of(track, monkeypatch)
    assert [*costs["sequence"].needed] == ["llm"]
    assert {*costs["queries"].needed} == {"llm", "denoiser", "other"}, "what a needed run needs"
    before = {"sequence": 7 * 1100, "queries": (7 + 5 + 9) * 1100}
    for arm, cost in costs.items():
        assert cost.before == before[arm]
        assert cost.steps == round((1e6 - before[arm]) / 1100)
        spent = cost.steps * (cost.training + cost.encoding) + cost.before
        assert spent == cost.total("flops", study.budget) == pytest.approx(1e6, abs=1100)


def test_of_two_needed_runs_of_one_name_both_are_charged(track, monkeypatch):
    folder = track.parent
    (folder / "sub").mkdir()
    (folder / "sub/llm.yaml").write_text((folder / "other.yaml").read_text())
    text = (folder / "denoiser.yaml").read_text()
    (folder / "denoiser.yaml").write_text(text.replace("other.yaml", "sub/llm.yaml"))
    cost = costs_of(track, monkeypatch)[1]["queries"]
    assert cost.before == (7 + 5 + 9) * 1100
    assert len(cost.needed) == 3
    assert any("sub/llm.yaml" in name or f"{folder}/llm.yaml" in name for name in cost.needed)


def test_a_run_that_only_scores_is_charged_to_no_arm(track, monkeypatch):
    part = {"class": "unify.nn.trunk.Trunk", "dim": 32, "depth": 2, "heads": 2}
    reader = {"class": "unify.metrics.x.Reader", "part": {**part, "weights": {"run": "other.yaml"}}}
    study, arms = load_study(track)
    arms["sequence"]["evaluation"] = [reader]
    monkeypatch.setattr(module, "cost_of", lambda config, **_: Cost(config["steps"], {}, {}))
    monkeypatch.setattr(module, "COUNTED", {})
    monkeypatch.setattr(module, "steps_for", lambda budget, cost: 1)
    reader["part"]["weights"]["run"] = str(track.parent / "other.yaml")
    assert [*arm_costs(study, arms)["sequence"].needed] == ["llm"]
