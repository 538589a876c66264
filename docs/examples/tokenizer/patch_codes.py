"""A tokenizer of one's own: linear latents of patches, which is principal components by gradient.

    latent = W^T x    x' = W latent    L = |x' - x|^2 over the pixels of a patch x

With one matrix for both ways the best W spans the C leading principal directions (Baldi and Hornik,
Neural Networks 2, 1989). It is a ContinuousTokenizer (what a paradigm needs) and a Trainable (what
`unify train` needs); one that nothing trains leaves `tasks`, `terms` and `loss` out.

B rows, C channels, p pixels along a patch, H x W pixels, h x w grid.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unify.batch import Batch
from unify.noise import Noise
from unify.paradigm import Term, Terms, Trainable
from unify.tokenizer import ContinuousTokenizer, inference


class PatchCodes(ContinuousTokenizer, Trainable):
    """Each patch of `patch` x `patch` pixels becomes one cell of `channels` numbers."""

    tasks = frozenset({"image"})
    terms = frozenset({"pixel"})
    scale: Tensor  # [1] latents are divided by it, so that their variance is about 1

    def __init__(self, channels: int = 12, patch: int = 4):
        super().__init__()
        self.channels, self.stride = channels, patch  # `stride` is what `grid` divides by
        self.project = nn.Linear(3 * patch**2, channels, bias=False)
        self.register_buffer("scale", torch.ones(1))  # a buffer: in the hash and in the export

    def settings(self) -> dict[str, Any]:
        """What changes an output and is no weight."""
        return {"stride": self.stride}

    @inference  # no gradient and full precision, whatever the run around it has
    def encode(self, images: Tensor) -> Tensor:
        return self._latents(images.float()) / self.scale  # [B C h w]

    @inference
    def decode(self, latents: Tensor) -> Tensor:
        return self._images(latents.float() * self.scale).clamp(-1, 1)  # [B 3 H W]

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        images = batch.segments[-1].images
        error = self._images(self._latents(images)) - images
        return {"pixel": Term(error.square().flatten(1).mean(1))}  # one value per row: [B]

    def flops(self, batch: Batch) -> float:
        """Forward and backward (three forwards) of both ways over every patch."""
        patches = batch.segments[-1].images[:, 0].numel() // self.stride**2
        return 3.0 * 2 * 2 * self.project.weight.numel() * patches

    @inference
    def calibrate(self, images: Tensor) -> None:
        """Called once when training is over, with fixed images [N 3 H W]."""
        self.scale.fill_(self._latents(images.to(self.device).float()).std())

    def _latents(self, images: Tensor) -> Tensor:
        self.grid(*images.shape[-2:])  # a ValueError for a size that does not divide
        patches = F.pixel_unshuffle(images, self.stride)  # [B 3*p*p h w]
        return torch.einsum("bihw,ci->bchw", patches, self.project.weight)

    def _images(self, latents: Tensor) -> Tensor:
        patches = torch.einsum("bchw,ci->bihw", latents, self.project.weight)
        return F.pixel_shuffle(patches, self.stride)
