"""What a reader of the embedded world says of a place, and of an image.

A reader fits the best picture of every kind of content (empty, and every shape, colour and size) to
a place, and hands on a `Fit`. What is refused follows from it here, with the same limits whatever
the reader. Distances are root mean squares on the [-1, 1] scale. With the nearest kind a and any
other kind b, at distances d_a <= d_b from the image and D_ab from each other,

    u = (d_b^2 - d_a^2) / D_ab^2

is where the image lies on the line between the two: 1 at a, 0 half-way. A place is refused when

    far        d_a > FAR                         it looks like nothing of this world
    ambiguous  min over b of u < margin          it is nearly as much something else
    flawed     a 3 x 3 patch is off by > SPOT    it is a known thing with a flaw

and so is an image with such a place. The nearest reading is that without a margin.
"""

from dataclasses import dataclass
from typing import Literal

from unify.data.world.scene import Cell, Scene, Thing

FAR = 0.28
MARGIN = 0.3
SPOT = 0.5
SOFT = 1.2  # pixels of blur of what is also fitted: a tokenizer gives back soft things

Refusal = Literal["far", "flawed"]


@dataclass(frozen=True)
class Unreadable:
    """Why an image (or a place of it) is not read."""

    reason: str


Reading = Thing | None | Unreadable  # of a place: a thing, empty, or unreadable


@dataclass(frozen=True)
class Fit:
    """The nearest content of a place, and how it lies among the others.

    Args:
        nearest, rival: the nearest content, and that which it is told from with the least lead;
            None for an empty place.
        distance: d_a. lead: the least u. flaw: the largest mean error of a 3 x 3 patch.
    """

    nearest: Thing | None
    rival: Thing | None
    distance: float
    lead: float
    flaw: float

    @property
    def refused(self) -> Refusal | None:
        """What refuses the place whatever the margin."""
        if not self.distance <= FAR:  # nan too
            return "far"
        return "flawed" if self.flaw > SPOT else None

    def reading(self, where: str, margin: float = MARGIN) -> Reading:
        """The verdict on the place, whose name is `where`."""
        if self.refused == "far":
            return Unreadable(f"{where}: far from all templates ({self.distance:.2f})")
        if self.lead < margin:
            pair = f"{_name(self.nearest)} or {_name(self.rival)}"
            return Unreadable(f"{where}: {pair} ({self.lead:.2f})")
        if self.refused == "flawed":
            return Unreadable(f"{where}: {_name(self.nearest)} with a flaw ({self.flaw:.2f})")
        return self.nearest


@dataclass(frozen=True)
class Nearest:
    """The scene that an image is nearest to, read without a margin.

    Args:
        scene: the nearest content of every place.
        refused: what the limits of distance and flaw refuse it for; None: it is taken.
        lead: the least u over all places: with a margin above it, the image is refused.
    """

    scene: Scene
    refused: Refusal | None
    lead: float

    @classmethod
    def of(cls, fits: dict[Cell, Fit]) -> "Nearest":
        """The reading of an image from the fits of its places."""
        things = tuple(fit.nearest for fit in fits.values() if fit.nearest is not None)
        refusals = {fit.refused for fit in fits.values()}
        refused = next((r for r in ("far", "flawed") if r in refusals), None)
        return cls(Scene(things), refused, min(fit.lead for fit in fits.values()))

    def at_margin(self, margin: float) -> Scene | None:
        """The scene, or None where it is refused at a margin; 0 is the nearest reading."""
        return None if self.refused or self.lead < margin else self.scene


def _name(thing: Thing | None) -> str:
    return "nothing" if thing is None else f"{thing.size} {thing.color} {thing.shape}"
