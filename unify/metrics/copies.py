"""Pictures drawn from an image alone, compared with that image.

copy/psnr, /exact    dB; share read as the scene of the original
"""

from typing import ClassVar

import torch
from torch import Tensor

from unify.data.shapes import Shapes
from unify.data.source import Split, images
from unify.data.world.checker import Checker
from unify.data.world.scene import Scene
from unify.distributed.ranks import split_over_ranks
from unify.metrics.metric import Grid, Metric, Score, Subject, average, proportion, psnr
from unify.metrics.shapes_images import passport, picture
from unify.noise import stable_seed
from unify.paradigm import ImageRequest, Paradigm

SHOWN = 16  # images in the grid, each before its copy


class Copies(Metric):
    """`copy/psnr` of the first n images of a split, and `copy/exact` where a checker reads them."""

    tasks: ClassVar[frozenset[str]] = frozenset({"image"})

    def __init__(self, n: int = 128, split: Split = "test"):
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

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        model, source = subject.model, subject.source
        if not (isinstance(model, Paradigm) and model.copies):
            return [], []
        indices = range(min(self.n, source.size("image", self.split)))
        records = [source.record("image", self.split, index) for index in indices]
        truth = images(records, "image")
        drawn = self._drawn(model, truth, subject)
        stamp = passport(subject, [record.key for record in records], subject.image_sampling)
        scores = [average("copy/psnr", psnr(drawn, truth), stamp, better="higher")]
        right: list[bool | None] = [None] * len(records)
        if isinstance(source, Shapes):
            checker = Checker(source)
            pairs = zip(checker.read(drawn), checker.read(truth), strict=True)
            right = [isinstance(original, Scene) and copy == original for copy, original in pairs]
            hits = [bool(hit) for hit in right]
            scores.append(proportion("copy/exact", hits, stamp, better="higher"))
        both = torch.stack([truth, drawn], 1).flatten(0, 1)[: 2 * SHOWN]
        verdicts = [verdict for hit in right for verdict in (None, hit)][: 2 * SHOWN]
        return scores, [picture("copy", both, ["image", "copy"] * (len(both) // 2), verdicts)]
