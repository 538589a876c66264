"""The reader of worlds whose scenes have one picture each: compares a place with all of them.

B images, K kinds of content of a place (empty, and every shape, colour and size), T templates (each
kind sharp and softened), P numbers in a place (its pixels times 3).

The soft templates are there because what a tokenizer decodes is blurred, and a blurred square is
nearer to a sharp circle than one would think. The limits of reading.py were set by `robustness` on
worlds from the quickstart's to seven shapes, eight colours and three sizes at 16 pixels a place:
all scenes read right up to a blur of 1.25 pixels or white noise of 0.2; none reads wrong up to a
blur of 1.5 pixels and at any noise (at 0.4 all are refused); more blur can turn one small shape
into another.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from unify.data.source import to_tensor
from unify.data.world.reading import SOFT, Fit
from unify.data.world.renderer import Renderer
from unify.data.world.scene import Board, Cell, Pattern, Scene, Thing

VERSION = 1  # raise it whenever a verdict could change


class TemplateReader:
    """Fits the places of a board's plain scenes."""

    def __init__(self, board: Board, renderer: Renderer):
        self.board, self.renderer = board, renderer
        kinds = [Pattern(s, c, z) for s in board.shapes for c in board.colors for z in board.sizes]
        self._things: list[list[Thing | None]] = []  # [T] by place
        self._templates: list[Tensor] = []  # [T P] by place
        self._between: list[Tensor] = []  # [T T] squared distances; inf within a kind
        for cell in board.cells:
            things: list[Thing | None] = [None]
            things += [Thing(cell, str(k.shape), str(k.color), str(k.size)) for k in kinds]
            scenes = [Scene(() if thing is None else (thing,)) for thing in things]
            sharp = torch.stack([to_tensor(renderer.render(scene)) for scene in scenes])
            soft = blur(sharp[1:], SOFT)  # emptiness is never soft
            flat = self._crop(torch.cat([sharp, soft]), cell).flatten(1)
            kind = torch.cat([torch.arange(len(things)), torch.arange(1, len(things))])
            between = torch.cdist(flat, flat).square() / flat.shape[1]
            self._things.append([things[k] for k in kind.tolist()])
            self._templates.append(flat)
            self._between.append(between.masked_fill(kind[:, None] == kind, torch.inf))

    def columns(self, images: Tensor) -> list[list[Fit]]:
        """[B 3 H W] in [-1, 1] -> B fits for each place."""
        return [self._column(images, i) for i in range(len(self.board.cells))]

    def _crop(self, images: Tensor, cell: Cell) -> Tensor:
        rows, columns = self.renderer.box(cell)
        return images[:, :, rows, columns]

    def _column(self, images: Tensor, i: int) -> list[Fit]:
        """Fits of the i-th place of B images."""
        crop = self._crop(images, self.board.cells[i])  # [B 3 h w]
        templates, between, things = self._templates[i], self._between[i], self._things[i]
        squared = torch.cdist(crop.flatten(1), templates).square() / templates.shape[1]  # [B T]
        near, best = squared.min(1)  # [B]
        apart = between[best]  # [B T]
        u = torch.where(apart.isinf(), torch.inf, (squared - near[:, None]) / apart)
        residual = crop - templates[best].view_as(crop)
        spot = F.avg_pool2d(residual, 3, stride=1).abs().amax((1, 2, 3))
        fits = zip(
            best.tolist(),
            u.argmin(1).tolist(),
            near.sqrt().tolist(),
            u.amin(1).tolist(),
            spot.tolist(),
            strict=True,
        )
        return [Fit(things[k], things[rival], *numbers) for k, rival, *numbers in fits]


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [B 3 H W], sigma in pixels."""
    # as long an import as torch itself, and configs are checked without it
    from torchvision.transforms.functional import gaussian_blur

    return gaussian_blur(images, [2 * int(3 * sigma + 1) + 1] * 2, [sigma])
