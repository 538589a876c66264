"""The vectors of a discrete tokenizer's codes as latents: a flow over codes, drawn by the nearest.

    encode(x) = (e[c(x)] - m) / s        decode(z) = D(argmin_k |z - (e[k] - m) / s|)

c(x) are the codes of the tokenizer inside, e its K vectors and D its decoder; m and s, a number for
each channel, are mean and standard deviation of the K vectors, each counted once: numbers of the
codebook alone, so that nothing is to be calibrated, and no picture decides them.

What a model can be scored is what the tokenizer inside gives back: a flow over these latents and a
softmax over these codes have one tokenizer and one ceiling, and differ in their objective.

B rows, C channels, K codes, L = h * w codes of an image, H x W pixels.
"""

from typing import Any

import torch
from torch import Tensor

from unify.tokenizer import ContinuousTokenizer, DiscreteTokenizer, inference

MOST_CODES = 2**20  # the nearest is sought among all of them
AT_ONCE = 2**24  # distances that are held in memory


class CodeVectors(ContinuousTokenizer):
    """Latents of `codes.dim` channels, every cell of which is a code's vector.

    ValueError for codes without vectors, and for more of them than can be compared.
    """

    def __init__(self, codes: DiscreteTokenizer):
        super().__init__()
        name = type(codes).__name__
        if not codes.dim:
            raise ValueError(
                f"codes: the codes of {name} stand for no vectors, so none can be the nearest; use "
                "a VQ, or define `dim` and `vectors` in that class"
            )
        if codes.vocab_size > MOST_CODES:
            raise ValueError(
                f"codes: {name} has {codes.vocab_size} codes, and the nearest is sought among all; "
                f"use one of at most {MOST_CODES}"
            )
        self.codes, self.stride, self.channels = codes, codes.stride, codes.dim
        self.side = codes.side

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return self.codes.grid(height, width)

    def settings(self) -> dict[str, Any]:
        return {"codes": self.codes.content_hash()}

    @inference
    def encode(self, images: Tensor) -> Tensor:
        codes = self.codes.encode(images)  # [B L]
        grid = self.grid(*images.shape[-2:])
        return self.table()[codes].transpose(1, 2).unflatten(2, grid)  # [B L C] -> [B C h w]

    @inference
    def decode(self, latents: Tensor) -> Tensor:
        h, w = latents.shape[-2:]
        return self.codes.decode(self.nearest(latents), (h, w))

    @inference
    def nearest(self, latents: Tensor) -> Tensor:
        """latents [B C h w] -> codes [B h*w]; of two equally near codes the first."""
        cells = latents.float().flatten(2).transpose(1, 2)  # [B h*w C]
        table, found = self.table(), []
        for part in cells.flatten(0, 1).split(max(1, AT_ONCE // self.codes.vocab_size)):
            # each difference is squared: by products, a code would not be at distance 0 from itself
            far = torch.cdist(part, table, compute_mode="donot_use_mm_for_euclid_dist")
            found.append(far.argmin(1))
        return torch.cat(found).view(len(latents), -1)

    def table(self) -> Tensor:
        """[K C]: the latent of each code, with mean 0 and variance 1 over the K codes.

        A channel in which all codes agree is 0. Errors of a flow are alike in all channels of a
        latent, so that is where the nearest is sought, and not in the codebook's own units.
        """
        # computed when asked, never kept: weights are loaded after this was built
        every = torch.arange(self.codes.vocab_size, device=self.device)
        vectors = self.codes.vectors(every[None])[0].float()  # [K C]
        std, mean = torch.std_mean(vectors, 0, correction=0)
        return (vectors - mean) / std.clamp(min=1e-6)
