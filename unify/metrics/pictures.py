"""Pictures to look at where no checker can judge: drawn from prompts, beside the real ones."""

from typing import ClassVar

import torch

from unify.data.source import Split, images
from unify.metrics.metric import Grid, Metric, Score, Subject, available_records
from unify.paradigm import ImageRequest, Paradigm
from unify.support.ranges import Count


class Pictures(Metric):
    """A grid of `count` (real, drawn) pairs for prompts of a split; no score."""

    tasks: ClassVar[frozenset[str]] = frozenset({"text_to_image"})
    measures = ()

    def __init__(self, count: Count = 12, split: Split = "train"):
        self.count, self.split = count, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        assert isinstance(subject.model, Paradigm)
        size = available_records(subject.source, "text_to_image", self.split)
        stride = max(1, size // self.count)  # spread over the split
        records = [
            subject.source.record("text_to_image", self.split, index)
            for index in range(0, min(size, stride * self.count), stride)
        ]
        prompts = [record.fields["prompt"] for record in records]
        real = images(records, "image")  # [B 3 H W]
        height, width = real.shape[-2:]
        request = ImageRequest(prompts, size=(height, width), seed=subject.seed)
        drawn = subject.model.generate_image(request, **subject.image_sampling)
        pairs = torch.stack([real, drawn.float().cpu()], dim=1).flatten(0, 1)
        titles = [text for prompt in prompts for text in (f"real: {prompt}", f"drawn: {prompt}")]
        verdicts: list[bool | None] = [None] * len(titles)
        return [], [Grid(f"pictures-{self.split}", pairs, titles, verdicts)]
