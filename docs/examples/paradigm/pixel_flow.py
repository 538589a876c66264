"""A paradigm of one's own: a flow on pixels by an MLP.

    L = |v(x_t, t, c) - (x_1 - x_0)|^2    x_0 noise, x_1 the image, c the mean word embedding

The MLP sees one pixel, its place, the time and c: enough to learn which colours a prompt asks for,
not how pixels hang together.

B rows, L text tokens, H x W pixels, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unify.batch import Batch, Text
from unify.flow import guide, integrate, interpolate
from unify.nn.layers import Embedding, sincos_2d
from unify.noise import Noise
from unify.paradigm import ImageRequest, Paradigm, Term, Terms
from unify.tokenizer import TextTokenizer


@dataclass
class PixelSampler:
    """How to draw: the keys of `image_sampling`."""

    guidance: float = 1.0
    steps: int = 8


class PixelFlow(Paradigm):
    """Draws images of any size from prompts; `size`: their side where none is asked for."""

    tasks = frozenset({"text_to_image"})
    terms = frozenset({"flow"})  # the keys of `loss_weights`, and all that `loss` may return
    image_sampler = PixelSampler

    def __init__(self, text: TextTokenizer, width: int = 64, size: int = 32, dropout: float = 0.1):
        super().__init__()
        self.text, self.size, self.dropout = text, size, dropout
        self.embed = Embedding(text.vocab_size, width)
        self.net = nn.Sequential(
            nn.Linear(3 + 1 + 2 * width, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, 3),
        )

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        prompts, images = batch.segments  # conditions first: the target is the last segment
        # in a share of the rows the prompt is None, so that guidance has what it moves away from
        dropped = (noise.uniform("drop") < self.dropout).tolist()
        texts = [None if drop else text for drop, text in zip(dropped, prompts.texts, strict=True)]
        # x0 and t are of the same streams in every paradigm: arms see the same numbers
        x1, t = images.images, noise.t(batch.target_place)  # [B 3 H W], [B]
        xt, velocity = interpolate(noise.x0(batch.target_place, x1.shape[1:]), x1, t)
        error = self.velocity(xt, t, self.words(texts, prompts.length)) - velocity
        return {"flow": Term(error.square().flatten(1).mean(1), t=t)}  # one value per row: [B]

    def words(self, texts: Sequence[Text], length: int = 128) -> Tensor:
        """The mean embedding of each text: [B D]."""
        ids, valid = (part.to(self.device) for part in self.text.encode(texts, length))  # [B L]
        return (self.embed(ids) * valid[..., None]).sum(1) / valid.sum(1, keepdim=True)

    def velocity(self, x: Tensor, t: Tensor, words: Tensor) -> Tensor:
        """dx/dt [B 3 H W] of x at t [B], given words [B D]."""
        h, w = x.shape[-2:]
        pixels = x.flatten(2).transpose(1, 2)  # [B H*W 3]
        place = sincos_2d(h, w, words.shape[-1]).to(x).expand(len(x), -1, -1)  # [B H*W D]
        shared = torch.cat([t[:, None], words], 1)[:, None].expand(-1, h * w, -1)
        out = self.net(torch.cat([pixels, place, shared], -1))
        return out.transpose(1, 2).unflatten(2, (h, w))

    def flops(self, batch: Batch) -> float:
        """Forward and backward (three forwards) of the MLP over every pixel."""
        weights = sum(layer.weight.numel() for layer in self.net if isinstance(layer, nn.Linear))
        return 3.0 * 2 * weights * batch.segments[-1].images[:, 0].numel()

    def sample_image(self, request: ImageRequest, sampler: PixelSampler) -> Tensor:
        h, w = request.size or (self.size, self.size)
        x0 = request.noise(self.device).normal("x0", (3, h, w))  # [B 3 H W]
        prompts = request.prompts or [None] * len(request)
        unguided = [request.negative or [None] * len(request)] if sampler.guidance != 1 else []
        conditions = [self.words(texts) for texts in [*unguided, prompts]]

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            parts = [self.velocity(x, t, words) for words in conditions]
            return guide(parts, [sampler.guidance] * (len(parts) - 1))

        return integrate(velocity, x0, sampler.steps).clamp(-1, 1)
