"""Two towers: text tokens and image tokens have weights of their own and read each other.

    x_i <- x_i + O_m softmax_j(q_i k_j / sqrt(d)) v_j     q_i, k_j, v_j: each by its token's tower
    x_i <- x_i + FFN_m(norm_m(x_i))                       m: the tower of token i

One softmax over the joint sequence (LMFusion arXiv:2412.15188, Mixture-of-Transformers
arXiv:2411.04996, BAGEL arXiv:2505.14683). A token goes through one tower, so it costs what it costs
in a single trunk. Tokens are grouped by tower once a pass; in a layer only projections return to
the order of the sequence, where mask, positions and cache are those of any trunk.

B rows, S tokens, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unify.nn.attention import Cache
from unify.nn.frozen import freeze
from unify.nn.masks import Mask
from unify.nn.trunk import (
    IMAGE,
    TEXT,
    Backbone,
    Hidden,
    Runs,
    Tables,
    Tokens,
    Trunk,
    check_mask,
    grows,
)

Separation = Literal["none", "ffn", "full"]
TextTower = Literal["trained", "frozen", "detached"]

# products that are not computed, of the two that a weight has in a backward pass
SAVED = {"trained": 0, "frozen": 1, "detached": 2}


class DualTrunk(Backbone):
    """`text` and a copy of it for image tokens; both start alike.

    Args:
        text: the trunk of the text tower, with weights or without.
        separation: what each tower has of its own. "full": all weights (Mixture-of-Transformers);
            "ffn": feed-forward layers, their norms and the final one (BAGEL's mixture of experts),
            while attention and its norms are those of `text`; "none": nothing, `text` alone.
        text_tower: "frozen" leaves its weights as they are, and losses of text tokens train the
            image tower through what they read of it (LMFusion); "detached" cuts that path as well,
            so that losses of text tokens train nothing (BAGEL's frozen understanding).
    """

    drawn_alike: ClassVar[tuple[str, ...]] = ("text", "image")

    def __init__(
        self, text: Trunk, separation: Separation = "full", text_tower: TextTower = "trained"
    ):
        super().__init__()
        self.separation, self.text_tower = separation, text_tower
        self.saved = SAVED[text_tower]
        self._check(text)
        self.dim, self.depth, self.axes = text.dim, text.depth, text.axes
        self.heads, self.head_dim = text.heads, text.head_dim
        self.text = text
        # starting alike, the image tower brings along what the language model has learned
        self.image = copy.deepcopy(text) if separation != "none" else None
        if self.image is not None and separation == "ffn":
            for block in self.image.blocks:  # those of the text tower serve both
                del block.norm1, block.attention
        if text_tower != "trained":
            freeze(text)

    def _check(self, text: Trunk) -> None:
        if text.time_conditioned:
            raise ValueError("towers: time enters with the patches; make the text tower a Trunk")
        if self.separation == "none" and self.text_tower != "trained":
            raise ValueError(
                f"towers: with separation none the only tower would be {self.text_tower}; set "
                "text_tower to trained or separate the towers"
            )

    @property
    def blocks(self) -> nn.ModuleList:  # type: ignore[override]
        """The blocks of one tower: as many as a token goes through."""
        return self.text.blocks

    @property
    def units(self) -> list[nn.Module]:
        """The modules that compute in one go: attention leaves a tower's block and comes back.

        They are what is sharded and compiled (assembly/sharding.py).
        """
        towers = [self.text] if self.image is None else [self.text, self.image]
        blocks: list[Any] = [block for tower in towers for block in tower.blocks]
        readers = [b.attention for b in blocks if hasattr(b, "attention")]
        return [*(part for r in readers for part in (r.qkv, r.out)), *(b.mlp for b in blocks)]

    def flops(self, tokens: int, pairs: int, images: int | None = None) -> float:
        """Of one tower: a token goes through one."""
        return self.text.flops(tokens, pairs)

    def spared(self, text: int, image: int) -> float:
        """FLOPs that the backward pass saves over so many tokens of each tower, by frozen weights.

        Gradients of the weights, and of their inputs as well if the text is detached.
        """
        saved = self.saved * self.flops(text, 0)
        if self.saved and self.separation == "ffn":  # images go through the text tower's attention
            shared = [p for n, p in self.text.blocks.named_parameters() if ".attention." in n]
            saved += 2.0 * image * sum(p.numel() for p in shared if p.ndim == 2)
        return saved

    def forward(
        self, tokens: Tokens, cache: Cache | None = None, layers: Sequence[int] = ()
    ) -> Hidden:
        if self.image is None or not any(tower == IMAGE for tower, _ in tokens.towers):
            if self.text_tower == "detached":
                tokens = replace(tokens, x=tokens.x.detach())
            return self.text(tokens, cache, layers)
        check_mask(tokens, cache)
        runs, tables = TowerRuns(tokens.towers), self.text.tables(tokens.positions)
        chosen = {0: tokens.x} if 0 in layers else {}
        parts = self._attached(runs.split(tokens.x))  # [B n D] of text, [B m D] of images
        for index in range(self.depth):
            inputs: Any = (index, runs, tokens.mask, tables, cache, *parts)
            if self.text.checkpoint and torch.is_grad_enabled() and not grows(cache):
                parts = checkpoint(self._layer, *inputs, use_reentrant=False)
            else:
                parts = self._layer(*inputs)
            if index + 1 in layers:
                chosen[index + 1] = runs.join(parts)
        hidden = runs.join([self.text.norm(parts[TEXT]), self.image.norm(parts[IMAGE])])
        return (hidden, chosen) if layers else hidden

    def _layer(
        self,
        index: int,
        runs: TowerRuns,
        mask: Mask,
        tables: Tables,
        cache: Cache | None,
        *parts: Tensor,
    ) -> list[Tensor]:
        """Block `index` of both towers: tokens [B n D] and [B m D] to the same."""
        assert self.image is not None
        blocks: tuple[Any, Any] = self.text.blocks[index], self.image.blocks[index]
        readers = blocks if self.separation == "full" else (blocks[TEXT], blocks[TEXT])
        projected = [r.attention.project(r.norm1(x)) for r, x in zip(readers, parts, strict=True)]
        qk, v = (runs.join(pair) for pair in zip(*projected, strict=True))  # [B S .. d]
        # one softmax over the joint sequence: this is all that the towers have in common
        read = readers[TEXT].attention.mix(qk, v, mask, tables, index, cache)  # [B S H*d]
        out = []
        for block, reader, x, mixed in zip(
            blocks, readers, parts, self._attached(runs.split(read)), strict=True
        ):
            x = x + reader.attention.out(mixed)
            out.append(x + block.mlp(block.norm2(x)))
        return out

    def _attached(self, parts: list[Tensor]) -> list[Tensor]:
        """The parts, that of a detached text tower cut off from the gradient.

        Cut at every layer: else the gradient of a later text token would pass through the
        attention of an earlier layer into the image tower.
        """
        if self.text_tower != "detached":
            return parts
        return [parts[TEXT].detach(), parts[IMAGE]]


class TowerRuns:
    """Takes a sequence apart into the tokens of each tower, and puts it together again.

    By runs of neighbours, which are the same in every row: slices, and no gather by index.
    """

    def __init__(self, towers: Runs):
        self.towers, self.lengths = [t for t, _ in towers], [n for _, n in towers]

    def split(self, x: Tensor) -> list[Tensor]:
        """[B S ...] -> tokens of the text tower [B n ...] and of the image tower [B m ...]."""
        pieces = list(zip(self.towers, x.split(self.lengths, 1), strict=True))
        chosen = ([piece for t, piece in pieces if t == tower] for tower in (TEXT, IMAGE))
        return [torch.cat(own or [x[:, :0]], 1) for own in chosen]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The inverse of `split`."""
        runs = list(zip(self.towers, self.lengths, strict=True))
        pieces = [
            iter(part.split([n for t, n in runs if t == tower], 1))
            for tower, part in enumerate(parts)
        ]
        return torch.cat([next(pieces[tower]) for tower in self.towers], 1)
