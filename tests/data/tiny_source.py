"""A source of images of one colour, in memory."""

import numpy as np

from unify.data.source import Record, Source

TASKS = {"text_to_image": 8, "caption": 4}


class Tiny(Source):
    """Images of one colour: record i says "text i"."""

    @property
    def tasks(self):
        return frozenset({"text_to_image", "caption", "text"})

    def size(self, task, split):
        return {"text_to_image": 37, "caption": 10, "text": 5}[task]

    def record(self, task, split, index):
        field = {"text_to_image": "prompt", "caption": "caption", "text": "text"}[task]
        image = np.full((8, 8, 3), index, np.uint8)
        return Record(f"{task}-{index}", {field: f"text {index}", "image": image})

    def fingerprint(self):
        return "0123456789ab"
