"""What a drawn scene has of the scene that was asked for, by the nearest reading.

    <task>/nearest              the nearest scene is the one asked for; what the checker's limits of
                                distance and flaw refuse is wrong, and nothing is for a small margin
    <task>/nearest/margin_<m>   the same where a place must lead by m, up to the checker's own
    <task>/refused              share that these limits refuse (the same pictures are `flawed`)
    <task>/errors/<kind>        share of pictures with an error of a kind, see `errors`; without a
                                direction, since a refused picture has no other error
    <task>/attributes           share of the attributes asked for that are right, 0 where refused

B images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unify.data.shapes import Shapes
from unify.data.source import Record
from unify.data.world.checker import MARGINS, Checker
from unify.data.world.language import ATTRIBUTES, Prompt
from unify.data.world.reading import Fit, Nearest, Unreadable
from unify.data.world.scene import Board, Cell, Scene, Thing
from unify.metrics.metric import Grid
from unify.metrics.shapes_drawing import picture

KINDS = ("shape", "color", "size", "place", "count", "extra", "flawed")


@dataclass
class Drawn:
    """Prompts of one kind with images of them, drawn or given back, and what they show.

    Args:
        read: with the checker's margin. near: without one.
    """

    prompts: list[Prompt]
    images: Tensor
    read: list[Scene | Unreadable]
    near: list[Nearest]
    right: list[bool] = field(init=False)

    def __post_init__(self) -> None:
        self.right = [
            isinstance(scene, Scene) and prompt.satisfied(scene)
            for prompt, scene in zip(self.prompts, self.read, strict=True)
        ]

    @classmethod
    def of(cls, checker: Checker, prompts: list[Prompt], images: Tensor) -> "Drawn":
        """Images [B 3 H W] of B prompts, read."""
        fits = checker.fits(images)
        read = [checker.scene(checker.readings(places)) for places in fits]
        return cls(prompts, images, read, [Nearest.of(places) for places in fits])

    @staticmethod
    def joined(some: Sequence["Drawn"]) -> "Drawn":
        """All of them, one after the other."""
        return Drawn(
            [prompt for one in some for prompt in one.prompts],
            torch.cat([one.images for one in some]),
            [scene for one in some for scene in one.read],
            [near for one in some for near in one.near],
        )

    @property
    def texts(self) -> list[str]:
        return [prompt.text for prompt in self.prompts]

    @property
    def refused(self) -> list[bool]:
        """Which images the limits of distance and flaw refuse."""
        return [near.refused is not None for near in self.near]

    def nearest(self, margin: float = 0.0) -> list[bool]:
        """Which images are of what was asked for, where each place must lead by a margin."""
        taken = [near.at_margin(margin) for near in self.near]
        pairs = zip(self.prompts, taken, strict=True)
        return [scene is not None and prompt.satisfied(scene) for prompt, scene in pairs]

    def by_margin(self) -> dict[str, list[bool]]:
        """`nearest` by the end of a score's name, for the margins above 0."""
        return {f"margin_{margin}": self.nearest(margin) for margin in MARGINS if margin}

    def errors(self, board: Board) -> dict[str, list[bool]]:
        """Which images of full captions have an error, by its kind."""
        found = [errors(p.scene, n) for p, n in zip(self.prompts, self.near, strict=True)]
        kinds = [kind for kind in KINDS if kind != "size" or len(board.sizes) > 1]
        return {kind: [kind in some for some in found] for kind in kinds}

    def attributes(self, board: Board) -> list[float]:
        """Share of the attributes of each full caption that its image has."""
        names = [name for name in ATTRIBUTES if name != "size" or len(board.sizes) > 1]
        pairs = zip(self.prompts, self.near, strict=True)
        return [attributes(prompt.scene, near, names) for prompt, near in pairs]

    def grid(self, name: str) -> Grid:
        """The images with their prompts and the checker's verdicts."""
        return picture(name, self.images, self.texts, self.right)


def errors(asked: Scene, near: Nearest) -> set[str]:
    """Kinds of error of an image, out of KINDS; empty for a right one.

    flawed: the checker's limits refuse it, and nothing else is said of it. count: it has another
    number of things than was asked for; extra: more. shape, color, size, place: of a thing that was
    asked for and the drawn one that it is matched with, see `matched`.
    """
    if near.refused is not None:
        return {"flawed"}
    pairs = matched(asked, near.scene)
    wrong = {name for a, b in pairs for name in ATTRIBUTES if getattr(a, name) != getattr(b, name)}
    kinds = {"place" if name == "cell" else name for name in wrong}
    if len(asked) != len(near.scene):
        kinds |= {"count"} | ({"extra"} if len(near.scene) > len(asked) else set())
    return kinds


def attributes(asked: Scene, near: Nearest, names: Sequence[str] = ATTRIBUTES) -> float:
    """Share of the attributes `names` of the things asked for that an image has; 0 if refused."""
    if near.refused is not None:
        return 0.0
    pairs = matched(asked, near.scene)
    right = sum(getattr(a, name) == getattr(b, name) for a, b in pairs for name in names)
    return right / (len(names) * len(asked))


def matched(asked: Scene, drawn: Scene) -> list[tuple[Thing, Thing]]:
    """Things asked for with drawn ones, so that most attributes agree; of equals, most places."""
    from scipy.optimize import linear_sum_assignment

    def agree(a: Thing, b: Thing) -> float:
        return sum(getattr(a, n) == getattr(b, n) for n in ATTRIBUTES) + 0.1 * (a.cell == b.cell)

    if not asked.things or not drawn.things:
        return []
    table = [[agree(a, b) for b in drawn.things] for a in asked.things]
    rows, columns = linear_sum_assignment(table, maximize=True)
    return [(asked.things[i], drawn.things[j]) for i, j in zip(rows, columns, strict=True)]


def nearest_to(records: Sequence[Record], of: str, fits: Sequence[dict[Cell, Fit]]) -> list[bool]:
    """Per record: is the scene that its image is nearest to the one of its meta `of`?"""
    taken = [Nearest.of(places).at_margin(0) for places in fits]
    return [scene == r.meta[of] for r, scene in zip(records, taken, strict=True)]


def drift(world: Shapes, records: Sequence[Record], shown: Tensor, truth: Tensor) -> list[float]:
    """Mean |error| on [0, 1] of images [B 3 H W] at the places that each edit leaves alone.

    0 where it leaves none.
    """
    error = (shown.clamp(-1, 1) - truth).abs().mean(1) / 2  # [B H W]
    kept = torch.ones_like(error)
    for row, record in zip(kept, records, strict=True):
        for cell in record.meta["cells"]:
            row[world.renderer.box(cell)] = 0
    return ((error * kept).sum((1, 2)) / kept.sum((1, 2)).clamp_min(1)).tolist()
