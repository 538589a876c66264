"""Noised images in a sequence of tokens, and what is learned of them.

B rows, C channels, h x w latent grid, S tokens, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from unify.flow import Prediction
from unify.nn.alignment import TERM, Alignment, Drawn
from unify.nn.losses import over_images
from unify.nn.patches import Patches, size_of
from unify.paradigm import Term, Terms


@dataclass
class Noised:
    """A noised image in the sequence, and the velocity that it should predict."""

    where: slice  # of its patches along S
    xt: Tensor  # [B C h w]
    velocity: Tensor  # [B C h w]
    t: Tensor  # [B]
    skip: Tensor  # what `Patches.tokens` hands to `Patches.latents`
    present: Tensor  # [B]
    images: Tensor  # [B 3 H W], clean


def image_terms(
    noised: Sequence[Noised],
    hidden: Tensor,
    states: Sequence[Tensor],
    patches: Patches,
    prediction: Prediction,
    align: Alignment | None,
) -> Terms:
    """Mean squared error of the velocity, and the alignment if there is one: over a row's images.

    Args:
        hidden: last hidden states [B S D].
        states: those after `align.layer` blocks, [B S D] (nn/alignment.py).
    """
    errors = []
    for image in noised:
        output = patches.latents(hidden[:, image.where], image.skip, size_of(image.xt))
        v = prediction.velocity(output.float(), image.xt, image.t)
        # an x prediction is compared as a velocity too: one loss for all, its own weight in t
        errors.append((v - image.velocity).square().flatten(1).mean(1))  # [B]
    error = over_images(errors, [image.present for image in noised])
    terms = {"image_flow": Term(error, t=noised[-1].t)}
    if align is not None:
        terms[TERM] = align.term(
            Drawn(states[0][:, n.where], patches.grid(*size_of(n.xt)), n.images, n.present)
            for n in noised
        )
    return terms
