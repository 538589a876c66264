"""A token sequence under construction: columns of tokens with their mask ids and positions.

B rows, n tokens of one column, S tokens so far, D width, A position axes.

    positions    prompt 0 1 2 -   boi 3   patches 4 + (0, row, column)   eoi 4 + max(h, w)

Columns are padded on their own (a short prompt is followed by invalid tokens, then by the image):
invalid tokens are never read and take no position, so the amount of padding changes nothing, and
no row has to be packed to the left.

An image that another is drawn from, a reference, is an image like any other (`order`), or lies
beside the target, whose patches are at o + (0, row, column), and takes no position itself:

    shared    o + (0, row, column)    the places of the target (an edit keeps most of them)
    offset    o + (1, row, column)    the same one step away, whatever image it is (FLUX-Kontext)
    frame     o + (i, row, column)    the i-th reference i steps away (Qwen-Image's frames)
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from unify.nn.attention import Cache
from unify.nn.masks import CAUSAL, SHARED, Mask
from unify.nn.trunk import TEXT, Backbone, Tokens

References = Literal["order", "shared", "offset", "frame"]


@dataclass
class _Column:
    """n tokens of every row, added together."""

    x: Tensor  # [B n D]
    positions: Tensor  # [B n A]
    mask: Mask
    time: Tensor | None  # [B n D]
    tower: int


class TokenSequence:
    """Tokens in the order in which a trunk reads them; `axes` are its position axes.

    While it is `joined`, which it has to be from its first column on, all columns are one
    bidirectional block, texts and delimiters too. With `references` other than "order" images are
    references until `begin_target`, which has to come before the first run.
    """

    def __init__(self, axes: int, joined: bool = False, references: References = "order"):
        self.axes, self.joined, self.length = axes, joined, 0  # tokens so far, S
        self.references = references
        self.waiting: list[_Column] = []  # references without an origin yet
        self.blocks = self.copies = 0  # ids that the next bidirectional block, and copy, will have
        self.done = 0  # columns that a cache holds
        self.held: Mask | None = None  # their mask
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
        tower: int = TEXT,
    ) -> slice:
        """Append a column of tokens.

        Args:
            x: embeddings [B n D].
            valid: [B n] bool, false for padding; None: all valid.
            grid: (h, w) of image tokens in raster order; None: they count up as text does.
            block: make the column bidirectional inside.
            isolated: hide the column from all others. Isolated columns next to each other are one
                copy (a noised image). They take no position from what follows, so that the clean
                copy after them has the same ones.
            time: embeddings [B n D] of the flow time; None: not timed.
            tower: TEXT or IMAGE, for trunks that treat the two apart.

        Returns:
            The place of the column along S.
        """
        rows, n = x.shape[:2]
        if valid is None:
            valid = torch.ones(rows, n, dtype=torch.bool, device=x.device)
        own = 0 if self.joined else self.blocks  # the block that it would be in
        block = block or self.joined
        segment = torch.full((rows, n), own if block else CAUSAL, device=x.device)
        self.copies += isolated and self.apart is None  # the first column of a copy
        mask = Mask(
            document=torch.zeros_like(segment),
            segment=segment,
            isolated=torch.full_like(segment, self.copies if isolated else SHARED),
            valid=valid,
        )
        self.blocks = own + 1 if block else self.blocks
        beside = grid is not None and self.references != "order"
        positions = _spread(valid, grid) if beside else self._positions(valid, grid, isolated)
        self.columns.append(_Column(x, positions, mask, time, tower))
        if beside:
            self.waiting.append(self.columns[-1])
        self.length += n
        return slice(self.length - n, self.length)

    def _positions(self, valid: Tensor, grid: tuple[int, int] | None, isolated: bool) -> Tensor:
        """Positions [B n A] of the next column; what follows starts after the largest of them.

        Text counts up on every axis; an image keeps the first axis and spreads over the other two
        by row and column (M-RoPE, arXiv:2409.12191), so that neighbours in the picture are
        neighbours in position however wide it is.
        """
        settled = self.next
        if settled is None:
            settled = torch.zeros(len(valid), dtype=torch.long, device=valid.device)
        start = self.apart if isolated and self.apart is not None else settled
        if grid is None or self.axes == 1:
            steps = (valid.cumsum(1) - 1).clamp(min=0)
            positions = (start[:, None] + steps)[..., None].expand(-1, -1, self.axes)
            used = valid.sum(1)  # padding takes no position
        else:
            positions = start[:, None, None] + _spread(valid, grid)
            used = valid.any(1) * max(grid)  # an absent image takes none
        self.next, self.apart = (settled, start + used) if isolated else (start + used, None)
        return positions

    def begin_target(self) -> None:
        """The conditions are complete: what is appended next is the image that is drawn of them."""
        for index, column in enumerate(self.waiting, 1):
            assert self.next is not None  # its delimiters took positions
            away = {"order": 0, "shared": 0, "offset": 1, "frame": index}[self.references]
            step = torch.tensor([away, 0, 0], device=self.next.device)
            # one on from what is next, which is the target's boi
            column.positions = column.positions + self.next[:, None, None] + 1 + step
        self.references, self.waiting = "order", []

    def mask(self) -> Mask:
        """The mask of all tokens so far."""
        return Mask.cat([column.mask for column in self.columns])

    def run(self, trunk: Backbone, cache: Cache | None = None) -> Tensor:
        """Run the trunk over the tokens added since the last run; over all without a cache.

        With a cache the earlier tokens are read from it, and the new ones are kept in it unless it
        is frozen. Returns their hidden states [B S' D].
        """
        assert not self.waiting, "begin_target comes before the first run"
        if cache is None:
            return trunk(_tokens(self.columns, self.mask()), None)
        columns, held = self.columns[self.done :], self.held
        masks = [column.mask for column in columns]
        # of what the cache holds in one piece: to decode n tokens one by one joins O(n) pieces
        mask = Mask.cat(masks if held is None else [held, *masks])
        if not cache.frozen:
            self.done, self.held = len(self.columns), mask
        return trunk(_tokens(columns, mask if held is None else mask.queries(held.keys)), cache)

    def reader(self, trunk: Backbone) -> Callable[[Callable[[TokenSequence], slice]], Tensor]:
        """A function to read what follows these tokens, any number of times; nothing is kept.

        It takes a function that appends to a sequence and returns a place there, and returns the
        hidden states [B n D] of that place.
        """
        # Causal tokens never depend on what follows: one pass serves all. Joined with what follows,
        # they are read anew each time.
        cache: Cache | None = None
        if not self.joined:
            cache = trunk.cache()
            self.run(trunk, cache)
            cache = cache.view()
        start = 0 if cache is None else self.length

        def read(add: Callable[[TokenSequence], slice]) -> Tensor:
            branch = self.branch()
            where = add(branch)
            return branch.run(trunk, cache)[:, where.start - start : where.stop - start]

        return read

    def with_tokens(self, where: slice, x: Tensor, time: Tensor | None) -> TokenSequence:
        """A branch whose column at `where` has other embeddings, x and time [B n D]."""
        other, start = self.branch(), 0
        for index, column in enumerate(self.columns):
            if start == where.start:
                other.columns[index] = replace(column, x=x, time=time)
            start += column.x.shape[1]
        return other

    def branch(self) -> TokenSequence:
        """A copy that can be continued by itself; the columns so far are shared."""
        other = copy.copy(self)
        other.columns = list(self.columns)
        return other


def with_axes(references: References, axes: int) -> References:
    """The same. ValueError where a trunk's positions have too few axes for it."""
    if references != "order" and axes == 1:
        raise ValueError(
            f"references: {references} tells places by row and column; give the trunk three "
            "position axes (sections: [2, 1, 1])"
        )
    return references


def _spread(valid: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """(0, row, column) of the tokens of a grid in raster order, for valid [B n]: [B n 3]."""
    assert grid is not None
    index = torch.arange(valid.shape[1], device=valid.device)
    places = torch.stack([0 * index, index // grid[1], index % grid[1]], dim=-1)  # [n 3]
    return places.expand(len(valid), -1, -1)


def _tokens(columns: list[_Column], mask: Mask) -> Tokens:
    """The columns one after another, with time and towers if any column has them."""
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
