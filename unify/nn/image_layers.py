"""Layers for image tokens alone, before and after those of a language model (X-Omni,
arXiv:2507.22058): a text goes through what it went through before, an image through more.

    image tokens   before -> trunk -> after -> a norm of their own
    text tokens              trunk -> the trunk's norm

A text token passes the further layers unchanged, and image tokens read it there as elsewhere.
B rows, S tokens, D width.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unify.nn.attention import Cache
from unify.nn.layers import RMSNorm
from unify.nn.masks import Mask
from unify.nn.towers import IMAGE, TEXT, TowerRuns
from unify.nn.trunk import Backbone, Block, Hidden, Tables, Tokens, Trunk, check_mask, grows
from unify.nn.words import LanguageTrunk
from unify.support.ranges import CountOrZero


class ImageLayers(Backbone):
    """`trunk` between further layers of its form, for the tokens of images alone.

    Args:
        trunk: with weights or without; the time of a flow enters with the patches.
        before, after: number of further layers.
    """

    def __init__(
        self, trunk: Trunk | LanguageTrunk, before: CountOrZero = 1, after: CountOrZero = 1
    ):
        super().__init__()
        form = _form_of(trunk)
        if before + after == 0:
            raise ValueError("image_layers: before and after are 0; use the trunk itself")
        self.trunk, self.depth = trunk, before + trunk.depth + after
        self.checkpoint = form.checkpoint
        self.words = getattr(trunk, "words", None)  # a record, whose tables the paradigm takes over
        self.dim, self.axes = trunk.dim, trunk.axes
        self.heads, self.head_dim = trunk.heads, trunk.head_dim
        # places in the cache that come after the trunk's own
        places = range(trunk.depth, self.depth)
        self.before = nn.ModuleList(Block(form, place) for place in places[:before])
        self.after = nn.ModuleList(Block(form, place) for place in places[before:])
        self.norm = RMSNorm(form.dim, form.norm_eps)

    @property
    def blocks(self) -> nn.ModuleList:  # type: ignore[override]
        """Those that every token goes through."""
        return self.trunk.blocks

    @property
    def units(self) -> list[nn.Module]:
        """The modules that compute in one go: texts leave a further layer between its halves."""
        own: list[Any] = [*self.before, *self.after]
        parts = [(b.attention.qkv, b.attention.out, b.mlp) for b in own]
        return [*self.trunk.blocks, *(part for each in parts for part in each)]

    def flops(self, tokens: int, pairs: int, images: int | None = None) -> float:
        if images is None:
            raise ValueError(
                "image_layers: this paradigm does not say which of its tokens are of images; use "
                "these layers in ar_vq, masked, masked_text, mar, transfusion or semantic_first"
            )
        flops = self.trunk.flops(tokens, pairs)
        for block in (*self.before, *self.after) if images else ():
            qkv = block.attention.qkv.weight.numel()
            rest = sum(p.numel() for p in block.parameters() if p.ndim == 2) - qkv
            flops += 2.0 * (qkv * tokens + rest * images)
            flops += 4.0 * pairs * self.heads * self.head_dim
        return flops

    def forward(
        self, tokens: Tokens, cache: Cache | None = None, layers: Sequence[int] = ()
    ) -> Hidden:
        check_mask(tokens, cache)
        runs = TowerRuns(tokens.towers or ((TEXT, tokens.x.shape[1]),))
        settings = runs, tokens.mask, _form_of(self.trunk).tables(tokens.positions), cache
        x, states = tokens.x, [tokens.x]
        for block in self.before:
            x = self._further(block, x, *settings)
            states.append(x)
        first, last = len(self.before), self.trunk.depth
        inner = {n - first for n in layers if first < n < first + last} | {last}
        hidden, inside = self.trunk(replace(tokens, x=x), cache, sorted(inner))
        states += [inside.get(n, x) for n in range(1, last + 1)]
        x = inside[last]
        for block in self.after:
            x = self._further(block, x, *settings)
            states.append(x)
        hidden = runs.join([runs.split(hidden)[TEXT], self.norm(runs.split(x)[IMAGE])])
        return (hidden, {n: states[n] for n in layers}) if layers else hidden

    def _further(
        self, block: Any, x: Tensor, runs: TowerRuns, mask: Mask, tables: Tables, cache: Any
    ) -> Tensor:
        """A further layer over x [B S D]: tokens of texts are read in it and stay as they are."""
        if IMAGE not in runs.towers and not grows(cache):  # nobody there who reads
            return x
        inputs = block, x, runs, mask, tables, cache
        if self.checkpoint and torch.is_grad_enabled() and not grows(cache):
            return checkpoint(_over_images, *inputs, use_reentrant=False)
        return _over_images(*inputs)


def _form_of(trunk: Trunk | LanguageTrunk) -> Trunk:
    """The trunk itself, or that of the language model. ValueError if its layers are others."""
    form = trunk.body if isinstance(trunk, LanguageTrunk) else trunk
    if not isinstance(form, Trunk) or form.time_conditioned:
        raise ValueError(
            f"image_layers: a {type(form).__name__} has no plain layers to add more of; use a "
            "Trunk, or a language model that has one"
        )
    return form


def _over_images(
    block: Block, x: Tensor, runs: TowerRuns, mask: Mask, tables: Tables, cache: Cache | None
) -> Tensor:
    texts, images = runs.split(x)
    projected = block.attention.project(block.norm1(x))
    read = block.attention.mix(*projected, mask, tables, block.index, cache)  # [B S H*d]
    images = images + block.attention.out(runs.split(read)[IMAGE])
    return runs.join([texts, images + block.mlp(block.norm2(images))])
