"""Draws scenes of the embedded world: images and depth maps, uint8 [H W 3].

A thing without a look is averaged over 8 x 8 points of a pixel, and its sprite is kept, so that
drawing a scene is copying a few small arrays. A thing with a look stands anywhere in its place: its
pixels are averages of the signed distance to its outline, and change continuously with it.
"""

import numpy as np

from unify.data.world.outlines import LEVELS, REACH, SHAPES
from unify.data.world.scene import (
    BACKGROUND,
    COLORS,
    SIZES,
    Board,
    Cell,
    Color,
    Scene,
    Thing,
)

RADIUS = 0.84  # of half a cell: leaves a gap between neighbours
POINTS = 8  # coverage points of a pixel along one side
SOFT_POINTS = 2  # the same where the edges of coverage are soft


class Renderer:
    """Draws the scenes of a board."""

    def __init__(self, board: Board):
        self.board = board
        self._edges = [round(i * board.pixels / board.grid) for i in range(board.grid + 1)]
        self._masks: dict[tuple[Cell, str, str], np.ndarray] = {}
        self._sprites: dict[Thing, np.ndarray] = {}  # of things without looks alone
        self._middles: dict[tuple[Cell, np.dtype], tuple[np.ndarray, np.ndarray]] = {}

    def box(self, cell: Cell) -> tuple[slice, slice]:
        """The pixels (rows, columns) of a place; the places tile the image."""
        (row, column), edges = cell, self._edges
        return slice(edges[row], edges[row + 1]), slice(edges[column], edges[column + 1])

    def coverage(self, cell: Cell, shape: str, size: str) -> np.ndarray:
        """Share of each pixel of the place that the shape covers, [h w]."""
        key = (cell, shape, size)
        if key not in self._masks:
            side = self.board.pixels / self.board.grid
            radius = RADIUS * side / 2 * SIZES[size]
            rows, columns = self.box(cell)
            y = _points(rows) - (cell[0] + 0.5) * side
            x = _points(columns) - (cell[1] + 0.5) * side
            inside = SHAPES[shape](*np.broadcast_arrays(x[None] / radius, y[:, None] / radius))
            fine = inside.reshape(len(y) // POINTS, POINTS, len(x) // POINTS, POINTS)
            self._masks[key] = fine.mean((1, 3))
        return self._masks[key]

    def mask(self, thing: Thing) -> np.ndarray:
        """Share of each pixel of its place that a thing covers as it looks, [h w].

        A thing that an edit made larger is moved as far as it must to stay within its place.
        """
        look = thing.look
        if look is None:
            return self.coverage(thing.cell, thing.shape, thing.size)
        side = self.board.pixels / self.board.grid
        room = room_of(thing.shape, thing.size, look.scale)
        right, down = (max(-room, min(room, shift)) * side for shift in (look.right, look.down))
        radius = RADIUS * side / 2 * SIZES[thing.size] * look.scale
        place = np.array([[right], [down], [radius]])
        return self.soft_coverage(thing.cell, thing.shape, *place)[0]

    def soft_coverage(
        self, cell: Cell, shape: str, right: np.ndarray, down: np.ndarray, radius: np.ndarray
    ) -> np.ndarray:
        """Coverage by N shapes, [N h w] in their precision, continuous in each of the three.

        Args:
            right, down: from the middle of the place, in pixels, [N].
            radius: in pixels, [N].
        """
        x, y = self._soft_points(cell, right.dtype)
        r = radius[:, None, None]
        x, y = (x - right[:, None])[:, None] / r, (y - down[:, None])[:, :, None] / r
        covered = LEVELS[shape](x, y)  # [N 2h 2w]
        covered = 0.5 - SOFT_POINTS * r * covered
        np.maximum(np.minimum(covered, 1, out=covered), 0, out=covered)
        rows = covered[:, ::SOFT_POINTS] + covered[:, 1::SOFT_POINTS]
        return (rows[:, :, ::SOFT_POINTS] + rows[:, :, 1::SOFT_POINTS]) / SOFT_POINTS**2

    def _soft_points(self, cell: Cell, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Positions from the middle of a place to the right, [2w], and down, [2h], in pixels."""
        if (cell, dtype) not in self._middles:
            side = self.board.pixels / self.board.grid
            rows, columns = self.box(cell)
            y = _points(rows, SOFT_POINTS) - (cell[0] + 0.5) * side
            x = _points(columns, SOFT_POINTS) - (cell[1] + 0.5) * side
            self._middles[cell, dtype] = x.astype(dtype), y.astype(dtype)
        return self._middles[cell, dtype]

    def render(self, scene: Scene) -> np.ndarray:
        """The image of a scene, uint8 [H W 3]."""
        image = np.empty((self.board.pixels, self.board.pixels, 3), np.uint8)
        image[:] = scene.background or BACKGROUND
        for thing in scene.things:
            if thing.look is not None or scene.background is not None:
                image[self.box(thing.cell)] = self._blended(thing, scene.background or BACKGROUND)
                continue
            if thing not in self._sprites:
                mask = self.coverage(thing.cell, thing.shape, thing.size)[..., None]
                mixed = mask * np.array(COLORS[thing.color]) + (1 - mask) * np.array(BACKGROUND)
                self._sprites[thing] = mixed.round().astype(np.uint8)
            image[self.box(thing.cell)] = self._sprites[thing]
        return image

    def _blended(self, thing: Thing, background: Color) -> np.ndarray:
        """The place of a thing as it looks, before a background, uint8 [h w 3]."""
        shade = (0, 0, 0) if thing.look is None else thing.look.shade
        named = zip(COLORS[thing.color], shade, strict=True)
        color = [max(0, min(255, base + more)) for base, more in named]
        steps = np.array([c - ground for c, ground in zip(color, background, strict=True)], float)
        blend = self.mask(thing)[..., None] * steps
        blend += background
        return np.rint(blend, out=blend).astype(np.uint8)

    def depth(self, scene: Scene) -> np.ndarray:
        """Nearness as gray, uint8 [H W 3]: black is farthest.

        Lower rows and larger things are nearer: a thing in row r has nearness (r + size) / G, where
        size is the share of the full radius that its name has; the background has 0. A look moves
        and scales where that is seen, and changes no nearness.
        """
        image = np.zeros((self.board.pixels, self.board.pixels, 3), np.uint8)
        for thing in scene.things:
            nearness = (thing.cell[0] + SIZES[thing.size]) / self.board.grid
            mask = self.mask(thing)[..., None]
            image[self.box(thing.cell)] = (mask * nearness * 255).round()
        return image


def room_of(shape: str, size: str, scale: float) -> float:
    """How far a thing can move from the middle of its place and stay in it, in sides of a place."""
    return (1 - REACH[shape] * RADIUS * SIZES[size] * scale) / 2


def _points(pixels: slice, points: int = POINTS) -> np.ndarray:
    """Positions of the coverage points of pixels along one axis."""
    return np.arange(pixels.start * points, pixels.stop * points) / points + 0.5 / points
