"""The scene model of the embedded world and its renderer.

G x G places of the board, H x W pixels, n things in a scene.

    Thing     a shape with a colour and a size at a place
    Scene     a set of things, at most one a place
    Pattern   a thing of which some attributes are left open
    Board     what a world may hold: its vocabulary, object counts and held-out attribute pairs
    Renderer  scene -> uint8 image [H W 3], and its depth map

A shape is an inequality in the coordinates of its own disc; coverage is averaged over 8 x 8 points
of a pixel, and the sprite of every (shape, colour, size, place) is kept, so that drawing a scene is
copying a few small arrays.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

Cell = tuple[int, int]  # (row, column), from the top left
Pair = tuple[str, str]  # (colour, shape)
Inside = Callable[[np.ndarray, np.ndarray], np.ndarray]  # x to the right, y down, disc of radius 1

BACKGROUND = (246, 245, 240)
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 60, 58),
    "green": (48, 160, 88),
    "blue": (52, 108, 214),
    "yellow": (246, 194, 48),
    "purple": (142, 78, 190),
    "orange": (240, 124, 34),
    "cyan": (60, 188, 208),
    "black": (48, 50, 60),
}
SIZES: dict[str, float] = {"small": 0.56, "medium": 0.78, "large": 1.0}  # share of full radius
RADIUS = 0.84  # of half a cell: leaves a gap between neighbours
POINTS = 8  # coverage points of a pixel along one side


def _polygon(corners: Sequence[tuple[float, float]]) -> Inside:
    """The test whether points lie in a polygon, by the even-odd rule."""

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        odd = np.zeros(x.shape, bool)
        for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
            if y0 != y1:
                odd ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        return odd

    return inside


def _star(points: int, inner: float) -> Inside:
    angles = np.pi * np.arange(2 * points) / points - np.pi / 2
    radii = np.where(np.arange(2 * points) % 2, inner, 1.0) * 1.08
    return _polygon([(r * np.cos(a), r * np.sin(a)) for r, a in zip(radii, angles, strict=True)])


SHAPES: dict[str, Inside] = {
    "circle": lambda x, y: x**2 + y**2 <= 0.98,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) <= 0.88,
    "triangle": _polygon([(0.0, -0.98), (1.02, 0.82), (-1.02, 0.82)]),
    "cross": lambda x, y: (
        (np.minimum(abs(x), abs(y)) <= 0.3) & (np.maximum(abs(x), abs(y)) <= 0.98)
    ),
    "diamond": lambda x, y: abs(x) + abs(y) <= 1.06,
    "ring": lambda x, y: (x**2 + y**2 <= 1.0) & (x**2 + y**2 >= 0.3),
    "star": _star(5, 0.46),
}


@dataclass(frozen=True, order=True)
class Thing:
    """One object; things sort by place, row by row."""

    cell: Cell
    shape: str
    color: str
    size: str

    @property
    def pair(self) -> Pair:
        return (self.color, self.shape)


@dataclass(frozen=True)
class Pattern:
    """Attributes of a thing that a text names; `None` leaves one open."""

    shape: str | None = None
    color: str | None = None
    size: str | None = None
    cell: Cell | None = None

    def fits(self, thing: Thing) -> bool:
        """True if the thing has every attribute that is not left open."""
        return (
            self.shape in (None, thing.shape)
            and self.color in (None, thing.color)
            and self.size in (None, thing.size)
            and self.cell in (None, thing.cell)
        )


@dataclass(frozen=True)
class Scene:
    """Things in the order of their places; two scenes are equal if they hold the same things."""

    things: tuple[Thing, ...]

    @classmethod
    def of(cls, things: Iterable[Thing]) -> Scene:
        """The scene of some things in any order; no two may share a place."""
        scene = cls(tuple(sorted(things)))
        assert len({thing.cell for thing in scene.things}) == len(scene.things), "a place is shared"
        return scene

    def __len__(self) -> int:
        return len(self.things)

    def at(self, cell: Cell) -> Thing | None:
        return next((thing for thing in self.things if thing.cell == cell), None)

    def like(self, pattern: Pattern) -> list[Thing]:
        return [thing for thing in self.things if pattern.fits(thing)]

    def without(self, thing: Thing) -> Scene:
        return Scene(tuple(other for other in self.things if other != thing))

    def adding(self, thing: Thing) -> Scene:
        return Scene.of((*self.things, thing))

    def changing(self, thing: Thing, **attributes) -> Scene:
        """The scene with some attributes of one thing changed."""
        return self.without(thing).adding(replace(thing, **attributes))


@dataclass(frozen=True)
class Board:
    """The grid, things and limits of a world's scenes, and the random draw of one."""

    pixels: int
    grid: int
    shapes: tuple[str, ...]
    colors: tuple[str, ...]
    sizes: tuple[str, ...]
    objects: tuple[int, int]
    heldout: tuple[Pair, ...]

    def __post_init__(self) -> None:
        vocabulary = {"shapes": list(SHAPES), "colors": list(COLORS), "sizes": list(SIZES)}
        for name, table in vocabulary.items():
            names = getattr(self, name)
            if not names or not set(names) <= set(table) or len(set(names)) != len(names):
                raise ValueError(f"{name} must be distinct names out of {table}, not {list(names)}")
        low, high = self.objects
        if not (self.grid >= 1 and 1 <= low <= high <= min(9, self.grid**2)):
            raise ValueError(
                f"objects must be [least, most] within [1, {min(9, self.grid**2)}] on a board of "
                f"{self.grid}x{self.grid} places, not {list(self.objects)}"
            )
        if self.pixels < 8 * self.grid:
            raise ValueError(
                f"a {self.grid}x{self.grid} board needs at least {8 * self.grid} pixels, "
                f"not size={self.pixels}"
            )
        stray = [" ".join(pair) for pair in self.heldout if pair not in self.all_pairs]
        if stray:
            raise ValueError(f"heldout names pairs that this world does not have: {stray}")
        for name in (*self.colors, *self.shapes):
            if not any(name in pair for pair in self.pairs):
                raise ValueError(f"heldout leaves no pair with {name!r} to learn from")

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        return tuple((row, column) for row in range(self.grid) for column in range(self.grid))

    @cached_property
    def all_pairs(self) -> tuple[Pair, ...]:
        return tuple((color, shape) for color in self.colors for shape in self.shapes)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The attribute pairs that training, validation and test may hold."""
        return tuple(pair for pair in self.all_pairs if pair not in self.heldout)

    def has_heldout(self, scene: Scene) -> bool:
        return any(thing.pair in self.heldout for thing in scene.things)

    def draw(
        self,
        rng: random.Random,
        pins: Sequence[Pattern] = (),
        count: int | None = None,
        heldout: bool = False,
    ) -> Scene:
        """A random scene.

        Args:
            pins: patterns that a thing each is drawn for.
            count: number of things; drawn, and at least that of `pins`, if not given.
            heldout: one held-out pair at least if `pins` leave room for it; without it, none.
        """
        low, high = self.objects
        n = count or rng.randint(max(low, len(pins)), high)
        patterns = [*pins, *[Pattern()] * (n - len(pins))]
        pairs = self.all_pairs if heldout else self.pairs
        options = [[pair for pair in pairs if _agrees(pin, pair)] for pin in patterns]
        if heldout:
            held_out = [[pair for pair in some if pair in self.heldout] for some in options]
            room = [i for i, some in enumerate(held_out) if some]
            if room:
                i = rng.choice(room)
                options[i] = held_out[i]
        taken = {pin.cell for pin in patterns}
        free = [cell for cell in self.cells if cell not in taken]
        rng.shuffle(free)
        things = []
        for pin, some in zip(patterns, options, strict=True):
            color, shape = rng.choice(some)
            size = pin.size or rng.choice(self.sizes)
            things.append(Thing(pin.cell or free.pop(), shape, color, size))
        return Scene.of(things)


def _agrees(pin: Pattern, pair: Pair) -> bool:
    return pin.color in (None, pair[0]) and pin.shape in (None, pair[1])


class Renderer:
    """Draws the scenes of a board."""

    def __init__(self, board: Board):
        self.board = board
        self._edges = [round(i * board.pixels / board.grid) for i in range(board.grid + 1)]
        self._masks: dict[tuple[Cell, str, str], np.ndarray] = {}
        self._sprites: dict[Thing, np.ndarray] = {}

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

    def render(self, scene: Scene) -> np.ndarray:
        """The image of a scene, uint8 [H W 3]."""
        image = np.empty((self.board.pixels, self.board.pixels, 3), np.uint8)
        image[:] = BACKGROUND
        for thing in scene.things:
            if thing not in self._sprites:
                mask = self.coverage(thing.cell, thing.shape, thing.size)[..., None]
                mixed = mask * np.array(COLORS[thing.color]) + (1 - mask) * np.array(BACKGROUND)
                self._sprites[thing] = mixed.round().astype(np.uint8)
            image[self.box(thing.cell)] = self._sprites[thing]
        return image

    def depth(self, scene: Scene) -> np.ndarray:
        """Nearness as gray, uint8 [H W 3]: black is farthest.

        Lower rows and larger things are nearer: a thing in row r has nearness (r + size) / G, where
        size is its share of the full radius; the background has 0.
        """
        image = np.zeros((self.board.pixels, self.board.pixels, 3), np.uint8)
        for thing in scene.things:
            nearness = (thing.cell[0] + SIZES[thing.size]) / self.board.grid
            mask = self.coverage(thing.cell, thing.shape, thing.size)[..., None]
            image[self.box(thing.cell)] = (mask * nearness * 255).round()
        return image


def _points(pixels: slice) -> np.ndarray:
    """Positions of the coverage points of pixels along one axis."""
    return np.arange(pixels.start * POINTS, pixels.stop * POINTS) / POINTS + 0.5 / POINTS
