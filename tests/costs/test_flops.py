"""The ledger of FLOPs against torch's own counter, forward and backward, for all five paradigms."""

import math

import pytest
import torch
from places import ROOT
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unify.assembly.assemble import assemble
from unify.config import load_recipe
from unify.costs.step_cost import first_rows, tasks_of
from unify.evaluation.paradigm_card import recorded_masks
from unify.nn.init import initialise
from unify.noise import Noise

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


def convolution_backward(grad, image, weight, *settings, **_) -> int:
    """As the forward pass, for each of the two gradients; torch's own rule ignores groups."""
    wanted = settings[-1]  # gradients of the image, of the weight, of the bias
    return 2 * math.prod(grad) * math.prod(weight[1:]) * sum(wanted[:2])


def recipe_of(paradigm, *overrides):
    config = load_recipe(ROOT / "experiments" / f"{paradigm}.yaml", overrides, tiny=True)
    recipe = assemble(config, {})
    initialise(recipe.model.train(), 0)
    return recipe


def counted(model, batch) -> int:
    """By torch, of a loss and its gradients; attention is dense."""
    mapping = {torch.ops.aten.convolution_backward: convolution_backward}
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False, custom_mapping=mapping) as counter,
    ):
        terms = model.loss(batch, Noise.for_batch(0, 0, batch))
        sum(term.value.mean() for term in terms.values()).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("paradigm", WIDE)
def test_the_ledger_is_what_torch_counts(paradigm):
    recipe = recipe_of(paradigm, *WIDE[paradigm])
    for task, cost in tasks_of(recipe).items():
        found = counted(recipe.model, first_rows(recipe, task, cost.rows))
        assert cost.training + cost.encoding == pytest.approx(found, rel=0.02)


@pytest.mark.parametrize("paradigm", ["ar_vq", "transfusion", "dual_tower", "crossflow"])
def test_what_is_computed_is_what_torch_counts_however_narrow_a_model(paradigm):
    """Where attention is much of it, and what a mask forbids a third of that."""
    narrow = ["model.trunk.dim=16", "model.trunk.heads=2", "data.lengths.prompt=60"]
    recipe = recipe_of(paradigm, *narrow)
    cost = tasks_of(recipe)["text_to_image"]
    found = counted(recipe.model, first_rows(recipe, "text_to_image", cost.rows))
    if paradigm != "crossflow":  # whose flow reads all of everything
        assert cost.training + cost.encoding < 0.95 * found
    assert cost.computed + cost.encoding == pytest.approx(found, rel=0.02)


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


@pytest.mark.parametrize("paradigm", ["ar_vq", "transfusion"])
def test_pairs_are_those_of_the_mask(paradigm, monkeypatch):
    recipe = recipe_of(paradigm, "data.lengths.prompt=4")  # which every prompt fills
    model, batch = recipe.model.eval(), first_rows(recipe, "text_to_image", 2)
    with recorded_masks(model) as seen, torch.no_grad():
        model.loss(batch, Noise.for_batch(0, 0, batch))
    allowed = seen["trunk"].dense()[0].sum().item()
    counted_pairs = []
    monkeypatch.setattr(model.trunk, "flops", lambda _, pairs: counted_pairs.append(pairs) or 0.0)
    model.flops(batch)
    assert counted_pairs == [allowed]
