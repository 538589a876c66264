"""Noised images in a sequence of tokens, and what is learned of them.

B rows, C channels, h x w latent grid, P patches, S tokens, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unify.flow import Prediction, expand
from unify.nn.alignment import Alignment, Drawn, SelfFlow, states_after
from unify.nn.layers import patchify
from unify.nn.losses import over_images
from unify.nn.patches import Patches, over_cells, size_of
from unify.nn.sequence import TokenSequence
from unify.nn.trunk import Backbone
from unify.paradigm import Term


@dataclass
class Noised:
    """A noised image in the sequence, and the velocity that it should predict."""

    where: slice  # of its patches along S
    xt: Tensor  # [B C h w]
    velocity: Tensor  # [B C h w]
    t: Tensor  # [B], or of each patch [B P]
    skip: Tensor  # what `Patches.tokens` hands to `Patches.latents`
    present: Tensor  # [B]
    images: Tensor  # [B 3 H W], clean

    @property
    def cleaner(self) -> Tensor:
        """The largest of its times, [B]."""
        return self.t if self.t.ndim == 1 else self.t.amax(1)

    def at_cleaner(self, patches: Patches) -> Tensor:
        """All of it at that time, [B C h w]: further on the same path."""
        later = expand(self.cleaner, self.xt)
        return (
            self.xt + (later - expand(of_cells(self.t, self.xt, patches), self.xt)) * self.velocity
        )


def of_cells(t: Tensor, latents: Tensor, patches: Patches) -> Tensor:
    """Times of rows [B] as they are, of patches [B P] as those of latent cells [B 1 h w]."""
    if t.ndim == 1:
        return t
    return over_cells(t, patches.grid(*size_of(latents)), patches.patch)


def flow_term(
    noised: Sequence[Noised], hidden: Tensor, patches: Patches, prediction: Prediction
) -> Term:
    """Mean squared error of the velocity over a row's images; last hidden states [B S D]."""
    errors = []
    for image in noised:
        output = patches.latents(hidden[:, image.where], image.skip, size_of(image.xt))
        t = of_cells(image.t, image.xt, patches)
        v = prediction.velocity(output.float(), image.xt, t)
        # an x prediction is compared as a velocity too: one loss for all, its own weight in t
        errors.append((v - image.velocity).square())  # [B C h w]
    means = [error.flatten(1).mean(1) for error in errors]  # [B] each
    value, last = over_images(means, [image.present for image in noised]), noised[-1]
    if last.t.ndim == 1:
        return Term(value, t=last.t)
    each = patchify(errors[-1].detach(), patches.patch).mean(-1)  # [B P]
    return Term(value, t=last.t.masked_fill(~last.present[:, None], -1), each=each)


def alignment_term(
    align: Alignment,
    noised: Sequence[Noised],
    states: Tensor,
    sequence: TokenSequence,
    trunk: Backbone,
    patches: Patches,
) -> Term:
    """The mean over a row's images, given the states [B S D] after `align.layer` blocks."""
    cleaner = None
    if isinstance(align, SelfFlow):
        cleaner = _cleaner_states(align.teacher_layer, noised, sequence, trunk, patches)
    return align.term(
        Drawn(
            *(states[:, n.where], patches.grid(*size_of(n.xt)), n.images, n.present),
            cleaner=None if cleaner is None else cleaner[:, n.where],
        )
        for n in noised
    )


@torch.no_grad()
def _cleaner_states(
    layer: int,
    noised: Sequence[Noised],
    sequence: TokenSequence,
    trunk: Backbone,
    patches: Patches,
) -> Tensor:
    """States [B S D] of the same sequence whose images are at their cleaner levels."""
    for image in noised:
        tokens, time, _ = patches.tokens(image.at_cleaner(patches), image.cleaner)
        sequence = sequence.with_tokens(image.where, tokens, time)
    with states_after(trunk, layer) as states:
        sequence.run(trunk)
    return states[0]
