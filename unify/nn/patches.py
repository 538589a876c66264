"""Latents to tokens and back.

B rows, C channels, h x w latent grid, p patch side, P = (h/p)(w/p) tokens, D width.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unify.nn.conv import Residual
from unify.nn.flops import counted
from unify.nn.layers import Linear, TimeEmbedding, ZeroLinear, patchify, sincos_2d, unpatchify
from unify.support.ranges import Count
from unify.tokenizer import ContinuousTokenizer


def token_grid(h: int, w: int, patch: int, key: str) -> tuple[int, int]:
    """Tokens along height and width of a latent; `key` names the setting of `patch`."""
    if h % patch or w % patch:
        raise ValueError(
            f"a {h}x{w} latent does not divide into patches of {patch}; change the image size, "
            f"the tokenizer's stride or {key}"
        )
    return h // patch, w // patch


def size_of(latents: Tensor) -> tuple[int, int]:
    """(h, w) of latents [B C h w]."""
    h, w = latents.shape[-2:]
    return h, w


def over_cells(t: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """Numbers of tokens [B P] on a grid -> of the cells of their patches, [B 1 h w]."""
    cells = t.unflatten(1, grid)[:, None]
    return cells.repeat_interleave(patch, 2).repeat_interleave(patch, 3)


def _of_tokens(time: Tensor, x: Tensor) -> Tensor:
    """Embeddings of one time a row [B D], or of one a token, -> [B P D] as the tokens x."""
    return (time[:, None] if time.ndim == 2 else time).expand_as(x)


class Patches(nn.Module, ABC):
    """Tokens of a (noised) latent with their time and place, and a latent from hidden states."""

    channels: int
    patch: int

    @abstractmethod
    def tokens(self, latents: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """latents [B C h w] at time t [B], or at that of each token [B P] -> tokens [B P D], time
        embedding [B P D], skip.

        The time is added to the tokens and returned as well, for trunks whose blocks are
        conditioned on it; `skip` is handed to `latents`.
        """

    @abstractmethod
    def latents(self, hidden: Tensor, skip: Tensor, grid: tuple[int, int]) -> Tensor:
        """hidden [B P D] -> [B C h w], grid = (h, w); zero at initialisation."""

    def grid(self, h: int, w: int) -> tuple[int, int]:
        """Tokens along height and width."""
        return token_grid(h, w, self.patch, "patches.patch")

    def flops(self, grid: tuple[int, int], back: bool = True, times: int = 1) -> float:
        """FLOPs of one latent with grid (h, w) to tokens, its time embedding included.

        `back`: and from tokens to a latent again; `times`: one for all tokens, or as many as these.
        """
        like = next(self.parameters())
        latents = like.new_zeros(1, self.channels, *grid)
        t = like.new_zeros(1) if times == 1 else like.new_zeros(1, times)

        def run() -> None:
            tokens, _, skip = self.tokens(latents, t)
            if back:
                self.latents(tokens, skip, grid)

        return counted(run)


class LinearPatches(Patches):
    """One linear map in, one out (Transfusion's plain variant)."""

    def __init__(self, channels: Count, dim: Count, patch: Count = 2):
        super().__init__()
        self.channels, self.patch, self.dim = channels, patch, dim
        self.inward = Linear(channels * patch**2, dim)
        self.time = TimeEmbedding(dim)
        self.outward = ZeroLinear(dim, channels * patch**2)  # velocity 0 is the best first guess

    def tokens(self, latents: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, w = self.grid(*latents.shape[-2:])
        x = self.inward(patchify(latents, self.patch))  # [B C h w] -> [B P D]
        time = _of_tokens(self.time(t), x)
        # rotary positions are relative: only these say where on the canvas a patch lies
        return x + time + sincos_2d(h, w, self.dim).to(x), time, latents

    def latents(self, hidden: Tensor, skip: Tensor, grid: tuple[int, int]) -> Tensor:
        return unpatchify(self.outward(hidden), grid, self.patch)


class ConvPatches(Patches):
    """A small U-Net around the trunk: residual blocks and a strided convolution in, the mirror
    image out, with a long skip (Transfusion's U-Net variant)."""

    def __init__(self, channels: Count, dim: Count, patch: Count = 2, width: Count = 64):
        super().__init__()
        self.channels, self.patch, self.dim = channels, patch, dim
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.before = Residual(width)
        self.down = nn.Conv2d(width, dim, patch, stride=patch)
        self.time = TimeEmbedding(dim)
        self.up = nn.ConvTranspose2d(dim, width, patch, stride=patch)
        self.join = nn.Conv2d(2 * width, width, 3, padding=1)
        self.after = Residual(width)
        self.head = ZeroLinear(width, channels)

    def tokens(self, latents: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, w = self.grid(*latents.shape[-2:])
        skip = self.before(self.stem(latents))  # [B width h w]
        x = self.down(skip).flatten(2).transpose(1, 2)  # [B P D]
        time = _of_tokens(self.time(t), x)
        return x + time + sincos_2d(h, w, self.dim).to(x), time, skip

    def latents(self, hidden: Tensor, skip: Tensor, grid: tuple[int, int]) -> Tensor:
        h, w = self.grid(*grid)
        x = hidden.transpose(1, 2).unflatten(2, (h, w))  # [B P D] -> [B D h/p w/p]
        x = self.after(self.join(F.silu(torch.cat([self.up(x), skip.to(x)], dim=1))))
        return self.head(x.movedim(1, -1)).movedim(-1, 1)


def check_channels(patches: Patches, image: ContinuousTokenizer) -> None:
    """ValueError for patches of other latents than the tokenizer's."""
    if patches.channels != image.channels:
        raise ValueError(
            f"patches.channels is {patches.channels}, but the image tokenizer has "
            f"{image.channels}; set it to {image.channels}"
        )
