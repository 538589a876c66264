"""The records of a folder of shards: all rows of its index, and the reasons in its verdicts."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unify.data.adapters.images import BadImage, decode
from unify.data.adapters.stored import Damaged, Index, read_image
from unify.data.adapters.verdicts import Verdict
from unify.data.describe.entries import SPLITS, Entry, Reader, digest, mapped
from unify.data.describe.looks import SIDE, Look, look
from unify.data.shards import Shards

TOLD = ("shard", "key", "reason", "detail")  # of a verdict, in this order
Row = dict[str, Any]


class ShardReader(Reader):
    """A row is an entry, whatever tasks it serves; its group is empty.

    Copies of pictures are found by what the index has of each, without reading them: two checksums
    of its bytes, and their number.
    """

    is_whole = True

    def __init__(self, shards: Shards):
        self._shards, self._index = shards, Index(shards.path)
        self.total = len(self._index)
        self.bad = self._index.summary["left_out"]
        self.counts = {
            task: {split: shards.size(task, split) for split in SPLITS}
            for task in sorted(shards.tasks)
        }

    def entries(self, jobs: int) -> Iterator[Entry | Verdict]:
        for place in range(self.total):
            yield self.entry(place)

    def entry(self, place: int) -> Entry | Verdict:
        try:
            return self._entry(place, self._index.row(place))
        except Damaged:
            return Verdict("records.jsonl", f"record {place}", "damaged_row")
        except Exception as error:  # a row that another program wrote may hold anything
            return Verdict("records.jsonl", f"record {place}", "bad_row", repr(error))

    def _entry(self, place: int, row: Row) -> Entry | Verdict:
        texts = {}
        for field, name in (("text", "caption"), ("instruction", "instruction")):
            if field in row:
                texts[name] = row[field]
        for number, turn in enumerate(row.get("turns", ())):
            for name in ("question", "answer"):
                texts[f"{name}#{number}"] = turn[name]
        empty = [name for name, text in texts.items() if not text.strip()]
        if empty or not texts:
            reason = f"empty_{empty[0].partition('#')[0]}" if empty else "missing_text"
            return Verdict(row["shard"], row["key"], reason)
        source = row.get("source", {})
        sums = [row["hash"], row["crc32"], row["bytes"], source.get("crc32"), source.get("bytes")]
        split, size = self._shards.split(row["hash"]), (int(row["height"]), int(row["width"]))
        return Entry(place, "", split, row["shard"], row["key"], texts, *size, digest(*sums))

    def left_out(self) -> Iterator[Verdict]:
        path = self._shards.path / "verdicts.jsonl"
        if not path.is_file():
            return
        with path.open("rb") as file:
            for line in file:
                try:
                    told = json.loads(line)
                    yield Verdict(*(str(told.get(name, "")) for name in TOLD))
                except (ValueError, AttributeError, RecursionError):
                    continue

    def looks(self, entries: Sequence[Entry], jobs: int) -> Iterator[Look | Verdict]:
        rows = ((self._shards.path, self._index.row(entry.place)) for entry in entries)
        return mapped(_looks, rows, jobs)

    def pixels(self, entry: Entry) -> np.ndarray:
        return decode(self._index.image(self._index.row(entry.place)))


def _looks(rows: Sequence[tuple[Path, Row]]) -> list[Look | Verdict]:
    return [_look(folder, row) for folder, row in rows]


def _look(folder: Path, row: Row) -> Look | Verdict:
    try:
        return look(decode(read_image(folder, row), SIDE))
    except BadImage as bad:
        return Verdict(row["shard"], row["key"], bad.reason, str(bad))
    except Exception as error:  # of a disk, or of bytes that changed
        return Verdict(row["shard"], row["key"], "damaged_record", str(error))
