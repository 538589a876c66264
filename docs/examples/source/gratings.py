"""A data source of one's own: stripes of one colour, drawn as they are asked for.

A record depends on the arguments, the split and the index alone: not on a state, the process or
the order of reading. So runs resume exactly, and all arms of a study see the same samples.

H x W pixels.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np

from unify.data.source import Record, Source, Split
from unify.noise import stable_seed

VERSION = 1  # raise it whenever the code draws a record differently
COLORS = {"red": (220, 40, 40), "green": (40, 180, 70), "blue": (50, 80, 220)}


class Gratings(Source):
    """Images of `size` x `size` pixels; `records` of them to train on, 1000 in other splits."""

    def __init__(self, size: int = 16, records: int = 5000, seed: int = 0):
        self.side, self.records, self.seed = size, records, seed

    @property
    def tasks(self) -> frozenset[str]:
        return frozenset({"text_to_image", "caption", "image"})

    def size(self, task: str, split: Split) -> int:
        if split == "heldout":  # of things that training never shows: this source has none
            return 0
        return self.records if split == "train" else 1000

    def record(self, task: str, split: Split, index: int) -> Record:
        if not 0 <= index < self.size(task, split):
            raise IndexError(f"{task}/{split} has {self.size(task, split)} records, not {index}")
        rng = random.Random(stable_seed("gratings", self.seed, split, index))
        color = rng.choice(list(COLORS))
        vertical, width, phase = rng.random() < 0.5, rng.choice((2, 4)), rng.randrange(8)
        along = ((np.arange(self.side) + phase) // width) % 2 == 0  # [W] or [H]
        stripes = np.broadcast_to(along if vertical else along[:, None], (self.side, self.side))
        image = np.where(stripes[..., None], COLORS[color], 255).astype(np.uint8)  # [H W 3]
        text = f"{color} {'vertical' if vertical else 'horizontal'} stripes"
        # the fields that the task's columns name; `meta` is for metrics, and no model sees it
        fields = {"image": image, "prompt": text, "caption": text}
        return Record(f"{split}/{index}", fields, {"color": color, "vertical": vertical})

    def fingerprint(self) -> str:
        """Of all that a record depends on: runs on other data are other runs."""
        content = repr((VERSION, self.side, self.records, self.seed))
        return hashlib.sha256(content.encode()).hexdigest()[:12]
