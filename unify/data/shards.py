"""Real images from tar shards, read map-style through their index.

Record i is a line of the index and one `pread` of a tar, so any order costs the same and nothing
has to be streamed to resume. The bytes are checked against their crc32 on every read: a record
damaged after the index was built stops the run and is named. Splits go by a hash of the picture,
fixed by the data alone.

No list of a task's records is kept. Of every BLOCK rows the number of a task's records in a split
is known, and the one block that has record i is read: memory and time hardly depend on N.

N records, S the side of an image in pixels.
"""

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from unify.data.adapters.columns import CHUNK
from unify.data.adapters.images import decode
from unify.data.adapters.stored import Index
from unify.data.source import Record, Source, Split
from unify.support.ranges import Count, ShareBelow1

# In this order over the hash: another share of test leaves the validation split as it is.
SPLITS: tuple[Split, ...] = ("validation", "test", "train")
# Tasks made of an image and its caption -> the name of the text field.
CAPTIONED = {"text_to_image": "prompt", "caption": "caption", "text": "text"}
# Records that a row is of a task: one, or as many as this column says.
COUNTED = {"image": "", "vqa": "turns", "edit": "edit"} | dict.fromkeys(CAPTIONED, "text")
BLOCK = 256  # rows


class Shards(Source):
    """A folder of indexed shards (see index.py), images cropped to `size` x `size`.

    `validation` and `test` are shares of the pictures. Tasks: image; text_to_image, caption and
    text if there are captions; vqa (one record per question) if there are questions; edit if there
    are source images.
    """

    def __init__(
        self,
        path: str,
        size: Count = 256,
        validation: ShareBelow1 = 0.02,
        test: ShareBelow1 = 0.02,
    ):
        if not (validation >= 0 and test >= 0 and validation + test < 1):
            raise ValueError(
                f"validation {validation} and test {test} are shares of the pictures: "
                "each at least 0, and less than 1 together"
            )
        self.path, self.image_size = Path(path), size
        self.validation, self.test = validation, test
        self._index = Index(self.path)
        edges = [0.0, validation, validation + test, 1.0]
        self._shares = dict(zip(SPLITS, pairwise(edges), strict=True))
        self._before = self._count()

    def _count(self) -> dict[tuple[str, Split], np.ndarray]:
        """By column and split: how many records are before each block, [blocks + 1]."""
        places = [(column, split) for column in set(COUNTED.values()) for split in SPLITS]
        counts: dict[tuple[str, Split], list[np.ndarray]] = {place: [] for place in places}
        for first in range(0, len(self._index), CHUNK):
            for column, split in places:
                records = self._records_of(column, split, first, CHUNK)
                blocks = np.arange(0, len(records), BLOCK)
                counts[column, split].append(np.add.reduceat(records, blocks))
        return {
            place: np.cumsum(np.concatenate([[0], *some]), dtype=np.int64)
            for place, some in counts.items()
        }

    def _records_of(self, column: str, split: Split, first: int, count: int) -> np.ndarray:
        """How many records each of the rows [first, first + count) is in the split, [count]."""
        share = self._index.columns["hash"].read(first, first + count) / 2**32
        low, high = self._shares[split]
        inside = ((share >= low) & (share < high)).astype(np.int64)
        if not column:
            return inside
        if column not in self._index.columns:  # an index from before edits
            return np.zeros_like(inside)
        return inside * self._index.columns[column].read(first, first + count)

    def __reduce__(self):  # a pickle opens the index anew instead of carrying it
        return Shards, (str(self.path), self.image_size, self.validation, self.test)

    @property
    def tasks(self) -> frozenset[str]:
        return frozenset(t for t in COUNTED if any(self.size(t, split) for split in SPLITS))

    def size(self, task: str, split: Split) -> int:
        before = self._before.get((COUNTED.get(task, "none"), split))
        return 0 if before is None else int(before[-1])

    def _place(self, task: str, split: Split, index: int) -> tuple[int, int]:
        """The row of a record, and which of its questions it is."""
        if not 0 <= index < self.size(task, split):
            raise IndexError(f"{task} has {self.size(task, split)} records in {split}, no {index}")
        before = self._before[COUNTED[task], split]
        block = int(np.searchsorted(before, index, side="right")) - 1
        records = self._records_of(COUNTED[task], split, block * BLOCK, BLOCK)
        ends = np.cumsum(records) + before[block]
        row = int(np.searchsorted(ends, index, side="right"))
        return block * BLOCK + row, int(index - ends[row] + records[row])

    def record(self, task: str, split: Split, index: int) -> Record:
        """Record `index` of a task and split; Damaged if its bytes are not those indexed."""
        place, number = self._place(task, split, index)
        row = self.row(place)
        key = f"{row['shard'].removesuffix('.tar')}/{row['key']}"
        if task == "text":
            return Record(key, {"text": row["text"]})
        image = decode(self._index.image(row), self.image_size)  # [S S 3]
        if task == "image":
            return Record(key, {"image": image})
        if task == "edit":
            source = decode(self._index.image(row, "source"), self.image_size)
            fields = {"source": source, "instruction": row["instruction"], "image": image}
            return Record(key, fields)
        if task == "vqa":
            turn = row["turns"][number]
            fields = {"image": image, "question": turn["question"], "answer": turn["answer"]}
            return Record(f"{key}#{number}", fields, {"kind": turn.get("kind", "open")})
        return Record(key, {"image": image, CAPTIONED[task]: row["text"]})

    def fingerprint(self) -> str:
        content = [self._index.summary["sha256"], self.image_size, self.validation, self.test]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]

    def split(self, picture: int) -> Split:
        """The split of a picture, by its `hash` in the index."""
        share = picture / 2**32
        return next(s for s, (low, high) in self._shares.items() if low <= share < high)

    def row(self, n: int) -> dict[str, Any]:
        """Row n of the index, parsed from its line in records.jsonl; Damaged if that changed."""
        return self._index.row(n)
