"""How pictures of one scene differ: where in its place a thing stands, how large, in which shade.

A scene is what a full caption says; looks are drawn from a stream of their own, and nothing that is
asked about or read depends on them. So a full caption has many right pictures, and a model that
draws one of them has to place continuous edges, not to look up a code.
"""

import random
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np

from unify.data.world.renderer import room_of
from unify.data.world.scene import BACKGROUND, COLORS, SIZES, Board, Color, Look, Scene, Thing

VERSION = 1  # raise it whenever a look changes
APART = 0.08  # least difference of radius between two sizes, as a share of the larger


@dataclass(frozen=True)
class Looks:
    """Ranges that looks are drawn from, each uniformly; with all of them 0 a scene has one picture.

    Args:
        offset: farthest that a thing stands from the middle of its place along each axis, in units
            of the place's side; a large thing less far, so that it stays in its place.
        radius: a thing has the radius of its size's name, less up to this share.
        shade: each of red, green and blue is off its colour's by up to this, of 255.
        background: each of red, green and blue of the background is darker by up to this.
    """

    offset: float = 0.0
    radius: float = 0.0
    shade: int = 0
    background: int = 0

    def __bool__(self) -> bool:
        return any((self.offset, self.radius, self.shade, self.background))

    def check(self, board: Board) -> None:
        """ValueError for ranges in which two names of the board would look alike."""
        for name, most in (("offset", 0.5), ("radius", 0.5), ("shade", 127), ("background", 127)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is within [0, {most}], not {getattr(self, name)}")
        sizes = sorted(board.sizes, key=lambda size: SIZES[size])
        for small, large in pairwise(sizes):
            if SIZES[large] * (1 - self.radius) < SIZES[small] * (1 + APART):
                raise ValueError(
                    f"radius={self.radius}: a {large} thing may look like a {small} one; at most "
                    f"{1 - SIZES[small] * (1 + APART) / SIZES[large]:.2f} tells them apart"
                )
        ranges = {name: self.shades(name) for name in board.colors} | {"background": self.ground()}
        for (one, a), (other, b) in combinations(ranges.items(), 2):
            if not (np.maximum(a[0], b[0]) > np.minimum(a[1], b[1])).any():
                knobs = f"shade={self.shade}, background={self.background}"
                raise ValueError(f"{knobs}: {one} and {other} have common colours; take less")

    def shades(self, color: str) -> np.ndarray:
        """The least and the most red, green and blue of a colour, [2 3] of 255."""
        rgb = np.array(COLORS[color])
        return np.clip([rgb - self.shade, rgb + self.shade], 0, 255)

    def ground(self) -> np.ndarray:
        """The same of the background."""
        return np.array([np.subtract(BACKGROUND, self.background), BACKGROUND])

    def dress(self, scene: Scene, rng: random.Random) -> Scene:
        """The scene with looks for all that has none yet."""
        background = scene.background or self._ground(rng)
        things = (t if t.look else replace(t, look=self._look(t, rng)) for t in scene.things)
        return Scene(tuple(things), background)

    def _ground(self, rng: random.Random) -> Color:
        red, green, blue = (base - rng.randint(0, self.background) for base in BACKGROUND)
        return red, green, blue

    def _look(self, thing: Thing, rng: random.Random) -> Look:
        scale = 1 - self.radius * rng.random()
        most = min(self.offset, room_of(thing.shape, thing.size, scale))
        right, down = most * (2 * rng.random() - 1), most * (2 * rng.random() - 1)
        red, green, blue = (rng.randint(-self.shade, self.shade) for _ in range(3))
        return Look(right, down, scale, (red, green, blue))
