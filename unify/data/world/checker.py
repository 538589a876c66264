"""The exact checker: reads an image of the embedded world back into a scene, or says why it cannot.

B images. Each place is read by itself: in a world without looks by its nearest template
(templates.py), in one with looks by fitting where a thing stands, how large, and its colours
(fitting.py). What is then refused is in reading.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unify.data.source import to_tensor
from unify.data.world.fitting import FittingReader
from unify.data.world.language import place
from unify.data.world.reading import MARGIN, Fit, Nearest, Reading, Unreadable
from unify.data.world.scene import Cell, Scene, Thing
from unify.data.world.streams import World
from unify.data.world.templates import TemplateReader, blur

CHUNK = 1024  # images compared at once
MARGINS = (0.0, 0.1, 0.2, 0.3)  # of the curve: from the nearest reading to that of `read`


class Checker:
    """Reads images of one world."""

    def __init__(self, world: World):
        self.board = world.board
        self.reader: TemplateReader | FittingReader = (
            FittingReader(world.board, world.looks)
            if world.looks
            else TemplateReader(world.board, world.renderer)
        )

    def read(self, images: Tensor) -> list[Scene | Unreadable]:
        """[B 3 H W] in [-1, 1] -> B scenes; Unreadable with the first reason where one fails."""
        return [self.scene(places) for places in self.places(images)]

    def nearest(self, images: Tensor) -> list[Nearest]:
        """[B 3 H W] in [-1, 1] -> the scene that each image is nearest to."""
        return [Nearest.of(fits) for fits in self.fits(images)]

    @staticmethod
    def scene(places: dict[Cell, Reading]) -> Scene | Unreadable:
        """The scene of an image from its places."""
        for reading in places.values():
            if isinstance(reading, Unreadable):
                return reading
        return Scene(tuple(reading for reading in places.values() if isinstance(reading, Thing)))

    def places(self, images: Tensor, margin: float = MARGIN) -> list[dict[Cell, Reading]]:
        """[B 3 H W] in [-1, 1] -> what stands at each place of each image."""
        return [self.readings(fits, margin) for fits in self.fits(images)]

    def readings(self, fits: dict[Cell, Fit], margin: float = MARGIN) -> dict[Cell, Reading]:
        """What stands at each place of an image, from its fits."""
        return {c: fit.reading(place(self.board, c), margin) for c, fit in fits.items()}

    def fits(self, images: Tensor) -> list[dict[Cell, Fit]]:
        """[B 3 H W] in [-1, 1] -> the fit of each place of each image."""
        side = self.board.pixels
        if images.ndim != 4 or images.shape[1:] != (3, side, side):
            raise ValueError(f"images must be [B 3 {side} {side}], not {tuple(images.shape)}")
        fits: list[dict[Cell, Fit]] = []
        for chunk in images.detach().float().cpu().clamp(-1, 1).split(CHUNK):
            rows = zip(*self.reader.columns(chunk), strict=True)
            fits += [dict(zip(self.board.cells, row, strict=True)) for row in rows]
        return fits


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

    Returns rows of damage, level, psnr of the damaged images in dB, right, wrong, unreadable; and
    `right at <margin>` for each of MARGINS.
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
        fits = checker.fits(images)
        read = [checker.scene(checker.readings(fit)) for fit in fits]
        right = sum(a == b for a, b in zip(read, scenes, strict=True))
        unreadable = sum(isinstance(a, Unreadable) for a in read)
        error = (images.clamp(-1, 1) - clean).square().mean()
        counts = {"right": right, "wrong": n - right - unreadable, "unreadable": unreadable}
        row = {name: count / n for name, count in counts.items()}
        for margin in MARGINS:
            taken = [Nearest.of(fit).at_margin(margin) for fit in fits]
            hits = sum(a == b for a, b in zip(taken, scenes, strict=True))
            row[f"right at {margin}"] = hits / n
        psnr = float(10 * torch.log10(4 / error.clamp_min(1e-10)))
        table.append({"damage": damage, "level": level, "psnr": round(psnr, 1), **row})
    return table
