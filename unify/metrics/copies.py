"""Pictures drawn from an image alone, compared with that image.

copy/psnr, /exact    dB; share read as the scene of the original
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from unify.data.source import Split, images
from unify.distributed.ranks import split_over_ranks
from unify.metrics.ceiling import with_ceiling
from unify.metrics.metric import (
    MOST_PSNR,
    Grid,
    Metric,
    Score,
    Subject,
    average,
    conditions,
    first_records,
    proportion,
    psnr,
)
from unify.metrics.reconstruction import exact
from unify.metrics.shapes_drawing import passport, picture
from unify.noise import stable_seed
from unify.paradigm import ImageRequest, Paradigm
from unify.support.ranges import Count

SHOWN = 16  # images in the grid, each before its copy


class Copies(Metric):
    """`copy/psnr` of the first n images of a split, and `copy/exact` where a checker reads them."""

    tasks: ClassVar[frozenset[str]] = frozenset({"image"})
    measures = ("copy/psnr", "copy/exact")

    def __init__(self, n: Count = 128, split: Split = "test"):
        self.n, self.split = n, split

    def _drawn(self, model: Paradigm, truth: Tensor, subject: Subject) -> Tensor:
        """Copies of images [N 3 H W], drawn in chunks that ranks share; on the CPU."""

        def draw(rows: range) -> Tensor:
            part = truth[rows.start : rows.stop]
            request = ImageRequest(
                sources=[part.to(model.device)],
                size=(part.shape[-2], part.shape[-1]),
                seed=[stable_seed(subject.seed, f"image/{self.split}", row) for row in rows],
            )
            return model.generate_image(request, **subject.image_sampling).cpu()

        return torch.cat(split_over_ranks(subject.chunks(len(truth)), draw))

    def check(self, subject: Subject) -> None:
        """ValueError if the split has no image; of a model that copies none, nothing is scored."""
        if isinstance(subject.model, Paradigm) and subject.model.copies:
            super().check(subject)

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        model, source = subject.model, subject.source
        if not (isinstance(model, Paradigm) and model.copies):
            return [], []
        records = first_records(source, "image", self.split, self.n)
        truth, asked = images(records, "image"), conditions(source, "image", records)
        drawn = self._drawn(model, truth, subject)
        stamp = passport(subject, [record.key for record in records], subject.image_sampling)
        right = exact(source, truth, drawn)

        def score(copies: Tensor) -> list[Score]:
            of: dict[str, Any] = {"better": "higher", "unit": "images", "prompts": asked}
            ratios = psnr(copies, truth)
            scores = [average("copy/psnr", ratios, stamp, bounds=(-math.inf, MOST_PSNR), **of)]
            if right:
                scores.append(proportion("copy/exact", exact(source, truth, copies), stamp, **of))
            return scores

        both = torch.stack([truth, drawn], 1).flatten(0, 1)[: 2 * SHOWN]
        judged: list[bool | None] = [*right] or [None] * len(records)
        verdicts = [verdict for hit in judged for verdict in (None, hit)][: 2 * SHOWN]
        grid = picture("copy", both, ["image", "copy"] * (len(both) // 2), verdicts)
        return with_ceiling(subject, drawn, truth, score), [grid]
