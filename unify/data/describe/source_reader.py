"""Records of any source: a sample of each task and split, the same on every call."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from unify.data.adapters.verdicts import Verdict
from unify.data.describe.entries import SPLITS, Entry, Reader, digest, mapped
from unify.data.describe.looks import Look, look
from unify.data.order import permuted
from unify.data.source import Source, Split, Task
from unify.data.workers import Picklable

Place = tuple[int, str, Split, int]  # of an entry: its number, task, split, index


class SourceReader(Reader):
    """The tasks `tasks` of a source, each a group: records of one may show those of another."""

    bad: Mapping[str, int] = {}

    def __init__(self, source: Source, tasks: Sequence[str], sample: int):
        """`sample`: records of a split that are drawn at most, an equal part of each task."""
        self._drawn = Drawn(source)
        sizes = {task: {s: source.size(task, s) for s in SPLITS} for task in sorted(source.tasks)}
        self.counts = sizes
        self._places: list[Place] = []
        for task in tasks:
            for split, size in sizes[task].items():
                count = min(size, -(-sample // len(tasks)))
                chosen = sorted(permuted(np.arange(count), size, 0).tolist()) if count else []
                first = len(self._places)
                self._places += [(first + n, task, split, at) for n, at in enumerate(chosen)]
        self.total = len(self._places)
        self.is_whole = self.total == sum(sum(sizes[task].values()) for task in tasks)

    def entries(self, jobs: int) -> Iterator[Entry | Verdict]:
        drawn = Picklable(self._drawn)  # its class may be one of a user's own file
        return mapped(drawn.__getitems__, self._places, jobs)

    def entry(self, place: int) -> Entry | Verdict:
        return self._drawn.entry(self._places[place])

    def left_out(self) -> Iterator[Verdict]:
        return iter(())

    def looks(self, entries: Sequence[Entry], jobs: int) -> Iterator[Look | Verdict]:
        for entry in entries:
            assert entry.look is not None  # it was made with the entry
            yield entry.look

    def pixels(self, entry: Entry) -> np.ndarray:
        _, task, split, index = self._places[entry.place]
        record = self._drawn.source.record(task, split, index)
        image = _picture(self._drawn.source.task(task), record.fields)
        assert image is not None
        return image


class Drawn(Dataset):
    """Entries of a source by place."""

    def __init__(self, source: Source):
        self.source = source

    def __getitems__(self, places: Sequence[Place]) -> list[Entry | Verdict]:
        return [self.entry(place) for place in places]

    def entry(self, place: Place) -> Entry | Verdict:
        """One record, or why it is none: whatever the source raises, or what it lacks."""
        number, name, split, index = place
        where = (type(self.source).__name__, f"{name}/{split}/{index}")
        try:
            record = self.source.record(name, split, index)
            task = self.source.task(name)
            if reason := _lacks(task, record.fields):
                return Verdict(*where, reason)
            texts = {field: record.fields[field] for field in task.text_fields}
            image = _picture(task, record.fields)
            if image is None:
                return Entry(number, name, split, "", record.key, texts)
            data = np.ascontiguousarray(image)
            value = digest(data.shape, data.tobytes())
            seen = look(_central(data))
            height, width = data.shape[:2]
            return Entry(number, name, split, "", record.key, texts, height, width, value, seen)
        except Exception as error:  # one record of a user's own source must not end it
            return Verdict(*where, "error", f"{type(error).__name__}: {error}")


def _lacks(task: Task, fields: Mapping[str, Any]) -> str:
    """What is wrong with a record's fields, as a reason; "" if nothing is."""
    for column in task.columns:
        value = fields.get(column.field)
        if column.kind == "images":
            value = value or fields.get(column.field.removesuffix("s"))
        if value is None:
            return f"missing_{column.field}"
        if column.kind == "text" and not isinstance(value, str):
            return f"bad_{column.field}"
        if column.kind == "text" and not value.strip():
            return f"empty_{column.field}"
        if column.kind == "image" and not (
            isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.shape[2:] == (3,)
        ):
            return f"bad_{column.field}"
    return ""


def _picture(task: Task, fields: Mapping[str, Any]) -> np.ndarray | None:
    """The picture that a record is about: the target if that is one, else the first given."""
    names = [column.field for column in reversed(task.columns) if column.kind == "image"]
    return fields[names[0]] if names else None


def _central(image: np.ndarray) -> np.ndarray:
    """The central square of [H W 3]."""
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]
