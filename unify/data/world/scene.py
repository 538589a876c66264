"""The scene model of the embedded world.

G x G places of the board, H x W pixels, n things in a scene.

    Thing     a shape with a colour and a size at a place
    Scene     a set of things, at most one a place
    Pattern   a thing of which some attributes are left open
    Board     what a world may hold: its vocabulary, object counts and held-out attribute pairs
    Look      how a picture shows a thing, beyond what its names say

Looks, and the background of a scene, take no part in equality or order: two scenes that a full
caption cannot tell apart are equal. renderer.py draws scenes, looks.py draws looks.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from unify.data.world.outlines import SHAPES

Cell = tuple[int, int]  # (row, column), from the top left
Pair = tuple[str, str]  # (colour, shape)
Color = tuple[int, int, int]  # red, green, blue, 0 to 255

BACKGROUND: Color = (246, 245, 240)
COLORS: dict[str, Color] = {
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


@dataclass(frozen=True)
class Look:
    """How a picture shows a thing.

    Args:
        right, down: from the middle of its place, in units of the place's side.
        scale: share of the radius that the name of its size has.
        shade: added to the red, green and blue of its colour; kept within 0 and 255.
    """

    right: float
    down: float
    scale: float
    shade: Color


@dataclass(frozen=True, order=True)
class Thing:
    """One object; things sort by place, row by row."""

    cell: Cell
    shape: str
    color: str
    size: str
    look: Look | None = field(default=None, compare=False, repr=False)

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
    background: Color | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, things: Iterable[Thing], background: Color | None = None) -> Scene:
        """The scene of some things in any order; no two may share a place."""
        scene = cls(tuple(sorted(things)), background)
        assert len({thing.cell for thing in scene.things}) == len(scene.things), "a place is shared"
        return scene

    def __len__(self) -> int:
        return len(self.things)

    def at(self, cell: Cell) -> Thing | None:
        return next((thing for thing in self.things if thing.cell == cell), None)

    def like(self, pattern: Pattern) -> list[Thing]:
        return [thing for thing in self.things if pattern.fits(thing)]

    def without(self, thing: Thing) -> Scene:
        return Scene(tuple(t for t in self.things if t != thing), self.background)

    def adding(self, thing: Thing) -> Scene:
        return Scene.of((*self.things, thing), self.background)

    def changing(self, thing: Thing, **attributes) -> Scene:
        """The scene with some attributes of one of its things changed; how it looks stays."""
        own = next((other for other in self.things if other == thing), thing)
        return self.without(own).adding(replace(own, **attributes))


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
        pairs: Sequence[Pair] = (),
    ) -> Scene:
        """A random scene, without looks.

        Args:
            pins: patterns that a thing each is drawn for.
            count: number of things; drawn, and at least that of `pins`, if not given.
            heldout: one held-out pair at least if `pins` leave room for it; without it, none.
            pairs: what things may be, instead of all that is not held out.
        """
        low, high = self.objects
        n = count or rng.randint(max(low, len(pins)), high)
        patterns = [*pins, *[Pattern()] * (n - len(pins))]
        pairs = pairs or (self.all_pairs if heldout else self.pairs)
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
