"""How well a trained reader reads pictures that are damaged in known ways, beside the checker.

    reader/exact/<damage>     share of true scenes that the network reads
    reader/checker/<damage>   share of them that the exact checker's nearest reading has, whose
                              refusals are wrong; says nothing about the network
    reader/agrees/<damage>    share of which both say the same: the scene, or not

Damage: `clean`; `noise_<s>`, of standard deviation s where images span [-1, 1]; `blur_<s>`, of s
pixels; `round_trip_<k>`, through the k-th of the tokenizers that it was trained through.

N images of H x W pixels.
"""

from typing import Any

import torch
from torch import Tensor

from unify.data.shapes import Shapes
from unify.data.source import Split, images
from unify.data.world.checker import Checker
from unify.data.world.templates import blur
from unify.metrics.metric import Grid, Metric, Score, Subject, conditions, first_records, proportion
from unify.metrics.scene_reader import SceneReader, round_trip
from unify.metrics.shapes_drawing import passport, picture
from unify.noise import Noise
from unify.support.ranges import Count

NOISES = (0.1, 0.2, 0.3, 0.4)
BLURS = (1.0, 1.5, 2.0)


class ReaderAccuracy(Metric):
    """Of a `SceneReader` that is trained: readings of the first `images` of a split."""

    tasks = frozenset({"image"})
    measures = ("reader/exact/*", "reader/checker/*", "reader/agrees/*")

    def __init__(self, images: Count = 500, split: Split = "test"):
        self.images, self.split = images, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        reader, world = subject.model, subject.source
        if not isinstance(reader, SceneReader):
            return [], []
        assert isinstance(world, Shapes)
        records = first_records(world, "image", self.split, self.images)
        scenes, clean = [r.meta["scene"] for r in records], images(records, "image")
        stamp = passport(subject, [record.key for record in records], {})
        stamp["reader"] = f"{type(reader).__name__} {reader.content_hash()}"
        of: dict[str, Any] = {"unit": "images", "prompts": conditions(world, "image", records)}
        checker, scores, grids = Checker(world), [], []
        for name, shown in damaged(reader, clean, [r.key for r in records], subject.batch).items():
            right = [a == b for a, b in zip(reader.scenes(shown), scenes, strict=True)]
            near = [n.at_margin(0) for n in checker.nearest(shown)]
            checked = [a == b for a, b in zip(near, scenes, strict=True)]
            same = [a == b for a, b in zip(right, checked, strict=True)]
            scores += [
                proportion(f"reader/exact/{name}", right, stamp, better="higher", **of),
                proportion(f"reader/checker/{name}", checked, stamp, **of),
                proportion(f"reader/agrees/{name}", same, stamp, **of),
            ]
            grids.append(
                picture(f"reader/{name}", shown, [world.caption(s) for s in scenes], right)
            )
        return scores, grids


def damaged(reader: SceneReader, clean: Tensor, keys: list[str], batch: int) -> dict[str, Tensor]:
    """Pictures [N 3 H W] by the name of their damage; noise is keyed by each picture's key."""
    white = Noise([("reader", key) for key in keys]).normal("white", clean.shape[1:])
    shown = {"clean": clean}
    shown |= {f"noise_{s}": clean + s * white for s in NOISES}
    shown |= {f"blur_{s}": blur(clean, s) for s in BLURS}
    for place, tokenizer in enumerate(reader.through, 1):
        copies = [
            round_trip(tokenizer, part.to(reader.device)).cpu() for part in clean.split(batch)
        ]
        shown[f"round_trip_{place}"] = torch.cat(copies)
    return {name: some.clamp(-1, 1) for name, some in shown.items()}
