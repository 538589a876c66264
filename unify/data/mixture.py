"""Several sources as one, mixed in shares.

    class: unify.data.mixture.Mixture
    sources: {mine: {class: unify.data.shards.Shards, path: data/mine}, web: {...}}
    shares: {mine: 3, web: 1}               # three of four rows, of every task that both serve
    of_task: {caption: {mine: 1, web: 0}}    # of one task otherwise

Rows come in windows of WINDOW, in which every source has its share exactly, rounded to one row, in
a pseudo-random order that is a function of the place and the seed. The rows of one source follow
its own order, so that none of its records comes twice before all have come once, whatever the
shares. Rows of a task have equally many tokens (`data.lengths`): their shares are those of tokens,
too. Outside of training the records of all sources follow one another, and shares mean nothing.

N records of all sources.
"""

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np

from unify.data.order import permuted
from unify.data.source import TASKS, Record, Source, Split, source_fingerprint
from unify.noise import stable_seed
from unify.support.ranges import NotNegative

WINDOW = 1000  # rows


class Mixture(Source):
    """Sources by name.

    Args:
        sources: their tasks may differ; a task is that of all that serve it.
        shares: of each, of the rows of every task; need not sum to 1.
        of_task: the same of single tasks.

    ValueError for shares of unknown sources or tasks, and for a share of less than one row of a
    window. Keys of records begin with the name of their source.
    """

    def __init__(
        self,
        sources: dict[str, Source],
        shares: dict[str, NotNegative],
        of_task: dict[str, dict[str, NotNegative]] | None = None,
    ):
        self.sources, self.shares, self.of_task = sources, shares, of_task or {}
        if not sources:
            raise ValueError("a mixture has no sources; name at least one")
        wrong = ["shares"] if shares.keys() != sources.keys() else []
        wrong += [f"of_task.{t}" for t, own in self.of_task.items() if own.keys() - sources.keys()]
        if wrong:
            raise ValueError(f"{wrong[0]}: one number for each of {', '.join(sources)}")
        for task in self.of_task:
            if task not in self.tasks:
                served = ", ".join(sorted(self.tasks))
                raise ValueError(f"of_task: no source serves {task!r}; they serve {served}")
        self._rows = {task: self._window(task) for task in self.tasks}

    def _window(self, task: str) -> np.ndarray:
        """Rows of each source in a window of a task, by largest remainder, [sources]."""
        given = {**self.shares, **self.of_task.get(task, {})}
        there = [name for name, one in self.sources.items() if one.size(task, "train")]
        total = sum(given[name] for name in there)
        if there and not total:
            raise ValueError(f"{task}: all sources that serve it have a share of 0; give one some")
        shares = np.array([given[n] / total if n in there else 0.0 for n in self.sources])
        rows = np.floor(shares * WINDOW + 1e-9).astype(np.int64)
        for place in np.argsort(rows - shares * WINDOW, kind="stable")[: WINDOW - rows.sum()]:
            rows[place] += 1
        for name, share, count in zip(self.sources, shares, rows, strict=True):
            if share and not count:
                raise ValueError(
                    f"{task}: {name} has {share:.2g} of the rows, less than one of {WINDOW:,}; "
                    "give it more, or 0"
                )
        return rows

    @property
    def tasks(self) -> frozenset[str]:
        return frozenset(
            task
            for task in TASKS
            if any(task in s.tasks and s.size(task, "train") for s in self.sources.values())
        )

    def size(self, task: str, split: Split) -> int:
        return sum(self._sizes(task, split))

    def _sizes(self, task: str, split: Split) -> list[int]:
        return [s.size(task, split) if task in s.tasks else 0 for s in self.sources.values()]

    def order(self, task: str, positions: np.ndarray, seed: int) -> np.ndarray:
        rows, before = self._rows[task], self._before(task, "train")
        source, draw = np.empty_like(positions), np.empty_like(positions)
        for number in np.unique(positions // WINDOW):
            here = positions // WINDOW == number
            line, nth = _dealt(rows, int(number), stable_seed(seed, "mixture"))
            at = positions[here] % WINDOW
            source[here] = line[at]
            draw[here] = number * rows[line[at]] + nth[at]
        indices = np.empty_like(positions)
        for number, (name, one) in enumerate(self.sources.items()):
            mine = source == number
            if mine.any():
                found = one.order(task, draw[mine], stable_seed(seed, name))
                indices[mine] = before[number] + found
        return indices

    def _before(self, task: str, split: Split) -> np.ndarray:
        """Records before those of each source, and of all, [sources + 1]."""
        return np.cumsum([0, *self._sizes(task, split)])

    def record(self, task: str, split: Split, index: int) -> Record:
        before = self._before(task, split)
        if not 0 <= index < before[-1]:
            raise IndexError(f"{task} has {before[-1]} records in {split}, no {index}")
        place = int(np.searchsorted(before, index, side="right")) - 1
        name = list(self.sources)[place]
        found = self.sources[name].record(task, split, int(index - before[place]))
        return replace(found, key=f"{name}/{found.key}")

    def fingerprint(self) -> str:
        content: list[Any] = [[name, source_fingerprint(s)] for name, s in self.sources.items()]
        content += [self.shares, self.of_task]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _dealt(rows: np.ndarray, window: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of a window's places the source, and how many places of that source come before, [WINDOW]."""
    places = permuted(window * WINDOW + np.arange(WINDOW), WINDOW, seed)
    line = np.searchsorted(np.cumsum(rows), places, side="right")
    nth = np.empty_like(line)
    for number in np.unique(line):
        mine = line == number
        nth[mine] = np.arange(mine.sum())
    return line, nth
