"""Cost of a step: FLOPs as torch counts them, and the steps that a budget buys."""

import pytest
import torch
from places import ROOT
from torch_flops import by_torch

from unify.assembly.assemble import assemble
from unify.config import load_recipe
from unify.costs.step_cost import Cost, TaskCost, first_rows, steps_for, tasks_of
from unify.nn.init import initialise
from unify.noise import Noise
from unify.schema.study import Budget

DRAWS = ["data.tasks={text_to_image: 2}"]
TRUNK = ["model.trunk.dim=512", "model.trunk.heads=4", "model.trunk.depth=4"]
# so wide that the pairs which a dense kernel scores in vain are less than 1%
WIDE = {
    "ar_vq": TRUNK,
    "transfusion": TRUNK,
    "dual_tower": TRUNK,
    "crossflow": [*TRUNK, *DRAWS],
    "queries_dit": DRAWS,
}


def recipe_of(paradigm, *overrides):
    config = load_recipe(ROOT / "experiments" / f"{paradigm}.yaml", overrides, tiny=True)
    recipe = assemble(config, {})
    initialise(recipe.model.train(), 0)
    return recipe


@pytest.mark.parametrize("paradigm", WIDE)
def test_the_ledger_is_what_torch_counts(paradigm):
    recipe = recipe_of(paradigm, *WIDE[paradigm])
    for task, cost in tasks_of(recipe).items():
        measured = by_torch(recipe.model, first_rows(recipe, task, cost.rows))
        assert cost.training + cost.encoding == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize("paradigm", ["ar_vq", "transfusion", "dual_tower", "crossflow"])
def test_what_is_computed_is_what_torch_counts_however_narrow_a_model(paradigm):
    """Where attention is much of it, and what a mask forbids a third of that."""
    narrow = ["model.trunk.dim=16", "model.trunk.heads=2", "data.lengths.prompt=60"]
    recipe = recipe_of(paradigm, *narrow)
    cost = tasks_of(recipe)["text_to_image"]
    measured = by_torch(recipe.model, first_rows(recipe, "text_to_image", cost.rows))
    if paradigm != "crossflow":  # whose flow reads all of everything
        assert cost.training + cost.encoding < 0.95 * measured
    assert cost.computed + cost.encoding == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize("paradigm", WIDE)
def test_padding_is_what_is_not_useful(paradigm):
    useful, padded = (
        tasks_of(recipe_of(paradigm, f"data.lengths.prompt={length}"))["text_to_image"]
        for length in (150, 300)
    )
    assert padded.training > 1.05 * useful.training
    assert padded.useful == pytest.approx(useful.useful), "longer columns hold the same texts"
    assert useful.useful < useful.training


def test_texts_that_fill_their_columns_are_useful_whole():
    cost = tasks_of(recipe_of("transfusion", "data.lengths.prompt=4"))["text_to_image"]
    assert cost.useful == pytest.approx(cost.training)


FILLED = ["data.lengths.prompt=4", "data.lengths.caption=4", "model.window=3"]  # by every text
PAIRS = [
    *(("ar_vq", "text_to_image", FILLED[:1]), ("transfusion", "text_to_image", FILLED[:1])),
    ("masked", "text_to_image", FILLED[:1]),
    ("masked", "caption", FILLED[:2]),
    ("masked", "text_to_image", [*FILLED[:1], "model.attention=full"]),
    ("masked", "caption", [*FILLED[:2], "model.attention=full"]),
    ("masked_text", "text_to_image", FILLED),
    ("masked_text", "caption", FILLED),
    ("masked_text", "caption", [*FILLED, "model.attention=causal_text"]),
]


@pytest.mark.parametrize(("paradigm", "task", "words"), PAIRS)
def test_pairs_are_those_of_the_mask(paradigm, task, words, monkeypatch):
    recipe = recipe_of(paradigm, *words)
    model, batch = recipe.model.eval(), first_rows(recipe, task, 2)
    masks = []
    hook = model.trunk.register_forward_pre_hook(lambda _, args: masks.append(args[0].mask))
    with torch.no_grad():
        model.loss(batch, Noise.for_batch(0, 0, batch))
    hook.remove()
    allowed = masks[0].dense()[0].sum().item()
    counted_pairs = []
    monkeypatch.setattr(
        model.trunk, "flops", lambda _, pairs, images=0: counted_pairs.append(pairs) or 0.0
    )
    model.flops(batch)
    assert counted_pairs == [allowed]


PART = Cost(10, {"t": TaskCost(4, 8, 100.0, 20.0)}, {})


COST = Cost(
    3, {"t": TaskCost(6, 20, 30.0, 10.0), "u": TaskCost(2, 5, 10.0, 0.0)}, {}, {"vae": PART}
)


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


@pytest.mark.parametrize("given", [{}, {"flops": 1, "tokens": 1}])
def test_a_budget_is_one_quantity(given):
    with pytest.raises(ValueError, match="one of steps, samples, tokens and flops"):
        Budget(**given)


def test_what_is_charged_is_charged_in_flops_alone():
    budget = Budget(flops=1.0, charge=["encoding", "needed"])
    assert COST.total("flops", budget) == 3 * 50 + 1200
    assert COST.total("flops") == 3 * 40
    assert COST.total("steps", budget) == 3


def test_a_budget_of_what_a_model_does_not_count_is_refused():
    blind = Cost(3, {"t": TaskCost(6, 20, 0.0, 0.0)}, {})
    with pytest.raises(ValueError, match="its model counts none; write flops"):
        steps_for(Budget(flops=1e12), blind)


def test_a_budget_of_one_task_counts_nothing_else():
    assert COST.total("samples", Budget(samples=1, task="u")) == 3 * 2
    assert COST.total("flops", Budget(flops=1, task="t", charge=["encoding"])) == 3 * 40
    assert steps_for(Budget(samples=50, task="u"), COST) == 25
