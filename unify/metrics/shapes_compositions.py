"""Compositions of the embedded world: things shown one by one, and put where the text says.

    compose/exact          every thing of the target right in shape, colour and place, and no other
    compose/exact/<n>      by the number of sources: one_object, two_objects ...
    compose/exact/heldout  with an attribute pair among them that no training split shows

Rows with fewer sources than columns say so to the model, as in training. B images, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from unify.batch import Batch
from unify.data.source import Split, collate
from unify.data.world.checker import Checker
from unify.data.world.language import ORDINALS
from unify.metrics.metric import Grid, Metric, Score, Subject, proportion
from unify.metrics.shapes_images import generate, passport, picture, records_of, shapes_of


@dataclass
class Composed:
    """Compositions with what the model made of them."""

    batch: Batch
    images: Tensor
    right: list[bool]
    passport: dict[str, Any]

    @classmethod
    def of(cls, subject: Subject, split: Split, n: int) -> Composed:
        """Draw the first n compositions of a split and compare them with their targets."""
        world = shapes_of(subject)
        records = records_of(world, "compose", split, n)
        batch = collate("compose", records)
        *sources, instruction, _ = batch.segments
        drawn = generate(subject, f"compose/{split}", instruction.texts, sources)
        read = zip(Checker(world).read(drawn), records, strict=True)
        right = [scene == record.meta["target"] for scene, record in read]
        stamp = passport(subject, [*batch.keys, *instruction.texts], subject.image_sampling)
        return cls(batch, drawn, right, stamp)

    def score(self, name: str, things: int | None = None) -> Score:
        """Score of all rows, or of those that show so many `things`."""
        counts = torch.stack([column.present for column in self.batch.segments[:-2]]).sum(0)
        kept = [things in (None, count) for count in counts.tolist()]
        hits = [hit for hit, keep in zip(self.right, kept, strict=True) if keep]
        return proportion(name, hits, self.passport, better="higher")

    def grid(self, name: str) -> Grid:
        """A grid of the sources of each row, then its image."""
        *sources, instruction, _ = self.batch.segments
        shown: list[Tensor] = []
        titles: list[str] = []
        verdicts: list[bool | None] = []
        for row, (text, hit) in enumerate(zip(instruction.texts, self.right, strict=True)):
            given = [column.images[row] for column in sources if column.present[row]]
            shown += [*given, self.images[row]]
            titles += [*ORDINALS[: len(given)], str(text)]
            verdicts += [*[None] * len(given), hit]
        return picture(name, torch.stack(shown), titles, verdicts)


class Compositions(Metric):
    """Exactness of the first `n` compositions of a split and `heldout` of the held-out one."""

    tasks: ClassVar[frozenset[str]] = frozenset({"compose"})

    def __init__(self, n: int = 128, heldout: int = 64, split: Split = "test"):
        self.n, self.heldout, self.split = n, heldout, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = shapes_of(subject)
        composed = Composed.of(subject, self.split, self.n)
        scores, grids = [composed.score("compose/exact")], [composed.grid("compose")]
        scores += [composed.score(f"compose/exact/{name}", n) for name, n in world.complete.items()]
        if self.heldout and world.board.heldout:
            heldout = Composed.of(subject, "heldout", self.heldout)
            scores.append(heldout.score("compose/exact/heldout"))
            grids.append(heldout.grid("compose/heldout"))
        return scores, grids
