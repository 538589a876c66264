"""A text as a latent of an image's shape, and what keeps the text in it (arXiv:2412.15213).

    z0 = mean + exp(logvar / 2) eps     mean and logvar [B C h w] from the tokens of the text

B rows, L text tokens, V vocabulary, D width, C channels, h x w latent grid, p patch side,
P = (h/p)(w/p) places.

The encoder reads the tokens, which see each other, and one token for each place of the latent,
which sees the text and the other places and becomes the p x p cells of its place. Invalid tokens
are not read, so the amount of padding changes nothing, and any text gets a latent of any size.
(The paper flattens the padded sequence into one linear map: bound to one length and one size, and
its padding leaks into the latent.)
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from unify.nn.conv import row_mean
from unify.nn.flops import scored
from unify.nn.layers import Embedding, Linear, patchify, sincos_2d, unpatchify
from unify.nn.losses import per_row, token_nll
from unify.nn.sequence import TokenSequence
from unify.nn.trunk import Backbone
from unify.nn.vision import VisionEncoder
from unify.support.ranges import Count, NotNegative
from unify.tokenizer import TextTokenizer


class Posterior(ABC):
    """The distribution of a latent that the encoder's output stands for.

    The output is `moments` [B mC h w], m numbers for each of the latent, the mean first.
    """

    moments: ClassVar[int]

    @abstractmethod
    def sample(self, moments: Tensor, eps: Tensor) -> Tensor:
        """A latent [B C h w] from standard normal numbers of its shape; eps = 0 gives the mean."""

    def divergence(self, moments: Tensor) -> Tensor:
        """Distance from the prior N(0, 1), [B]; exactly 0 where there is none."""
        return moments.new_zeros(len(moments))


class Deterministic(Posterior):
    """z = mean."""

    moments = 1

    def sample(self, moments: Tensor, eps: Tensor) -> Tensor:
        return moments


class Noised(Posterior):
    """z = mean + std eps, with one fixed std."""

    moments = 1

    def __init__(self, std: NotNegative = 1.0):
        self.std = std

    def sample(self, moments: Tensor, eps: Tensor) -> Tensor:
        return moments + self.std * eps


class Variational(Posterior):
    """z = mean + exp(logvar / 2) eps, held near N(0, 1).

    `kl`: the divergence of Gaussians (the paper), or `mu6`, which its released code has instead:
    flat in the mean up to about 3, then a wall. Both are nats per number of the latent, so weight
    w on their sums over a row (1e-4 in the paper) is weight w C h w here.
    """

    moments = 2

    def __init__(self, kl: Literal["gaussian", "mu6"] = "gaussian"):
        self.kl = kl

    def sample(self, moments: Tensor, eps: Tensor) -> Tensor:
        mean, logvar = moments.chunk(2, 1)
        return mean + (0.5 * logvar).exp() * eps

    def divergence(self, moments: Tensor) -> Tensor:
        mean, logvar = moments.chunk(2, 1)
        pull = mean.square() if self.kl == "gaussian" else (0.3 * mean).pow(6)
        return row_mean(0.5 * (pull + logvar.expm1() - logvar))


class TextEncoder(nn.Module):
    """Tokens -> moments of a latent."""

    own_text: TextTokenizer | None = None  # the only one whose ids it reads

    def __init__(
        self,
        trunk: Backbone,
        posterior: Posterior,
        vocab_size: Count,
        channels: Count,
        patch: Count = 2,
    ):
        super().__init__()
        self.trunk, self.posterior = trunk, posterior
        self.vocab_size, self.channels, self.patch = vocab_size, channels, patch
        self.embed: nn.Module = Embedding(vocab_size, trunk.dim)
        self.head = Linear(trunk.dim, posterior.moments * channels * patch**2)

    def forward(self, ids: Tensor, valid: Tensor, grid: tuple[int, int]) -> Tensor:
        """ids and valid [B L] -> moments [B mC h w], fp32, of a latent with grid (h, w)."""
        cells = places(grid, self.patch)
        cell_tokens = sincos_2d(*cells, self.trunk.dim).to(ids.device)  # [P D]
        sequence = TokenSequence(self.trunk.axes)
        sequence.add(self.inward(ids, valid), valid, block=True)
        where = sequence.add(cell_tokens.expand(len(ids), -1, -1), grid=cells, block=True)
        hidden = sequence.run(self.trunk)[:, where]
        latent = unpatchify(self.head(hidden), grid, self.patch)
        return latent.to(torch.promote_types(latent.dtype, torch.float32))

    def inward(self, ids: Tensor, valid: Tensor) -> Tensor:
        """ids and valid [B L] -> tokens [B L D] of the trunk."""
        return self.embed(ids)

    def training_flops(self, length: int, grid: tuple[int, int]) -> float:
        """FLOPs of forward and backward over one row."""
        return 3.0 * self.flops(length, grid)

    def flops(self, length: int, grid: tuple[int, int]) -> float:
        """FLOPs of a forward pass over one row."""
        cells = math.prod(places(grid, self.patch))
        total = length + cells
        pairs = scored(length**2 + cells * total, total, total)
        return self.trunk.flops(total, pairs) + 2.0 * self.head.weight.numel() * cells


class TextDecoder(nn.Module):
    """A latent -> logits of all tokens at once: the i-th reads the latent and the places before i.

    Places say no token, so tokens are independent given the latent, and how many are asked for
    changes none of them.
    """

    def __init__(self, trunk: Backbone, vocab_size: Count, channels: Count, patch: Count = 2):
        super().__init__()
        self.trunk, self.vocab_size, self.channels = trunk, vocab_size, channels
        self.patch = patch
        self.inward = Linear(channels * patch**2, trunk.dim)
        self.outward = Linear(trunk.dim, vocab_size)

    def forward(self, latents: Tensor, length: int) -> Tensor:
        """latents [B C h w] -> logits [B length V]."""
        h, w = latents.shape[-2:]
        cells = places((h, w), self.patch)
        x = self.inward(patchify(latents, self.patch))  # [B P D]
        sequence = TokenSequence(self.trunk.axes)
        sequence.add(x + sincos_2d(*cells, self.trunk.dim).to(x.device), grid=cells, block=True)
        queries = sincos_2d(1, length, self.trunk.dim).to(x.device)  # [length D]
        where = sequence.add(queries.expand(len(x), -1, -1))
        return self.outward(sequence.run(self.trunk)[:, where])

    def nll(self, latents: Tensor, ids: Tensor, valid: Tensor) -> Tensor:
        """Mean over a row's tokens after `bos`, in nats: ids and valid [B L] -> [B]."""
        answer = ids[:, 1:]
        return per_row(token_nll(self(latents, answer.shape[1]), answer), valid[:, 1:])

    def flops(self, length: int, grid: tuple[int, int]) -> float:
        """FLOPs of a forward pass over one row."""
        cells = math.prod(places(grid, self.patch))
        total = cells + length
        pairs = scored(cells**2 + length * cells + length * (length + 1) // 2, total, total)
        ends = self.inward.weight.numel() * cells + self.outward.weight.numel() * length
        return self.trunk.flops(total, pairs) + 2.0 * ends


class Regulariser(nn.Module, ABC):
    """Keeps what the text says in its latent."""

    @abstractmethod
    def forward(
        self, z0: Tensor, ids: Tensor, valid: Tensor, images: Tensor, same: Tensor
    ) -> Tensor:
        """A loss per row [B]: latents z0 [B C h w] of texts [B L], the images [B 3 H W] that they
        describe, and which rows may be compared, same [B B]."""

    @abstractmethod
    def flops(self, length: int, grid: tuple[int, int], images: Tensor) -> float:
        """FLOPs of forward and backward over images [B 3 H W] and texts of `length` tokens, without
        those of comparing rows, which are few."""


class Contrast(nn.Module):
    """Symmetric InfoNCE among the rows of a group (CLIP, arXiv:2103.00020), a value per row.

    The mean over rows is CLIP's loss with the group as its batch. A row alone has exactly 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.empty(1))  # a scalar could not be cut (sharding.py)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.logit_scale, math.log(1 / 0.07))

    def forward(self, one: Tensor, other: Tensor, same: Tensor) -> Tensor:
        """one and other [B N], same [B B] -> [B]."""
        with torch.autocast(one.device.type, enabled=False):
            # scores go up to 100: half precision would round away what tells rows apart
            dtype = torch.promote_types(one.dtype, other.dtype)
            dtype = torch.promote_types(dtype, torch.float32)
            one, other = (nn.functional.normalize(x.to(dtype), dim=-1) for x in (one, other))
            scale = self.logit_scale.exp().clamp(max=100).to(dtype)
            scores = scale * one @ other.T  # [B B]
            scores = scores.masked_fill(~same, -torch.inf)
            towards, back = (x.log_softmax(1).diagonal() for x in (scores, scores.T))
            return -(towards + back) / 2


class ImageText(Regulariser):
    """Contrast of the latent with the image's features (the paper's choice).

    `vision`, trained along, is averaged over its tokens and mapped to the latent's C h w `numbers`.
    """

    def __init__(self, vision: VisionEncoder, numbers: Count):
        super().__init__()
        self.vision, self.numbers = vision, numbers
        self.project = Linear(vision.dim, numbers)
        self.contrast = Contrast()

    def forward(
        self, z0: Tensor, ids: Tensor, valid: Tensor, images: Tensor, same: Tensor
    ) -> Tensor:
        if z0[0].numel() != self.numbers:
            raise ValueError(
                f"regulariser.numbers is {self.numbers}, but a latent has {z0[0].numel()}; set it "
                f"to {z0[0].numel()}"
            )
        seen = self.project(self.vision(images).mean(1))  # [B h'w' D] -> [B N]
        return self.contrast(z0.flatten(1), seen, same)

    def flops(self, length: int, grid: tuple[int, int], images: Tensor) -> float:
        seen = self.vision.flops(*images.shape[-2:]) + 2.0 * self.project.weight.numel()
        return 3.0 * len(images) * seen


class TextText(Regulariser):
    """Contrast of the latent with another encoder's mean latent of the same text."""

    def __init__(self, encoder: TextEncoder):
        super().__init__()
        self.encoder, self.contrast = encoder, Contrast()

    def forward(
        self, z0: Tensor, ids: Tensor, valid: Tensor, images: Tensor, same: Tensor
    ) -> Tensor:
        moments = self.encoder(ids, valid, (z0.shape[-2], z0.shape[-1]))
        other = self.encoder.posterior.sample(moments, torch.zeros_like(z0))
        return self.contrast(z0.flatten(1), other.flatten(1), same)

    def flops(self, length: int, grid: tuple[int, int], images: Tensor) -> float:
        return len(images) * self.encoder.training_flops(length, grid)


class Reconstruction(Regulariser):
    """The text's tokens, read back from the latent."""

    def __init__(self, decoder: TextDecoder):
        super().__init__()
        self.decoder = decoder

    def forward(
        self, z0: Tensor, ids: Tensor, valid: Tensor, images: Tensor, same: Tensor
    ) -> Tensor:
        return self.decoder.nll(z0, ids, valid)

    def flops(self, length: int, grid: tuple[int, int], images: Tensor) -> float:
        return 3.0 * len(images) * self.decoder.flops(length - 1, grid)


def check_fit(name: str, part: TextEncoder | TextDecoder, vocab_size: int, channels: int) -> None:
    """ValueError if an encoder or decoder of texts does not fit the two tokenizers."""
    for key, needed in (("vocab_size", vocab_size), ("channels", channels)):
        if (has := getattr(part, key)) != needed:
            raise ValueError(
                f"{name}.{key} is {has}, but the tokenizer has {needed}; set it to {needed}"
            )


def places(grid: tuple[int, int], patch: int) -> tuple[int, int]:
    """Patches along height and width of a latent."""
    h, w = grid
    if h % patch or w % patch:
        raise ValueError(f"a {h}x{w} latent does not divide into patches of {patch}; change patch")
    return h // patch, w // patch
