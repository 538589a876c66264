"""The data of a run: a source, the tasks, and how many rows of each make one optimizer step.

A micro-step is `{task: Batch}` with the same tasks and sizes on every rank. What a step consumes is
a function of (seed, step): workers, accumulation and ranks change nothing (see sampler.py).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from unify.batch import Batch
from unify.data.sampler import Draw, MicroSteps
from unify.data.source import TASKS, Source, Split, source_fingerprint
from unify.data.workers import Loader
from unify.support.ranges import Count


class Data:
    """A source and what training reads from it.

    `tasks` are rows per optimizer step (the global batch), `lengths` tokens per text field. Tasks
    are kept sorted: their order in a YAML does not matter.
    """

    def __init__(
        self, source: Source, tasks: dict[str, Count], lengths: dict[str, Count] | None = None
    ):
        self.source, self.tasks, self.lengths = source, dict(sorted(tasks.items())), lengths or {}
        self._check()
        self.seed, self.workers, self.timeout = 0, 0, 0.0

    def _check(self) -> None:
        if not self.tasks:
            raise ValueError("data.tasks is empty; name at least one, e.g. {text_to_image: 64}")
        known = self.source.known_tasks()
        served = sorted(self.source.tasks & known.keys())
        for task, rows in self.tasks.items():
            if task not in served:
                raise ValueError(
                    f"data.tasks: {type(self.source).__name__} has no task {task!r}; "
                    f"it has {', '.join(served)}"
                )
            if rows < 1:
                raise ValueError(f"data.tasks.{task} must be at least 1 row per step, not {rows}")
        fields = {name for task in known.values() for name in task.text_fields}
        for name in self.lengths.keys() - fields:
            raise ValueError(f"data.lengths: no text field {name!r}; there are {sorted(fields)}")

    def prepare(self, seed: int, workers: int = 0, timeout: float = 0.0) -> None:
        """Set how training reads.

        Args:
            seed: of the order of records.
            workers: loader processes; 0 reads in the training process.
            timeout: seconds without a batch that are an error; 0 waits without end.
        """
        self.seed, self.workers, self.timeout = seed, workers, timeout

    def train_batches(
        self,
        seed: int,
        accumulation: int,
        start: int,
        steps: int,
        world: int = 1,
        rank: int = 0,
        workers: int = 0,
        pin: bool = False,
    ) -> DataLoader:
        """`{task: Batch}` per micro-step of one rank.

        Args:
            seed: of the order of records.
            accumulation: micro-steps per optimizer step.
            start, steps: the first optimizer step, and the one before which reading ends.
            world, rank: number of ranks, and which of them reads.
            workers: loader processes.
            pin: whether batches are put into page-locked memory.

        ValueError if a task's rows do not divide over accumulation x world.
        """
        sizes = {task: self.source.size(task, "train") for task in self.tasks}
        order = self.source.order
        micro_steps = MicroSteps(
            self.tasks, sizes, seed, steps, start, accumulation, world, rank, order
        )
        return Loader(
            Draws(self.source, self.lengths),
            workers,
            world,
            self.timeout,
            batch_sampler=micro_steps,
            collate_fn=_as_is,
            pin_memory=pin,
        )

    def batch(self, task: str, split: Split, indices: Sequence[int]) -> Batch:
        """Records of one split, as evaluation reads them."""
        records = [self.source.record(task, split, index) for index in indices]
        return self.source.task(task).batch(records, self.lengths)

    def texts(self, n: int) -> list[str]:
        """Up to `n` texts of the training split, every text field of the tasks: to fit a BPE."""
        return list(islice(self._texts(), n))

    def _texts(self) -> Iterator[str]:
        sizes = {task: self.source.size(task, "train") for task in self.tasks}
        for position in range(max(sizes.values())):
            for task, size in sizes.items():
                if position < size:
                    (index,) = self.source.order(task, np.array([position]), 0)
                    yield from self._record_texts(task, int(index)).values()

    def _record_texts(self, task: str, index: int) -> dict[str, str]:
        fields = self.source.record(task, "train", index).fields
        return {name: value for name, value in fields.items() if isinstance(value, str)}

    def fingerprint(self) -> str:
        """12 hex digits: the source's records, the tasks and the text lengths."""
        content: list[Any] = [source_fingerprint(self.source), self.tasks, self.lengths]
        if own := [repr(self.source.task(task)) for task in self.tasks if task not in TASKS]:
            content.append(own)  # what the columns of a task of the user's own are may change
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


class Draws(Dataset):
    """The draws of one micro-step -> `{task: Batch}`."""

    def __init__(self, source: Source, lengths: Mapping[str, int]):
        self.source, self.lengths = source, lengths

    def __getitems__(self, draws: Sequence[Draw]) -> dict[str, Batch]:
        out = {}
        for task in sorted({draw.task for draw in draws}):
            mine = [draw for draw in draws if draw.task == task]
            records = [self.source.record(task, "train", draw.index) for draw in mine]
            out[task] = self.source.task(task).batch(records, self.lengths)
            out[task].slots = [draw.slot for draw in mine]
        return out


def _as_is(batches: Any) -> Any:
    return batches
