"""The ledger of FLOPs against torch's own counter, forward and backward, for all five paradigms."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unify.budget import first_rows, tasks_of
from unify.config import load_recipe
from unify.nn.init import initialise
from unify.noise import Noise
from unify.train import assemble

ROOT = Path(__file__).parent.parent
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


@pytest.mark.parametrize("paradigm", WIDE)
def test_the_ledger_is_what_torch_counts(paradigm):
    config = load_recipe(ROOT / "experiments" / f"{paradigm}.yaml", WIDE[paradigm], tiny=True)
    recipe = assemble(config, {})
    model = recipe.model.train()
    initialise(model, 0)
    for task, cost in tasks_of(recipe).items():
        batch = first_rows(recipe, task, cost.rows)
        mapping = {torch.ops.aten.convolution_backward: convolution_backward}
        with (
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False, custom_mapping=mapping) as counter,
        ):
            terms = model.loss(batch, Noise.for_batch(0, 0, batch))
            sum(term.value.mean() for term in terms.values()).backward()
        assert cost.training + cost.encoding == pytest.approx(counter.get_total_flops(), rel=0.02)
