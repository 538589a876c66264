"""The order of samples as a function of (seed, step): a counter, a permutation, and no state.

A task's draws are positions 0, 1, 2, ... of an endless sequence. Position p is in epoch p // n and
goes through a pseudo-random permutation of [0, n) keyed by (seed, epoch): a Feistel network over
the next power of four, (L, R) -> (R, L xor F(R)), walked along its cycles until it falls below n
(Black and Rogaway, CT-RSA 2002). So any step's sample ids cost the same to compute, nothing is
shuffled in memory, and a run resumes exactly by knowing its step.

R rows of a task per optimizer step, A micro-steps per step, W ranks.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from unify.noise import stable_seed

ROUNDS = 8


def permuted(position: np.ndarray | int, n: int, seed: int) -> np.ndarray:
    """Positions (any shape, from 0 without end) -> indices in [0, n): each epoch a permutation."""
    position = np.asarray(position, dtype=np.int64)
    epoch, index = np.divmod(position, n)
    out = np.empty_like(index)
    for number in np.unique(epoch):
        same = epoch == number
        out[same] = _permute(index[same], n, stable_seed("order", seed, int(number)))
    return out


def _permute(index: np.ndarray, n: int, key: int) -> np.ndarray:
    """A permutation of [0, n), keyed; `index` [K] in [0, n)."""
    if n == 1:
        return index
    half = max(3, (int(n - 1).bit_length() + 1) // 2)  # at least 64 places, so that few mix too
    keys = [np.uint64(stable_seed(key, r)) for r in range(ROUNDS)]
    value = _feistel(index.astype(np.uint64), half, keys)
    while (outside := value >= n).any():
        value[outside] = _feistel(value[outside], half, keys)
    return value.astype(np.int64)


def _feistel(value: np.ndarray, half: int, keys: list[np.uint64]) -> np.ndarray:
    """A bijection of 2 * half bits."""
    low = np.uint64((1 << half) - 1)
    left, right = value >> np.uint64(half), value & low
    for key in keys:
        left, right = right, left ^ (_mix(right + key) & low)
    return (left << np.uint64(half)) | right


def _mix(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (wraps modulo 2^64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


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
    ):
        """Cut the rows of steps `start` to `steps` for one rank.

        Args:
            tasks: rows R per step of each task.
            sizes: records in the training split of each task.
            seed: of the order of records.
            accumulation: micro-steps A per step.
            world, rank: number of ranks W, and which of them this is.

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
            order = stable_seed(self.seed, task)  # tasks over the same records differ in order
            indices = permuted(step * rows + slots, self.sizes[task], order)
            out += [Draw(task, int(i), int(s)) for i, s in zip(indices, slots, strict=True)]
        return out
