"""Codes of a continuous tokenizer's latents: next token, or masked codes, over what a flow draws.

    code = quantizer(inward(f(x)))        x' = g(outward(the code's vector))        f, g as they are

f and g, encoder and decoder of the tokenizer inside, are frozen; two linear maps of p x p cells and
the quantizer learn to give its latents z back, so that what is lost is lost between z and z'.

    latent      mean (z - z')^2 over the C h w numbers of a row, of which z has about unit variance
    codebook    what the quantizer asks for (unify/tokenizers/vq.py)

B rows, C channels of a latent, h x w grid of latents, p x p of its cells to a code, L codes.
"""

from typing import Any

from torch import Tensor, nn

from unify.batch import Batch
from unify.nn.conv import row_mean
from unify.nn.flops import counted
from unify.nn.frozen import freeze
from unify.noise import Noise
from unify.paradigm import Term, Terms, Trainable
from unify.support.ranges import Count
from unify.tokenizer import ContinuousTokenizer, DiscreteTokenizer, inference
from unify.tokenizers.vq import Quantizer


class QuantisedLatents(DiscreteTokenizer, Trainable):
    """A code for each p x p cells of `latents`, whose weights come from a run of their own.

    The codes have vectors (`unify.tokenizers.code_vectors`): those that the quantizer compares.
    """

    tasks = frozenset({"image"})
    terms = frozenset({"latent", "codebook"})

    def __init__(self, latents: ContinuousTokenizer, quantizer: Quantizer, patch: Count = 1):
        super().__init__()
        self.latents, self.quantizer = freeze(latents), quantizer
        self.inward = nn.Conv2d(latents.channels, quantizer.dim, patch, stride=patch)
        self.outward = nn.ConvTranspose2d(quantizer.dim, latents.channels, patch, stride=patch)
        self.stride, self.vocab_size = latents.stride * patch, quantizer.vocab_size
        self.dim = quantizer.dim

    def requires_grad_(self, requires_grad: bool = True) -> "QuantisedLatents":
        super().requires_grad_(requires_grad)
        freeze(self.latents)  # whatever is asked of the whole
        return self

    def settings(self) -> dict[str, Any]:
        inside = {"latents": self.latents.content_hash()}  # its own settings, too
        return {"stride": self.stride, **inside, **self.quantizer.settings()}

    def share_updates(self, add_up: Any) -> None:
        self.quantizer.share_updates(add_up)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        latents = self._latents(batch.segments[0].images)
        copies, codebook = self.reconstruct(latents)
        error = row_mean((copies.float() - latents).square())
        return {"latent": Term(error), "codebook": Term(codebook)}

    def reconstruct(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """latents [B C h w] -> what their codes give back, and the quantizer's loss [B]."""
        quantised, _, codebook = self.quantizer(self.inward(latents))
        return self.outward(quantised), codebook

    def flops(self, batch: Batch) -> float:
        """Forward and backward of the maps, forward alone of what is frozen or compared."""
        images = batch.segments[0].images[:1]
        encoding = counted(lambda: self._latents(images))
        h, w = self.latents.grid(*images.shape[-2:])
        latents = images.new_zeros(1, self.latents.channels, h, w)
        once = counted(lambda: self.reconstruct(latents))
        each = counted(lambda: self.inward(latents))  # the other map costs as much
        # backward: two products of the map outward, and of the one inward that by its weight
        return len(batch) * (encoding + once + 3 * each)

    def _latents(self, images: Tensor) -> Tensor:
        self.grid(*images.shape[-2:])  # a checked image size
        return self.latents.encode(images)

    @inference
    def encode(self, images: Tensor) -> Tensor:
        _, codes, _ = self.quantizer(self.inward(self._latents(images)))  # [B h/p w/p]
        return codes.flatten(1)

    @inference
    def decode(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.latents.decode(self.outward(self.quantizer.lookup(codes.unflatten(1, grid))))

    @inference
    def vectors(self, codes: Tensor) -> Tensor:
        return self.quantizer.lookup(codes[:, None]).squeeze(2).transpose(1, 2)  # from [B C 1 L]
