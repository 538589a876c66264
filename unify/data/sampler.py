"""The order of samples as a function of (seed, step): a counter, a permutation, and no state.

A task's draws are positions 0, 1, 2, ... of an endless sequence, of which the source says the order
(`Source.order`). So any step's sample ids cost the same to compute, nothing is shuffled in memory,
and a run resumes exactly by knowing its step.

R rows of a task per optimizer step, A micro-steps per step, W ranks.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from unify.data.order import permuted
from unify.noise import stable_seed

Order = Callable[[str, np.ndarray, int], np.ndarray]  # task, positions, seed -> indices


@dataclass(frozen=True)
class Draw:
    """Record `index` of the task's training split, at place `slot` of the task's R rows."""

    task: str
    index: int
    slot: int


class MicroSteps(Sampler[list[Draw]]):
    """A batch sampler: the draws of every micro-step on one rank, from step `start` to `steps`.

    Slots 0..R-1 of a step are cut into A * W equal blocks; micro-step m on rank r takes block
    m * W + r. What the step consumes therefore depends on neither A nor W. The length counts from
    step 0, because a resumed Trainer counts the micro-steps done before it.
    """

    def __init__(
        self,
        tasks: Mapping[str, int],
        sizes: Mapping[str, int],
        seed: int,
        steps: int,
        start: int = 0,
        accumulation: int = 1,
        world: int = 1,
        rank: int = 0,
        order: Order | None = None,
    ):
        """Cut the rows of steps `start` to `steps` for one rank.

        Args:
            tasks: rows R per step of each task.
            sizes: records in the training split of each task.
            seed: of the order of records.
            accumulation: micro-steps A per step.
            world, rank: number of ranks W, and which of them this is.
            order: of a task's records; None: every epoch a permutation of all of them.

        ValueError for rows that do not divide by A * W, and for a task without records.
        """
        blocks = accumulation * world
        for task, rows in tasks.items():
            if rows % blocks:
                raise ValueError(
                    f"task {task}: {rows} rows per step do not divide over {accumulation} "
                    f"micro-step(s) x {world} rank(s); make them a multiple of {blocks}"
                )
            if sizes[task] < 1:
                raise ValueError(f"task {task}: its training split has no records")
        self.tasks, self.sizes, self.seed = dict(sorted(tasks.items())), dict(sizes), seed
        self.steps, self.start = steps, start
        self.accumulation, self.world, self.rank = accumulation, world, rank
        self.order = order or (lambda task, at, seed: permuted(at, self.sizes[task], seed))

    def __len__(self) -> int:
        return self.steps * self.accumulation

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in range(self.start, self.steps):
            for micro in range(self.accumulation):
                yield self.draws(step, micro)

    def draws(self, step: int, micro: int) -> list[Draw]:
        """The draws of one micro-step on this rank, tasks in sorted order."""
        out = []
        block = micro * self.world + self.rank
        for task, rows in self.tasks.items():
            width = rows // (self.accumulation * self.world)
            slots = np.arange(block * width, (block + 1) * width)
            seed = stable_seed(self.seed, task)  # tasks over the same records differ in order
            indices = self.order(task, step * rows + slots, seed)
            out += [Draw(task, int(i), int(s)) for i, s in zip(indices, slots, strict=True)]
        return out
