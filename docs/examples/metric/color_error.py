"""A metric of one's own: how far the mean colour of a drawn image is from that of the real one.

    text_to_image/abs_error/color            mean over images of |mean colour - real mean colour|
    text_to_image/abs_error/color/ceiling    of the true images, given back by the model's tokenizer

A score's name is task/measure/category. Which of its values are better is the metric's to say: of
an error, the lower ones.

B rows, H x W pixels.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from unify.data.source import Split, images, keys, texts
from unify.metrics.ceiling import with_ceiling
from unify.metrics.metric import Grid, Metric, Score, Subject, average, digest, first_records
from unify.noise import stable_seed
from unify.paradigm import ImageRequest, Paradigm


class ColorError(Metric):
    """Of the first `n` prompts of a split."""

    tasks: ClassVar[frozenset[str]] = frozenset({"text_to_image"})  # measured for these runs alone

    def __init__(self, n: int = 64, split: Split = "test"):
        self.n, self.split = n, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        assert isinstance(subject.model, Paradigm)
        records = first_records(subject.source, "text_to_image", self.split, self.n)
        prompts, real = texts(records, "prompt"), images(records, "image")  # [B 3 H W]
        # each prompt has a seed of its own, so that the size of a chunk changes nothing
        seeds = [stable_seed(subject.seed, "color", key) for key in keys(records)]
        parts = []
        for rows in subject.chunks(len(records)):
            part = slice(rows.start, rows.stop)
            size = (real.shape[-2], real.shape[-1])
            request = ImageRequest(prompts[part], size=size, seed=seeds[part])
            # sampled as the run says that it is to be
            drawn = subject.model.generate_image(request, **subject.image_sampling)
            parts.append(drawn.float().cpu())
        drawn = torch.cat(parts)
        # the passport says how it was measured: scores with unlike ones never share a row
        passport = {
            "split": self.split,
            "prompt_set": digest("\n".join(prompts).encode()),
            "sampling": subject.image_sampling,
        }

        def score(shown: Tensor) -> list[Score]:
            errors = (shown.mean((2, 3)) - real.mean((2, 3))).abs().mean(1)  # one per image
            # a prompt that is asked twice is one prompt: the interval is over distinct ones
            error = average(
                "text_to_image/abs_error/color",
                errors.tolist(),
                passport,
                better="lower",
                unit="prompts",
                prompts=prompts,
                bounds=(0, 2),
            )
            return [error]

        # beside it, what the model's tokenizer gives back of the true images
        scores = with_ceiling(subject, drawn, real, score)
        grid = Grid("text_to_image/color", drawn[:16], prompts[:16], [None] * len(drawn[:16]))
        return scores, [grid]
