"""The exact checker: reads an image of the embedded world back into a scene, or says why it cannot.

B images, K kinds of content of a place (empty, and every shape, colour and size), T templates (each
kind sharp and softened), P numbers in a place (its pixels times 3).

Each place is compared with its templates in pixel space; the soft ones are there because what a
tokenizer decodes is blurred, and a blurred square is nearer to a sharp circle than one would think.
Distances are root mean squares on the [-1, 1] scale. With the nearest template a and any template b
of another kind, at distances d_a <= d_b from the image and D_ab from each other,

    u = (d_b^2 - d_a^2) / D_ab^2

is where the image lies on the line between the two: 1 at a, 0 half-way. A place is unreadable when

    far        d_a > FAR                         it looks like nothing of this world
    ambiguous  min over b of u < MARGIN          it is nearly as much something else
    spoiled    a 3 x 3 patch is off by > SPOT    it is a known thing with a flaw

and so is an image with an unreadable place. The thresholds were set by `robustness` on worlds from
the quickstart's to seven shapes, eight colours and three sizes at 16 pixels a place: all scenes
read right up to a blur of 1.25 pixels or white noise of 0.2; none reads wrong up to a blur of 1.5
pixels and at any noise (at 0.4 all are refused); more blur can turn one small shape into another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unify.data.source import to_tensor
from unify.data.world.language import place
from unify.data.world.scene import Cell, Pattern, Scene, Thing
from unify.data.world.streams import World

VERSION = 1  # raise it whenever a verdict could change
FAR = 0.28
MARGIN = 0.3
SPOT = 0.5
SOFT = 1.2  # pixels of blur of the soft templates
CHUNK = 1024  # images compared at once


@dataclass(frozen=True)
class Unreadable:
    """Why an image (or a place of it) is not read."""

    reason: str


Reading = Thing | None | Unreadable  # of a place: a thing, empty, or unreadable


class Checker:
    """Reads images of one world."""

    def __init__(self, world: World):
        self.board, self.renderer = world.board, world.renderer
        board = self.board
        kinds = [Pattern(s, c, z) for s in board.shapes for c in board.colors for z in board.sizes]
        self._things: list[list[Thing | None]] = []  # [T] by place
        self._templates: list[Tensor] = []  # [T P] by place
        self._between: list[Tensor] = []  # [T T] squared distances; inf within a kind
        for cell in board.cells:
            things: list[Thing | None] = [None]
            things += [Thing(cell, str(k.shape), str(k.color), str(k.size)) for k in kinds]
            scenes = [Scene(() if thing is None else (thing,)) for thing in things]
            sharp = torch.stack([to_tensor(self.renderer.render(scene)) for scene in scenes])
            soft = blur(sharp[1:], SOFT)  # emptiness is never soft
            flat = self._crop(torch.cat([sharp, soft]), cell).flatten(1)
            kind = torch.cat([torch.arange(len(things)), torch.arange(1, len(things))])
            between = torch.cdist(flat, flat).square() / flat.shape[1]
            self._things.append([things[k] for k in kind.tolist()])
            self._templates.append(flat)
            self._between.append(between.masked_fill(kind[:, None] == kind, torch.inf))

    def read(self, images: Tensor) -> list[Scene | Unreadable]:
        """[B 3 H W] in [-1, 1] -> B scenes; Unreadable with the first reason where one fails."""
        return [self.scene(places) for places in self.places(images)]

    @staticmethod
    def scene(places: dict[Cell, Reading]) -> Scene | Unreadable:
        """The scene of an image from its places."""
        for reading in places.values():
            if isinstance(reading, Unreadable):
                return reading
        return Scene(tuple(reading for reading in places.values() if isinstance(reading, Thing)))

    def places(self, images: Tensor) -> list[dict[Cell, Reading]]:
        """[B 3 H W] in [-1, 1] -> what stands at each place of each image."""
        side = self.board.pixels
        if images.ndim != 4 or images.shape[1:] != (3, side, side):
            raise ValueError(f"images must be [B 3 {side} {side}], not {tuple(images.shape)}")
        readings: list[dict[Cell, Reading]] = []
        for chunk in images.detach().float().cpu().clamp(-1, 1).split(CHUNK):
            columns = [self._column(chunk, i) for i in range(len(self.board.cells))]
            rows = zip(*columns, strict=True)
            readings += [dict(zip(self.board.cells, row, strict=True)) for row in rows]
        return readings

    def _crop(self, images: Tensor, cell: Cell) -> Tensor:
        rows, columns = self.renderer.box(cell)
        return images[:, :, rows, columns]

    def _column(self, images: Tensor, i: int) -> list[Reading]:
        """Readings of the i-th place of B images."""
        crop = self._crop(images, self.board.cells[i])  # [B 3 h w]
        templates, between = self._templates[i], self._between[i]
        squared = torch.cdist(crop.flatten(1), templates).square() / templates.shape[1]  # [B T]
        near, best = squared.min(1)  # [B]
        apart = between[best]  # [B T]
        u = torch.where(apart.isinf(), torch.inf, (squared - near[:, None]) / apart)
        residual = crop - templates[best].view_as(crop)
        spot = F.avg_pool2d(residual, 3, stride=1).abs().amax((1, 2, 3))
        name = place(self.board, self.board.cells[i])
        verdicts = zip(
            best.tolist(),
            near.sqrt().tolist(),
            u.amin(1).tolist(),
            u.argmin(1).tolist(),
            spot.tolist(),
            strict=True,
        )
        column: list[Reading] = []
        for k, distance, lead, rival, flaw in verdicts:
            thing, other = self._things[i][k], self._things[i][rival]
            if not distance <= FAR:  # nan too
                column.append(Unreadable(f"{name}: far from all templates ({distance:.2f})"))
            elif lead < MARGIN:
                column.append(Unreadable(f"{name}: {_name(thing)} or {_name(other)} ({lead:.2f})"))
            elif flaw > SPOT:
                column.append(Unreadable(f"{name}: {_name(thing)} with a flaw ({flaw:.2f})"))
            else:
                column.append(thing)
        return column


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [B 3 H W], sigma in pixels."""
    # as long an import as torch itself, and configs are checked without it
    from torchvision.transforms.functional import gaussian_blur

    return gaussian_blur(images, [2 * int(3 * sigma + 1) + 1] * 2, [sigma])


def _name(thing: Thing | None) -> str:
    return "nothing" if thing is None else f"{thing.size} {thing.color} {thing.shape}"


def robustness(
    world: World,
    noises: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6),
    blurs: Sequence[float] = (0.5, 1.0, 1.5, 2.0, 3.0),
    n: int = 500,
    seed: int = 0,
) -> list[dict[str, float | str]]:
    """Shares of test scenes read right, wrong and not at all, a row per level of damage.

    Args:
        world: whose scenes are drawn and damaged.
        noises: standard deviations of white noise on the [-1, 1] scale.
        blurs: standard deviations of a Gaussian blur, in pixels.
        n: scenes per level.
        seed: of the noise.

    Returns rows of damage, level, psnr of the damaged images in dB, right, wrong, unreadable.
    """
    checker = Checker(world)
    scenes = [world.scene("test", i) for i in range(n)]
    clean = torch.stack([to_tensor(world.render(scene)) for scene in scenes])
    generator = torch.Generator().manual_seed(seed)
    damaged = {
        ("noise", s): clean + s * torch.randn(clean.shape, generator=generator) for s in noises
    }
    damaged |= {("blur", s): blur(clean, s) for s in blurs}
    table: list[dict[str, float | str]] = []
    for (damage, level), images in damaged.items():
        read = checker.read(images)
        right = sum(a == b for a, b in zip(read, scenes, strict=True))
        unreadable = sum(isinstance(a, Unreadable) for a in read)
        error = (images.clamp(-1, 1) - clean).square().mean()
        counts = {"right": right, "wrong": n - right - unreadable, "unreadable": unreadable}
        row = {name: count / n for name, count in counts.items()}
        psnr = float(10 * torch.log10(4 / error.clamp_min(1e-10)))
        table.append({"damage": damage, "level": level, "psnr": round(psnr, 1), **row})
    return table
