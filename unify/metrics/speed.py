"""Speed of generation on the machine of the evaluation.

generate/images_per_s, /texts_per_s    median of the repeats, and the slowest and fastest
"""

import platform
import time

import torch

from unify.distributed.ranks import ranks
from unify.metrics.metric import Grid, Metric, Score, Subject, available_records, first_records
from unify.paradigm import ImageRequest, Paradigm, TextRequest
from unify.support.ranges import Count


class Speed(Metric):
    """`generate/images_per_s` and `generate/texts_per_s` over one batch, after a warm-up."""

    tasks = frozenset({"text_to_image", "caption", "vqa"})
    measures = ("generate/images_per_s", "generate/texts_per_s")
    timed = True

    def __init__(self, rows: Count = 32, repeats: Count = 3):
        self.rows, self.repeats = rows, repeats

    def check(self, subject: Subject) -> None:
        """ValueError if there is no prompt to draw."""
        if "text_to_image" in subject.tasks:
            available_records(subject.source, "text_to_image", "test")

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        model = subject.model
        assert isinstance(model, Paradigm)
        scores = []
        if "text_to_image" in subject.tasks:
            records = first_records(subject.source, "text_to_image", "test", self.rows)
            prompts = [records[row % len(records)].fields["prompt"] for row in range(self.rows)]
            size = records[0].fields["image"].shape[:2]
            scores.append(
                self._timed(
                    "generate/images_per_s",
                    lambda: model.generate_image(
                        ImageRequest(prompts, size=size), **subject.image_sampling
                    ).cpu(),  # waits for the device
                    {"sampler": subject.image_sampling, "size": [*size], **_place(model.device)},
                )
            )
        if subject.tasks & {"caption", "vqa"}:
            size = (32, 32) if "text_to_image" not in subject.tasks else size
            images = torch.zeros(self.rows, 3, *size, device=model.device)
            scores.append(
                self._timed(
                    "generate/texts_per_s",
                    lambda: model.generate_text(TextRequest(images), **subject.text_sampling),
                    {"sampler": subject.text_sampling, "size": [*size], **_place(model.device)},
                )
            )
        return scores, []

    def _timed(self, name: str, generate, passport: dict) -> Score:
        generate()
        rates = []
        for _ in range(self.repeats):
            start = time.perf_counter()
            generate()
            rates.append(self.rows / (time.perf_counter() - start))
        rates.sort()
        machine = {"batch": self.rows, "repeats": self.repeats}
        if ranks() > 1:  # that share each pass
            machine["ranks"] = ranks()
        value, stamp = rates[len(rates) // 2], {**passport, **machine}
        unit = name.split("/")[1].removesuffix("_per_s")
        ends = rates[0], rates[-1]
        return Score(name, value, self.rows, *ends, stamp, better="higher", unit=unit)


def _place(device: torch.device) -> dict[str, object]:
    """Where a speed was measured: the accelerator, or the processor and how many threads of it."""
    if device.type == "cuda":
        return {"machine": torch.cuda.get_device_name(device)}
    processor = platform.processor() or platform.machine()
    return {"machine": processor, "threads": torch.get_num_threads()}
