"""A vision encoder that learns from pictures alone: a masked autoencoder (MAE, arXiv:2111.06377).

    f = encoder(the patches that are shown)        x' = decoder(f, one learned vector where hidden)
    L = mean (x - x')^2 over the pixels of hidden patches

`vision` is what is used of it: {weights: {run: mae.yaml, part: vision}}. Other than the paper:
hidden patches are masked and not left out, so a step computes them and nobody reads them; pixels
are as they are, and not normed by patch; three quarters of the patches are hidden in both.
B rows, N patches on a grid h x w, D width.
"""

import torch
from torch import Tensor, nn

from unify.batch import Batch
from unify.nn.layers import patchify
from unify.nn.vision import PatchDecoder, PatchEncoder
from unify.noise import Noise
from unify.paradigm import Term, Terms, Trainable
from unify.support.ranges import Count, CountOrZero, ShareBelow1


class MaskedAutoencoder(Trainable):
    """Learns `vision` by giving hidden patches back.

    Args:
        vision: the encoder.
        dim, depth, heads: of the decoder.
        hidden: share of the patches that is hidden, at least one of them and not all.
    """

    tasks = frozenset({"image"})
    terms = frozenset({"pixel"})

    def __init__(
        self,
        vision: PatchEncoder,
        dim: Count = 64,
        depth: CountOrZero = 1,
        heads: Count = 4,
        hidden: ShareBelow1 = 0.75,
    ):
        super().__init__()
        self.vision, self.hidden = vision, hidden
        self.decoder = PatchDecoder(vision.dim, dim, depth, heads, vision.patch)
        self.unknown = nn.Parameter(torch.empty(vision.dim))  # what a hidden patch is read as
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.unknown)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        images = batch.segments[0].images
        grid = self.vision.grid(*images.shape[-2:])
        shown = self.shown(noise.uniform("patches", (grid[0] * grid[1],)))  # [B N]
        features = self.vision(images, shown)  # [B N D]
        read = torch.where(shown[..., None], features, self.unknown)
        patch = self.vision.patch
        copies = patchify(self.decoder(read, grid).float(), patch)  # [B N 3pp]
        error = (copies - patchify(images, patch)).square().mean(-1) * ~shown
        return {"pixel": Term(error.sum(1) / (~shown).sum(1))}

    def shown(self, uniforms: Tensor) -> Tensor:
        """uniforms [B N] -> [B N] bool: all but the lowest ones, equally many in every row."""
        places = uniforms.shape[1]
        count = min(max(round(self.hidden * places), 1), places - 1)
        return uniforms.argsort(1).argsort(1) >= count

    def flops(self, batch: Batch) -> float:
        images = batch.segments[0].images
        grid = self.vision.grid(*images.shape[-2:])
        each = self.vision.training_flops(*images.shape[-2:])
        return len(batch) * (each + self.decoder.training_flops(grid, inward=True))
