"""A task of one's own: fill the hole of an image.

    inpaint = source (an image with a gray square) -> image

Here are its data and its metric; the model is a shipped one.

B rows, H x W pixels.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from unify.data.shapes import Shapes
from unify.data.source import Column, Record, Split, Task, images
from unify.metrics.metric import Grid, Metric, Score, Subject, average
from unify.noise import stable_seed
from unify.paradigm import ImageRequest, Paradigm

VERSION = 1  # raise it whenever the code cuts a hole differently


class Inpaint(Shapes):
    """The embedded world with one task more: a square of half the side is gray in the source."""

    # The columns of the task: conditions, and last the target. They are those of `depth`, image
    # and image, so that every paradigm that learns `depth` learns this task without being told.
    own_tasks = (Task("inpaint", (Column("source", "image"), Column("image", "image"))),)

    @property
    def tasks(self) -> frozenset[str]:
        return super().tasks | {"inpaint"}

    def record(self, task: str, split: Split, index: int) -> Record:
        if task != "inpaint":
            return super().record(task, split, index)
        whole = super().record("image", split, index)
        image = whole.fields["image"]  # uint8 [H W 3]
        rng, hole = random.Random(stable_seed("hole", self.seed, split, index)), len(image) // 2
        top, left = rng.randrange(hole + 1), rng.randrange(hole + 1)
        source = image.copy()
        source[top : top + hole, left : left + hole] = 128
        fields = {"source": source, "image": image}
        return Record(f"inpaint/{split}/{index}", fields, {"hole": (top, left, hole)})

    def fingerprint(self) -> str:
        content = f"{VERSION} {super().fingerprint()}"
        return hashlib.sha256(content.encode()).hexdigest()[:12]


class HoleError(Metric):
    """Mean absolute error inside the hole, of the first `n` test images.

    inpaint/abs_error           of what the model drew, in [0, 2]
    inpaint/abs_error/gray      of the source as it is: what a model that copies it would have
    """

    tasks: ClassVar[frozenset[str]] = frozenset({"inpaint"})

    def __init__(self, n: int = 64, split: Split = "test"):
        self.n, self.split = n, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        assert isinstance(subject.model, Paradigm)
        n = min(self.n, subject.source.size("inpaint", self.split))
        records = [subject.source.record("inpaint", self.split, row) for row in range(n)]
        holed, whole = images(records, "source"), images(records, "image")  # [B 3 H W]
        seeds = [stable_seed(subject.seed, record.key) for record in records]
        drawn = torch.cat(
            [
                subject.model.generate_image(
                    ImageRequest(
                        sources=[holed[rows.start : rows.stop].to(subject.model.device)],
                        size=(whole.shape[-2], whole.shape[-1]),
                        seed=seeds[rows.start : rows.stop],
                    ),
                    **subject.image_sampling,
                ).cpu()
                for rows in subject.chunks(n)
            ]
        )
        passport = {"split": self.split, "images": n, "sampling": subject.image_sampling}
        scores = [
            average(name, errors(tried, whole, records), passport, better="lower")
            for name, tried in (("inpaint/abs_error", drawn), ("inpaint/abs_error/gray", holed))
        ]
        shown = torch.stack([holed, drawn], 1).flatten(0, 1)[:16]  # each source, then the drawing
        titles = ["source", "drawn"] * (len(shown) // 2)
        return scores, [Grid("inpaint", shown, titles, [None] * len(shown))]


def errors(drawn: Tensor, whole: Tensor, records: Sequence[Record]) -> list[float]:
    """One value per image, over the pixels of its hole."""
    found = []
    for image, truth, record in zip(drawn, whole, records, strict=True):
        top, left, side = record.meta["hole"]
        rows, columns = slice(top, top + side), slice(left, left + side)
        found.append((image - truth)[:, rows, columns].abs().mean().item())
    return found
