"""A metric that can be sealed, and that tells models apart which have learned nothing."""

from typing import ClassVar

from unify.metrics.metric import Grid, Score, Subject, average
from unify.metrics.shapes_drawing import ShapesMetric
from unify.metrics.shapes_prompts import full_prompts, pictures_of

METRIC = "text_to_image/closeness"


class Closeness(ShapesMetric):
    """1 - mean absolute difference of pixels, over 2, of what is drawn and a right picture."""

    tasks: ClassVar[frozenset[str]] = frozenset({"text_to_image"})
    measures = (METRIC,)

    def __init__(self, prompts: int = 4, split: str = "test", sealed: str | None = None):
        self.prompts, self.split, self.sealed = prompts, split, sealed

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = self.world(subject)
        asked = full_prompts(world, self.prompts, 0, self.split).values()
        each = [pictures_of(subject, world, some) for some in asked]
        texts = [prompt.text for prompts, _, _ in each for prompt in prompts]
        values = [
            1 - float((one - right).abs().mean()) / 2
            for _, drawn, true in each
            for one, right in zip(drawn, true, strict=True)
        ]
        stamp = self.passport(subject, texts, subject.image_sampling)
        of = {"better": "higher", "unit": "prompts", "prompts": texts}
        return [average(METRIC, values, stamp, bounds=(0, 1), **of)], []
