"""A sequence under construction: columns of tokens with what the mask and RoPE need to know.

B rows, n tokens of one column, S tokens so far, D width, A position axes.

Columns are padded on their own (a short prompt is followed by invalid tokens, then by the image):
invalid tokens are never read and take no position, so the amount of padding changes nothing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from unify.nn.attention import Cache
from unify.nn.masks import CAUSAL, SHARED, Mask
from unify.nn.trunk import Backbone, Tokens


@dataclass
class _Column:
    x: Tensor  # [B n D]
    positions: Tensor  # [B n A]
    mask: Mask
    time: Tensor | None  # [B n D]
    tower: int


class TokenSequence:
    """Tokens in the order in which a trunk reads them."""

    def __init__(self, axes: int):
        self.axes, self.length, self.blocks, self.copies, self.done = axes, 0, 0, 0, 0
        self.columns: list[_Column] = []
        self.next: Tensor | None = None  # [B] position of the next token
        self.apart: Tensor | None = None  # [B] the same among the isolated columns being added

    def add(
        self,
        x: Tensor,
        valid: Tensor | None = None,
        grid: tuple[int, int] | None = None,
        block: bool = False,
        isolated: bool = False,
        time: Tensor | None = None,
        tower: int = 0,
    ) -> slice:
        """Append x [B n D]; returns where it lies along S.

        `grid` (h, w) of image tokens in raster order; `block` makes the column bidirectional
        inside; `isolated` columns next to each other are a copy (a noised image) that all others
        cannot read. They count up among themselves and take no position from what follows, so that
        the clean copy after them has the same ones. `tower`: whose weights they go through, where a
        trunk has several.
        """
        rows, n = x.shape[:2]
        if valid is None:
            valid = torch.ones(rows, n, dtype=torch.bool, device=x.device)
        segment = torch.full((rows, n), self.blocks if block else CAUSAL, device=x.device)
        self.copies += isolated and self.apart is None
        mask = Mask(
            document=torch.zeros_like(segment),
            segment=segment,
            isolated=torch.full_like(segment, self.copies if isolated else SHARED),
            valid=valid,
        )
        self.blocks += block
        positions = self._positions(valid, grid, isolated)
        self.columns.append(_Column(x, positions, mask, time, tower))
        self.length += n
        return slice(self.length - n, self.length)

    def _positions(self, valid: Tensor, grid: tuple[int, int] | None, isolated: bool) -> Tensor:
        """Text counts up on every axis; an image keeps the first and spreads over (row, column)."""
        settled = self.next
        if settled is None:
            settled = torch.zeros(len(valid), dtype=torch.long, device=valid.device)
        start = self.apart if isolated and self.apart is not None else settled
        if grid is None or self.axes == 1:
            steps = (valid.cumsum(1) - 1).clamp(min=0)
            positions = (start[:, None] + steps)[..., None].expand(-1, -1, self.axes)
            used = valid.sum(1)
        else:
            index = torch.arange(valid.shape[1], device=valid.device)
            offsets = torch.stack([0 * index, index // grid[1], index % grid[1]], dim=-1)  # [n 3]
            positions = start[:, None, None] + offsets
            used = valid.any(1) * max(grid)
        self.next, self.apart = (settled, start + used) if isolated else (start + used, None)
        return positions

    def mask(self) -> Mask:
        return Mask.cat([column.mask for column in self.columns])

    def run(self, trunk: Backbone, cache: Cache | None = None) -> Tensor:
        """Hidden states [B S' D] of the tokens added since the last run (all without a cache).

        With a cache the earlier tokens are read from it, and the new ones are kept in it unless it
        is frozen.
        """
        first = self.done if cache is not None else 0
        columns = self.columns[first:]
        start = sum(column.x.shape[1] for column in self.columns[:first])
        if cache is not None and not cache.frozen:
            self.done = len(self.columns)
        mask = self.mask()
        return trunk(_tokens(columns, mask.queries(start) if start else mask), cache)

    def branch(self) -> TokenSequence:
        """A copy that can go on by itself; what is there already is shared."""
        other = copy.copy(self)
        other.columns = list(self.columns)
        return other


def _tokens(columns: list[_Column], mask: Mask) -> Tokens:
    """The columns one after another; time and towers only if some column says them."""
    time = timed = None
    if any(column.time is not None for column in columns):
        times = [c.time if c.time is not None else torch.zeros_like(c.x) for c in columns]
        time = torch.cat(times, dim=1)  # [B S D]
        timed = torch.cat([torch.full_like(c.mask.valid, c.time is not None) for c in columns], 1)
    runs = groupby(columns, key=lambda column: column.tower)
    towers = tuple((tower, sum(c.x.shape[1] for c in run)) for tower, run in runs)
    return Tokens(
        x=torch.cat([column.x for column in columns], dim=1),
        mask=mask,
        positions=torch.cat([column.positions for column in columns], dim=1),
        time=time,
        timed=timed,
        towers=towers if any(column.tower for column in columns) else (),
    )
