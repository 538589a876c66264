"""Compositions of the embedded world: things shown one by one, and put where the text says.

    compose/exact          every thing of the target right in shape, colour and place, and no other
    compose/exact/<n>      by the number of sources: one_object, two_objects ...
    compose/exact/heldout  with an attribute pair among them that no training split shows
    compose/nearest        as exact, and its parts, by the nearest reading (shapes_outcomes.py)
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
    Score,
    Subject,
    conditions,
    first_records,
    proportion,
)
from unify.metrics.shapes_drawing import ShapesMetric, generate, picture, shapes_of
from unify.metrics.shapes_outcomes import nearest_to
from unify.support.ranges import Count, CountOrZero


@dataclass
class Composed:
    """Compositions with images of them, drawn or given back."""

    batch: Batch
    images: Tensor
    right: list[bool]
    near: list[bool]  # right by the nearest reading
    prompts: list[tuple]  # what each row asked

    def scores(self, part: str, categories: dict[str, int], passport: dict) -> list[Score]:
        """The scores of all rows, and of those that show so many things, by category.

        `part` is the end of their names: empty, or `/heldout`.
        """
        counts = torch.stack([column.present for column in self.batch.segments[:-2]]).sum(0)
        rows = range(len(self.right))
        groups = {part: list(rows)}
        for category, things in categories.items():
            groups[f"{part}/{category}"] = [row for row in rows if counts[row] == things]
        of: dict[str, Any] = {"better": "higher", "unit": "prompts"}
        return [
            proportion(
                f"compose/{name}{part}",
                [hits[row] for row in kept],
                passport,
                prompts=[self.prompts[row] for row in kept],
                **of,
            )
            for name, hits in (("exact", self.right), ("nearest", self.near))
            for part, kept in groups.items()
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


class Compositions(ShapesMetric):
    """Exactness of the first `n` compositions of a split and `heldout` of the held-out one."""

    tasks: ClassVar[frozenset[str]] = frozenset({"compose"})
    measures = (
        "compose/exact",
        "compose/exact/*_object*",
        "compose/exact/heldout",
        "compose/nearest*",
    )

    def __init__(
        self,
        n: Count = 128,
        heldout: CountOrZero = 64,
        split: Split = "test",
        sealed: str | None = None,
    ):
        self.n, self.heldout, self.split, self.sealed = n, heldout, split, sealed

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = shapes_of(subject)
        scores, grid = self._split(subject, "", self.split, self.n, world.complete)
        grids = [grid]
        if self.heldout and world.board.heldout:
            more, grid = self._split(subject, "/heldout", "heldout", self.heldout, {})
            scores, grids = [*scores, *more], [*grids, grid]
        return scores, grids

    def _split(
        self, subject: Subject, part: str, split: Split, n: int, categories: dict[str, int]
    ) -> tuple[list[Score], Grid]:
        """Draw the first n compositions of a split and compare them with their targets."""
        world = self.world(subject)
        checker, records = Checker(world), first_records(world, "compose", split, n)
        batch = collate("compose", records)
        *sources, instruction, target = batch.segments
        drawn = generate(subject, f"compose/{split}", instruction.texts, sources)
        stamp = self.passport(subject, [*batch.keys, *instruction.texts], subject.image_sampling)
        asked = conditions(world, "compose", records)

        def judged(images: Tensor) -> Composed:
            fits = checker.fits(images)
            read = [checker.scene(checker.readings(places)) for places in fits]
            right = [s == r.meta["target"] for s, r in zip(read, records, strict=True)]
            return Composed(batch, images, right, nearest_to(records, "target", fits), asked)

        scores = with_ceiling(
            subject,
            drawn,
            target.images,
            lambda images: judged(images).scores(part, categories, stamp),
        )
        return scores, judged(drawn).grid("compose" if categories else "compose/heldout")
