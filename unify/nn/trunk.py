"""The trunk: embeddings in, hidden states out. It neither embeds nor predicts.

    x <- x + attention(norm(x))        rotary positions, grouped key-value heads
    x <- x + swiglu(norm(x))           then a final norm: Llama's block (arXiv:2302.13971)

`Tokens` is what a trunk reads and `Backbone` the contract. `Trunk` is ours, `TimedTrunk` conditions
chosen tokens on the flow time; two towers are in towers.py, language models in pretrained.py.
B rows, S new tokens, D width, A position axes, H heads, G key-value heads, d numbers of a head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unify.nn.attention import Cache, attend, rope_tables, rotate
from unify.nn.flops import matrices
from unify.nn.layers import Linear, RMSNorm, SwiGLU, ZeroLinear, modulate
from unify.nn.masks import Mask
from unify.support.ranges import Count, CountOrZero, Positive

Hidden = Tensor | tuple[Tensor, dict[int, Tensor]]
Tables = tuple[Tensor, Tensor]  # cosines and sines of rotary positions, [B 1 S d] each
TEXT, IMAGE = 0, 1  # towers, or layers, of tokens
Runs = tuple[tuple[int, int], ...]  # (tower, number of tokens), one after another


@dataclass(frozen=True)
class Tokens:
    """S new tokens of B rows. A backbone ignores `time` and `towers` if it has no use for them.

    Args:
        x: embeddings [B S D].
        mask: who reads whom, over the cached tokens and these; it starts where the cache ends.
        positions: [B S A] by axis, or [B S], the same on every axis.
        time: embeddings [B S D] of the flow time, for the tokens `timed` [B S] (bool; None: all).
        towers: which of the S tokens are TEXT and which IMAGE, alike in all rows; (): all TEXT.
    """

    x: Tensor
    mask: Mask
    positions: Tensor
    time: Tensor | None = None
    timed: Tensor | None = None
    towers: Runs = ()


class Backbone(nn.Module, ABC):
    """The transformer that a paradigm asks for."""

    dim: int
    depth: int
    heads: int
    head_dim: int
    axes: int  # position axes
    blocks: nn.ModuleList  # every token is multiplied with every matrix in here
    time_conditioned: ClassVar[bool] = False  # true if `time` is read

    @abstractmethod
    def forward(
        self, tokens: Tokens, cache: Cache | None = None, layers: Sequence[int] = ()
    ) -> Hidden:
        """Hidden states [B S D] of the tokens, after the final norm.

        Args:
            tokens: the new tokens; they come after those that the cache holds.
            cache: keys and values of earlier tokens; those of the new ones are appended to it.
            layers: also return a dict of the hidden states, not normed, after so many blocks
                (0: the input).
        """

    def flops(self, tokens: int, pairs: int, images: int | None = None) -> float:
        """FLOPs of a forward pass: 2 for each weight and token, 4 d for each pair and head;
        `images` of the tokens are of images. ValueError for a subclass with further matrices."""
        # a pair (query, key) that the mask allows: one product for its score, one for its sum
        scores = 4.0 * pairs * self.head_dim * self.heads * self.depth
        return 2.0 * matrices(self, self.blocks) * tokens + scores

    def cache(self, capacity: int = 0) -> Cache:
        """An empty cache, with room for `capacity` tokens at first."""
        return Cache(self.depth, capacity)


def check_mask(tokens: Tokens, cache: Cache | None) -> None:
    """Raise ValueError unless the mask covers exactly the cached and the new tokens."""
    past, new, mask = cache.length if cache is not None else 0, tokens.x.shape[1], tokens.mask
    if (mask.start, mask.keys) != (past, past + new):
        raise ValueError(
            f"a mask of {mask.keys} tokens, read from {mask.start} on, does not fit {past} cached "
            f"and {new} new tokens; see Mask.cat and Mask.queries"
        )


def grows(cache: Cache | None) -> bool:
    """True if a pass appends to the cache: recomputing it would append a second time."""
    return cache is not None and not cache.frozen


class Attention(nn.Module):
    """Self-attention with grouped key-value heads (arXiv:2305.13245)."""

    def __init__(self, trunk: Trunk):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = trunk.heads, trunk.kv_heads, trunk.head_dim
        self.qk_norm = trunk.qk_norm
        width, rows = trunk.heads * trunk.head_dim, trunk.heads + 2 * trunk.kv_heads
        self.qkv = Linear(trunk.dim, rows * trunk.head_dim, bias=trunk.qkv_bias)
        # scaled for the 2 depth branches that the residual stream sums at the start (GPT-2)
        self.out = Linear(width, trunk.dim, scale=(2 * trunk.depth) ** -0.5)
        # keep scores from growing until the softmax is one-hot (arXiv:2302.05442)
        self.q_norm = RMSNorm(trunk.head_dim, trunk.norm_eps) if trunk.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(trunk.head_dim, trunk.norm_eps) if trunk.qk_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        tables: Tables,
        layer: int,
        cache: Cache | None,
    ) -> Tensor:
        # in two halves, since two towers project apart and meet in one softmax (towers.py)
        return self.out(self.mix(*self.project(x), mask, tables, layer, cache))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B S D] -> queries and keys [B S H+G d], not yet rotated, and values [B S G d]."""
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # [B S H+2G d]
        qk, v = heads.split([self.heads + self.kv_heads, self.kv_heads], 2)
        if self.qk_norm:
            q, k = qk.transpose(1, 2).float().split([self.heads, self.kv_heads], 1)  # [B .. S d]
            qk = torch.cat([self.q_norm(q), self.k_norm(k)], 1).transpose(1, 2)  # [B S H+G d]
        return qk, v

    def mix(
        self, qk: Tensor, v: Tensor, mask: Mask, tables: Tables, layer: int, cache: Cache | None
    ) -> Tensor:
        """Projections of S tokens -> for each its weighted sum of values, [B S H*d]."""
        (q, k), v = self.rotated(qk.transpose(1, 2), tables), v.transpose(1, 2)  # [B .. S d]
        if cache is not None:
            # keys are kept rotated: their positions never change
            k, v = cache.extend(layer, k.to(v.dtype), v)  # [B G past+S d]
        return attend(q, k, v, mask).transpose(1, 2).flatten(2)  # [B H S d] -> [B S H*d]

    def rotated(self, qk: Tensor, tables: Tables) -> Sequence[Tensor]:
        """Queries and keys together, [B H+G S d] -> queries [B H S d] and keys [B G S d]."""
        # in the tables' fp32: bfloat16 cannot tell neighbours at far positions apart
        turned = rotate(qk.to(tables[0].dtype), *tables)
        return turned.split([self.heads, self.kv_heads], 1)


class Block(nn.Module):
    """One layer, normed before each half; `index` is its place in the cache."""

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
        tables: Tables,
        cache: Cache | None,
        time: Tensor | None,
        timed: Tensor | None,
    ) -> Tensor:
        # The norms stand inside the branches: x itself is a plain sum, through which the gradient
        # reaches every layer undiminished (arXiv:2002.04745).
        x = x + self.attention(self.norm1(x), mask, tables, self.index, cache)
        return x + self.mlp(self.norm2(x))


class TimedBlock(Block):
    """A block with shift, scale and gate from a token's time (adaLN-zero, arXiv:2212.09748).

        x <- x + (1 + g1) attention((1 + s1) norm(x) + b1)      (b1, s1, g1, b2, s2, g2) = W silu(t)
        x <- x + (1 + g2) swiglu((1 + s2) norm(x) + b2)

    W starts at zero, and a gate is 1 + g instead of the paper's g: at first this is the plain
    block, and for a token that is not `timed`, as text is, it always is.
    """

    def __init__(self, trunk: Trunk, index: int):
        super().__init__(trunk, index)
        self.adaln = ZeroLinear(trunk.dim, 6 * trunk.dim)

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        tables: Tables,
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

    Args:
        heads: query heads H; `kv_heads` (default: as many) must divide it.
        hidden: width of the MLP; default 8/3 `dim`, rounded up to a multiple of 32: SwiGLU's three
            matrices then have the weights of a plain MLP's two of width 4 `dim`.
        head_dim: numbers of a head; default dim / heads. `qk_norm` is Qwen3's, `qkv_bias` Qwen2's.
        sections: shares of a head's rotary pairs that turn with each position axis; None: one axis.
        checkpoint: recompute activations in the backward pass to save memory.
    """

    block: ClassVar[type[Block]] = Block

    def __init__(
        self,
        dim: Count,
        depth: CountOrZero,
        heads: Count,
        kv_heads: Count | None = None,
        hidden: Count | None = None,
        head_dim: Count | None = None,
        qk_norm: bool = False,
        qkv_bias: bool = False,
        rope_theta: Positive = 10000.0,
        sections: list[Count] | None = None,
        norm_eps: Positive = 1e-6,
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
            raise ValueError(f"trunk: kv_heads {self.kv_heads} does not divide {self.heads} heads")
        if self.head_dim % 2 or (self.head_dim // 2) % sum(self.sections):
            raise ValueError(
                f"trunk: the {self.head_dim / 2:g} rotary pairs of a head do not divide into "
                f"shares of {self.sections}; change heads or sections"
            )

    def forward(
        self, tokens: Tokens, cache: Cache | None = None, layers: Sequence[int] = ()
    ) -> Hidden:
        check_mask(tokens, cache)
        x, tables = tokens.x, self.tables(tokens.positions)
        chosen = {0: x} if 0 in layers else {}
        for count, block in enumerate(self.blocks, 1):
            # plain tensors: blocks are compiled, sharded and recomputed
            inputs = (x, tokens.mask, tables, cache, tokens.time, tokens.timed)
            if self.checkpoint and torch.is_grad_enabled() and not grows(cache):
                x = checkpoint(block, *inputs, use_reentrant=False)
            else:
                x = block(*inputs)
            if count in layers:
                chosen[count] = x
        # the stream grows with every branch; heads and flows want inputs of one size
        return (self.norm(x), chosen) if layers else self.norm(x)

    def tables(self, positions: Tensor) -> Tables:
        """Rotary tables 2 x [B 1 S d], the same for every layer."""
        if positions.ndim == 2:
            positions = positions[..., None].expand(-1, -1, self.axes)
        return rope_tables(positions, self.head_dim, self.rope_theta, self.sections)


class TimedTrunk(Trunk):
    """A trunk whose blocks are conditioned on the flow time, for tokens that are `timed`."""

    block: ClassVar[type[Block]] = TimedBlock
    time_conditioned: ClassVar[bool] = True
