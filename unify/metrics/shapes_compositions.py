"""Compositions of the embedded world: things shown one by one, and put where the text says.

    compose/exact          every thing of the target right in shape, colour and place, and no other
    compose/exact/<n>      by the number of sources: one_object, two_objects ...
    compose/exact/heldout  with an attribute pair among them that no training split shows
    <each>/ceiling         of the true targets, given back by the model's tokenizer

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
from unify.metrics.ceiling import with_ceiling
from unify.metrics.metric import (
    Grid,
    Metric,
    Score,
    Subject,
    conditions,
    first_records,
    proportion,
)
from unify.metrics.shapes_drawing import generate, passport, picture, shapes_of
from unify.support.ranges import Count, CountOrZero


@dataclass
class Composed:
    """Compositions with images of them, drawn or given back."""

    batch: Batch
    images: Tensor
    right: list[bool]
    prompts: list[tuple]  # what each row asked

    def scores(self, name: str, categories: dict[str, int], passport: dict) -> list[Score]:
        """The score of all rows, and of those that show so many things, by category."""
        counts = torch.stack([column.present for column in self.batch.segments[:-2]]).sum(0)
        rows = range(len(self.right))
        groups = {name: list(rows)}
        for category, things in categories.items():
            groups[f"{name}/{category}"] = [row for row in rows if counts[row] == things]
        of: dict[str, Any] = {"better": "higher", "unit": "prompts"}
        return [
            proportion(
                name,
                [self.right[row] for row in kept],
                passport,
                prompts=[self.prompts[row] for row in kept],
                **of,
            )
            for name, kept in groups.items()
            if kept
        ]

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
    measures = ("compose/exact", "compose/exact/*_object*", "compose/exact/heldout")

    def __init__(self, n: Count = 128, heldout: CountOrZero = 64, split: Split = "test"):
        self.n, self.heldout, self.split = n, heldout, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = shapes_of(subject)
        scores, grid = self._split(subject, "compose/exact", self.split, self.n, world.complete)
        grids = [grid]
        if self.heldout and world.board.heldout:
            name = "compose/exact/heldout"
            more, grid = self._split(subject, name, "heldout", self.heldout, {})
            scores, grids = [*scores, *more], [*grids, grid]
        return scores, grids

    @staticmethod
    def _split(
        subject: Subject, name: str, split: Split, n: int, categories: dict[str, int]
    ) -> tuple[list[Score], Grid]:
        """Draw the first n compositions of a split and compare them with their targets."""
        world = shapes_of(subject)
        checker, records = Checker(world), first_records(world, "compose", split, n)
        batch = collate("compose", records)
        *sources, instruction, target = batch.segments
        drawn = generate(subject, f"compose/{split}", instruction.texts, sources)
        stamp = passport(subject, [*batch.keys, *instruction.texts], subject.image_sampling)
        asked = conditions(world, "compose", records)

        def judged(images: Tensor) -> Composed:
            read = zip(checker.read(images), records, strict=True)
            return Composed(batch, images, [s == r.meta["target"] for s, r in read], asked)

        scores = with_ceiling(
            subject,
            drawn,
            target.images,
            lambda images: judged(images).scores(name, categories, stamp),
        )
        return scores, judged(drawn).grid("compose" if categories else "compose/heldout")
