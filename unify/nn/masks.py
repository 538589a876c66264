"""Who may read whom: a mask is four ids per token and one rule.

    q reads k  iff  same document, k valid,
                    k <= q or both in the same bidirectional segment,
                    and not (k in an isolated copy and q outside it);
    every token reads itself, so that a padding row never gives NaN.

With one segment per image this is Transfusion's mask (arXiv:2408.11039), with none it is causal,
with one over everything it is full attention. A noised image with a clean copy after it is
an *isolated* copy, delimiters included: nothing outside it reads it (BAGEL, arXiv:2505.14683).

Ids and not a matrix: they grow with S instead of S^2, and one rule gives the dense mask, the block
mask of FlexAttention, the bias of xformers and the pairs that FLOPs are counted by.

B rows, S tokens (keys), Sq tokens from `start` on (queries), H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CAUSAL = -1  # the segment of a token that belongs to no bidirectional block
SHARED = -1  # the copy of a token that belongs to no isolated copy


@dataclass
class Mask:
    """The ids of S tokens; its dense and block forms are built once and kept."""

    document: Tensor  # [B S] long
    segment: Tensor  # [B S] long; CAUSAL, or k >= 0 = k-th bidirectional block
    isolated: Tensor  # [B S] long; SHARED, or k >= 0 = k-th isolated copy
    valid: Tensor  # [B S] bool: a real token, not padding
    start: int = 0  # first query: with a cache, queries are start..S and keys 0..S
    built: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def causal(cls, valid: Tensor) -> Mask:
        """One document of causal tokens; `valid` [B S] bool."""
        zero = torch.zeros_like(valid, dtype=torch.long)
        return cls(zero, zero + CAUSAL, zero + SHARED, valid)

    @classmethod
    def full(cls, valid: Tensor, segment: int = 0, isolated: int = SHARED) -> Mask:
        """One bidirectional block; `valid` [B S] bool."""
        zero = torch.zeros_like(valid, dtype=torch.long)
        return cls(zero, zero + segment, zero + isolated, valid)

    @classmethod
    def cat(cls, masks: Sequence[Mask]) -> Mask:
        """Tokens one after another; ids are kept as they are, queries start at the first token."""
        document, segment, isolated, valid = (
            torch.cat(columns, 1) for columns in zip(*(m.ids for m in masks), strict=True)
        )
        return cls(document, segment, isolated, valid)

    @property
    def ids(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.document, self.segment, self.isolated, self.valid

    @property
    def keys(self) -> int:
        return self.valid.shape[1]

    def queries(self, start: int) -> Mask:
        """The same tokens, read by those from `start` on only."""
        return replace(self, start=start)

    def rows(self, index: Tensor | slice) -> Mask:
        """Some of the rows, in any order and any number of times."""
        document, segment, isolated, valid = (ids[index] for ids in self.ids)
        return Mask(document, segment, isolated, valid, self.start)

    def mod(self, b: Tensor, h: Tensor | int, q: Tensor, k: Tensor) -> Tensor:
        """True where query q of row b reads key k: the rule, in FlexAttention's signature.

        The indices may have any shapes that broadcast; `h` is a head, and all heads read alike.
        """
        q = q + self.start
        pairs = ((ids[b, q], ids[b, k]) for ids in self.ids)
        return _reads(q, k, *pairs)

    def dense(self) -> Tensor:
        """[B 1 Sq S] bool, true where the query reads the key: the reference."""
        if "dense" not in self.built:
            place = torch.arange(self.keys, device=self.valid.device)
            # slices: indexing would copy, and a decoding step has a mask of its own
            pairs = ((ids[:, self.start :, None], ids[:, None]) for ids in self.ids)
            self.built["dense"] = _reads(place[self.start :, None], place, *pairs)[:, None]
        return self.built["dense"]

    def letters(self) -> str:
        """A letter for each token of the first row: t (causal), b (in a bidirectional block), i (in
        an isolated copy), - (padding)."""
        kinds = torch.where(self.isolated >= 0, 2, torch.where(self.segment >= 0, 1, 0))
        tokens = zip(kinds[0].tolist(), self.valid[0].tolist(), strict=True)
        return "".join("tbi"[kind] if valid else "-" for kind, valid in tokens)

    def block(self) -> Any:
        """FlexAttention's `BlockMask` of the same rule, which skips whole blocks of 128 x 128."""
        if "block" not in self.built:
            from torch.nn.attention.flex_attention import create_block_mask

            device, (rows, keys) = self.valid.device, self.valid.shape
            self.built["block"] = create_block_mask(
                lambda b, h, q, k: self.mod(b, h, q, k),  # it refuses bound methods
                B=rows,
                H=None,
                Q_LEN=keys - self.start,
                KV_LEN=keys,
                device=device,
                _compile=device.type == "cuda",
            )
        return self.built["block"]

    def bias(self, dtype: torch.dtype) -> Tensor:
        """[B 1 Sq S]: 0 where the query reads the key, else -inf, to be added to the scores."""
        name = f"bias {dtype}"
        if name not in self.built:
            dense = self.dense()
            room = F.pad(dense, (0, -self.keys % 8))  # xformers' kernels read 8 keys at a time
            bias = torch.zeros(room.shape, dtype=dtype, device=room.device)
            self.built[name] = bias.masked_fill_(~room, float("-inf"))[..., : self.keys]
        return self.built[name]

    def bias_of_groups(self, dtype: torch.dtype, groups: int, each: int) -> Tensor:
        """The same for products batched by groups of heads, [B*groups each*Sq S]: row by row,
        group by group, and within a group for each of its heads."""
        name = f"bias {dtype} {groups} {each}"
        if name not in self.built:
            bias = self.bias(dtype)[:, :, None].expand(-1, groups, each, -1, -1)
            self.built[name] = bias.flatten(2, 3).flatten(0, 1)
        return self.built[name]

    def pairs(self) -> int:
        """Number of (query, key) pairs that are read, over the whole batch, to count FLOPs."""
        return int(self.dense().sum())


Pair = tuple[Tensor, Tensor]  # the same id, of queries and of keys


def _reads(q: Tensor, k: Tensor, document: Pair, segment: Pair, copy: Pair, valid: Pair) -> Tensor:
    """The rule, for places q and k of any shapes that broadcast."""
    in_block = (segment[0] == segment[1]) & (segment[1] >= 0)
    readable = valid[1] & (document[0] == document[1])
    hidden = (copy[1] >= 0) & (copy[0] != copy[1])
    # a softmax over no key at all would be NaN, and spread from padding to every gradient
    return (q == k) | (readable & ((k <= q) | in_block) & ~hidden)
