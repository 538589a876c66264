"""FLOPs of forward and backward as torch counts them."""

import math

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unify.noise import Noise


def _convolution_backward(grad, image, weight, *settings, **_) -> int:
    """As the forward pass, for each of the two gradients; torch's own rule ignores groups."""
    transposed, wanted = settings[4], settings[-1]  # of the image, of the weight, of the bias
    return 2 * math.prod(image if transposed else grad) * math.prod(weight[1:]) * sum(wanted[:2])


def by_torch(model, batch) -> int:
    """FLOPs of a loss and its gradients; attention is dense."""
    mapping = {torch.ops.aten.convolution_backward: _convolution_backward}
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False, custom_mapping=mapping) as counter,
    ):
        terms = model.loss(batch, Noise.for_batch(0, 0, batch))
        sum(term.value.mean() for term in terms.values()).backward()
    return counter.get_total_flops()
