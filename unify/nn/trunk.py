"""The trunk: embeddings in, hidden states out. It neither embeds nor predicts.

    x <- x + attention(norm(x))        rotary positions, grouped key-value heads
    x <- x + swiglu(norm(x))           then a final norm: Llama's block (arXiv:2302.13971)

`Backbone` is the contract that a paradigm asks for; `Trunk` is ours, `TimedTrunk` conditions chosen
tokens on the flow time, and a pretrained language model is in pretrained.py.

B rows, S new tokens, D width, A position axes, H heads, G key-value heads, d numbers of a head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unify.nn.attention import Cache, attend, rope_tables, rotate
from unify.nn.layers import Linear, RMSNorm, SwiGLU, ZeroLinear, modulate
from unify.nn.masks import Mask

Hidden = Tensor | tuple[Tensor, dict[int, Tensor]]
Runs = tuple[tuple[int, int], ...]  # (tower, number of tokens), one after another


class Backbone(nn.Module, ABC):
    """What a paradigm needs of a transformer."""

    dim: int
    depth: int
    heads: int
    head_dim: int
    axes: int  # position axes
    blocks: nn.ModuleList  # every token is multiplied with every matrix in here
    time_conditioned: ClassVar[bool] = False  # whether `time` is read

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        mask: Mask,
        positions: Tensor,
        cache: Cache | None = None,
        time: Tensor | None = None,
        timed: Tensor | None = None,
        layers: Sequence[int] = (),
        towers: Runs = (),
    ) -> Hidden:
        """Embeddings x [B S D] at positions [B S A], or [B S] on all axes -> normed hidden [B S D].

        With a `cache`, the S tokens come after those it holds: `mask` covers both and its `start`
        is the cache's length. `time` [B S D] conditions the tokens `timed` [B S] (bool; None: all)
        and is ignored by a backbone that is not `time_conditioned`. With `layers`, a pair: the
        hidden states, and a dict of those after so many blocks (0: the input; not normed).
        `towers` says which tower each of the S tokens goes through, in every row the same (none:
        the first), and is ignored by a backbone that has only one.
        """

    def flops(self, tokens: int, pairs: int) -> float:
        """Of a forward pass: products with weights, and scores and sums over the mask's `pairs`."""
        weights = sum(p.numel() for p in self.blocks.parameters() if p.ndim == 2)
        return 2.0 * weights * tokens + 4.0 * pairs * self.head_dim * self.heads * self.depth

    def cache(self, capacity: int = 0) -> Cache:
        """An empty cache, with room for `capacity` tokens at first."""
        return Cache(self.depth, capacity)


def check_mask(x: Tensor, mask: Mask, cache: Cache | None) -> None:
    """ValueError if the mask is not of the cached and the new tokens."""
    past = cache.length if cache is not None else 0
    if (mask.start, mask.keys) != (past, past + x.shape[1]):
        raise ValueError(
            f"a mask of {mask.keys} tokens, read from {mask.start} on, does not fit {past} cached "
            f"and {x.shape[1]} new tokens; see Mask.cat and Mask.queries"
        )


def grows(cache: Cache | None) -> bool:
    """Whether a pass appends to the cache: recomputing it for checkpointing would do so again."""
    return cache is not None and not cache.frozen


class Attention(nn.Module):
    def __init__(self, trunk: Trunk):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = trunk.heads, trunk.kv_heads, trunk.head_dim
        self.qk_norm = trunk.qk_norm
        width, rows = trunk.heads * trunk.head_dim, trunk.heads + 2 * trunk.kv_heads
        self.qkv = Linear(trunk.dim, rows * trunk.head_dim, bias=trunk.qkv_bias)
        self.out = Linear(width, trunk.dim, scale=(2 * trunk.depth) ** -0.5)
        self.q_norm = RMSNorm(trunk.head_dim, trunk.norm_eps) if trunk.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(trunk.head_dim, trunk.norm_eps) if trunk.qk_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        tables: tuple[Tensor, Tensor],
        layer: int,
        cache: Cache | None,
    ) -> Tensor:
        return self.out(self.mix(*self.project(x), mask, tables, layer, cache))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B S D] -> queries and keys [B S H+G d], not yet rotated, and values [B S G d]."""
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # [B S H+2G d]
        qk, v = heads.split([self.heads + self.kv_heads, self.kv_heads], 2)
        if self.qk_norm:
            q, k = qk.transpose(1, 2).float().split([self.heads, self.kv_heads], 1)
            qk = torch.cat([self.q_norm(q), self.k_norm(k)], 1).transpose(1, 2)
        return qk, v

    def mix(
        self,
        qk: Tensor,
        v: Tensor,
        mask: Mask,
        tables: tuple[Tensor, Tensor],
        layer: int,
        cache: Cache | None,
    ) -> Tensor:
        """Projections of S tokens -> what each has read, [B S H*d]."""
        qk, v = qk.transpose(1, 2).to(tables[0].dtype), v.transpose(1, 2)  # [B .. S d]
        q, k = rotate(qk, *tables).split([self.heads, self.kv_heads], 1)
        if cache is not None:
            k, v = cache.extend(layer, k.to(v.dtype), v)
        return attend(q, k, v, mask).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """One layer; `index` is its place in the cache."""

    def __init__(self, trunk: Trunk, index: int):
        super().__init__()
        self.index = index
        self.norm1 = RMSNorm(trunk.dim, trunk.norm_eps)
        self.attention = Attention(trunk)
        self.norm2 = RMSNorm(trunk.dim, trunk.norm_eps)
        self.mlp = SwiGLU(trunk.dim, trunk.hidden, scale=(2 * trunk.depth) ** -0.5)

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        tables: tuple[Tensor, Tensor],
        cache: Cache | None,
        time: Tensor | None,
        timed: Tensor | None,
    ) -> Tensor:
        x = x + self.attention(self.norm1(x), mask, tables, self.index, cache)
        return x + self.mlp(self.norm2(x))


class TimedBlock(Block):
    """Shift, scale and gate of both halves from the token's time (adaLN-zero, arXiv:2212.09748).

    A gate is 1 + its output, so that the zero-initialised layer leaves the plain block as it is,
    and a token that is not `timed` always goes through the plain block.
    """

    def __init__(self, trunk: Trunk, index: int):
        super().__init__(trunk, index)
        self.adaln = ZeroLinear(trunk.dim, 6 * trunk.dim)

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        tables: tuple[Tensor, Tensor],
        cache: Cache | None,
        time: Tensor | None,
        timed: Tensor | None,
    ) -> Tensor:
        if time is None:
            return super().forward(x, mask, tables, cache, time, timed)
        settings = self.adaln(nn.functional.silu(time))  # [B S 6D]
        if timed is not None:
            settings = settings.masked_fill(~timed[..., None], 0)
        shift1, scale1, gate1, shift2, scale2, gate2 = settings.chunk(6, -1)
        attended = self.attention(
            modulate(self.norm1(x), shift1, scale1), mask, tables, self.index, cache
        )
        x = x + (1 + gate1) * attended
        return x + (1 + gate2) * self.mlp(modulate(self.norm2(x), shift2, scale2))


class Trunk(Backbone):
    """A stack of Llama blocks and a final norm.

    `sections` are the shares of a head's rotary pairs that follow each position axis (None: one
    axis); `hidden` defaults to 8/3 of `dim`, rounded up to a multiple of 32; `head_dim` to
    dim / heads; `checkpoint` recomputes activations in the backward pass to save memory.
    """

    block: ClassVar[type[Block]] = Block

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        kv_heads: int | None = None,
        hidden: int | None = None,
        head_dim: int | None = None,
        qk_norm: bool = False,
        qkv_bias: bool = False,
        rope_theta: float = 10000.0,
        sections: list[int] | None = None,
        norm_eps: float = 1e-6,
        checkpoint: bool = False,
    ):
        super().__init__()
        self.dim, self.depth, self.heads = dim, depth, heads
        self.kv_heads = kv_heads or heads
        self.head_dim = head_dim or dim // heads
        self.hidden = hidden or -(-8 * dim // (3 * 32)) * 32
        self.qk_norm, self.qkv_bias, self.norm_eps = qk_norm, qkv_bias, norm_eps
        self.rope_theta, self.sections = rope_theta, sections or [1]
        self.axes, self.checkpoint = len(self.sections), checkpoint
        self._check()
        self.blocks = nn.ModuleList(self.block(self, index) for index in range(depth))
        self.norm = RMSNorm(dim, norm_eps)

    def _check(self) -> None:
        if self.head_dim == self.dim // self.heads and self.dim % self.heads:
            raise ValueError(f"trunk: dim {self.dim} does not divide into {self.heads} heads")
        if self.heads % self.kv_heads:
            raise ValueError(
                f"trunk: {self.heads} heads do not share {self.kv_heads} kv_heads evenly"
            )
        if self.head_dim % 2 or (self.head_dim // 2) % sum(self.sections):
            raise ValueError(
                f"trunk: the {self.head_dim / 2:g} rotary pairs of a head do not divide into "
                f"shares of {self.sections}; change heads or sections"
            )

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        positions: Tensor,
        cache: Cache | None = None,
        time: Tensor | None = None,
        timed: Tensor | None = None,
        layers: Sequence[int] = (),
        towers: Runs = (),
    ) -> Hidden:
        check_mask(x, mask, cache)
        tables = self.tables(positions)
        chosen = {0: x} if 0 in layers else {}
        for count, block in enumerate(self.blocks, 1):
            inputs = (x, mask, tables, cache, time, timed)
            if self.checkpoint and torch.is_grad_enabled() and not grows(cache):
                x = checkpoint(block, *inputs, use_reentrant=False)
            else:
                x = block(*inputs)
            if count in layers:
                chosen[count] = x
        return (self.norm(x), chosen) if layers else self.norm(x)

    def tables(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Rotary tables of every layer for positions [B S A], or [B S] on all axes."""
        if positions.ndim == 2:
            positions = positions[..., None].expand(-1, -1, self.axes)
        return rope_tables(positions, self.head_dim, self.rope_theta, self.sections)


class TimedTrunk(Trunk):
    """A trunk whose blocks are conditioned on `time` where a token is `timed`."""

    block: ClassVar[type[Block]] = TimedBlock
    time_conditioned: ClassVar[bool] = True
