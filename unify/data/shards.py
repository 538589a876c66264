"""Real images from tar shards, read map-style through their index.

Record i is a line of the index and one `pread` of a tar, so any order costs the same and nothing
has to be streamed to resume. The bytes are checked against their crc32 on every read: a record
damaged after the index was built stops the run and is named. Splits go by a hash of the picture,
fixed by the data alone.

N records, S the side of an image in pixels.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from unify.data.adapters.images import decode
from unify.data.adapters.index import read_columns, read_image, read_index
from unify.data.source import Record, Source, Split
from unify.support.ranges import Count, ShareBelow1

# In this order over the hash: another share of test leaves the validation split as it is.
SPLITS: tuple[Split, ...] = ("validation", "test", "train")
# Tasks made of an image and its caption -> the name of the text field.
CAPTIONED = {"text_to_image": "prompt", "caption": "caption", "text": "text"}


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
        self._summary, self._records = read_index(self.path)
        self._rows: dict[tuple[str, str], np.ndarray] = {}  # lines of the index, by task and split
        self._turn: dict[str, np.ndarray] = {}  # by split: which question of its line
        columns = read_columns(self.path)
        self._start = columns["start"]  # [N + 1]
        has_text, turns, share = columns["text"], columns["turns"], columns["hash"] / 2**32
        edits = columns.get(
            "edit", np.zeros_like(has_text)
        )  # an index from before edits has no such column
        edges = [validation, validation + test]
        part = np.searchsorted(edges, share, side="right")  # [N], an index into SPLITS
        for number, split in enumerate(SPLITS):
            rows = np.flatnonzero(part == number)
            questions = np.repeat(rows, turns[rows])  # a row for each of its questions
            first = np.searchsorted(questions, questions)  # where a row's questions begin
            self._turn[split] = np.arange(len(questions)) - first
            self._rows |= {("image", split): rows, ("vqa", split): questions}
            self._rows |= {(task, split): rows[has_text[rows]] for task in CAPTIONED}
            self._rows["edit", split] = rows[edits[rows]]

    def __reduce__(self):  # a pickle opens the index anew instead of carrying it
        return Shards, (str(self.path), self.image_size, self.validation, self.test)

    @property
    def tasks(self) -> frozenset[str]:
        return frozenset(task for (task, _), rows in self._rows.items() if len(rows))

    def size(self, task: str, split: Split) -> int:
        return len(self._rows.get((task, split), ()))

    def record(self, task: str, split: Split, index: int) -> Record:
        """Record `index` of a task and split; Damaged if its bytes are not those indexed."""
        row = self.row(int(self._rows[task, split][index]))
        key = f"{row['shard'].removesuffix('.tar')}/{row['key']}"
        if task == "text":
            return Record(key, {"text": row["text"]})
        image = decode(read_image(self.path, row), self.image_size)  # [S S 3]
        if task == "image":
            return Record(key, {"image": image})
        if task == "edit":
            source = decode(read_image(self.path, row, "source"), self.image_size)
            fields = {"source": source, "instruction": row["instruction"], "image": image}
            return Record(key, fields)
        if task == "vqa":
            number = int(self._turn[split][index])
            turn = row["turns"][number]
            fields = {"image": image, "question": turn["question"], "answer": turn["answer"]}
            return Record(f"{key}#{number}", fields, {"kind": turn.get("kind", "open")})
        return Record(key, {"image": image, CAPTIONED[task]: row["text"]})

    def fingerprint(self) -> str:
        content = [self._summary["sha256"], self.image_size, self.validation, self.test]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]

    def row(self, n: int) -> dict[str, Any]:
        """Row n of the index, parsed from its line in records.jsonl."""
        return json.loads(self._records[self._start[n] : self._start[n + 1]])
