"""The contract of a metric: a trained model -> scores with counts, intervals and passports."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from unify.analysis.clustered_intervals import UNBOUNDED, mean_interval, share_interval
from unify.data.source import Record, Source, Split
from unify.paradigm import Trainable

Better = Literal["higher", "lower"]
MOST_PSNR = 86.1  # dB of `psnr`


@dataclass
class Score:
    """One measured number: `n` trials, a 95% interval [low, high] where one is defined.

    The interval is over prompts, of this one model: how others would train is not in it.

    Args:
        metric: `task/measure/category`.
        value: None where there was nothing to take it of, n being 0.
        n: how many of `unit` the value is over.
        passport: how it was measured; scores with unlike passports are never put in one column.
        outcomes: each trial's in the order of its prompt set, which is what two arms share.
        better: which values are better; None where neither is (how many codes are used, a
            baseline): then no arm is called better or worse by it, and nothing is tuned by it.
        unit: what is counted by `n`: prompts, questions, images, tokens, codes.
        prompts: index of the distinct prompt of each trial; empty: each trial has its own.
    """

    metric: str
    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    passport: dict[str, Any] = field(default_factory=dict)
    outcomes: Sequence[float] = field(default=(), repr=False)
    better: Better | None = None
    unit: str = "trials"
    prompts: Sequence[int] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.better not in (None, "higher", "lower"):
            raise ValueError(
                f"{self.metric}: `better` is {self.better!r}; say 'higher', 'lower' or None"
            )

    def row(self) -> dict[str, Any]:
        """The score as a row of scores.json: all but the trials, of whose prompts the number of
        `distinct` ones is kept (null: each trial has its own)."""
        row = asdict(self)
        del row["outcomes"], row["prompts"]
        return {**row, "distinct": len(set(self.prompts)) or None}


@dataclass
class Grid:
    """Pictures to look at: images [B 3 H W] in [-1, 1], a title and a verdict per picture."""

    name: str
    images: Tensor
    titles: list[str]
    verdicts: list[bool | None]


@dataclass
class Subject:
    """The subject of a measurement: a model in eval mode, its data, the sampler of its run."""

    model: Trainable
    source: Source
    tasks: frozenset[str]  # what the run trained on, and what its model answers untrained
    lengths: dict[str, int]
    image_sampling: dict[str, Any]
    text_sampling: dict[str, Any]
    seed: int
    batch: int = 64
    # pictures [3 H W] that one metric drew, which another that asks for them takes: by the name of
    # their stream of seeds, row and prompt
    drawn: dict[tuple[str, int, str | None], Tensor] = field(default_factory=dict, init=False)

    def chunks(self, rows: int) -> list[range]:
        """Rows that are worked on at once; the same on any number of ranks."""
        return [range(start, min(start + self.batch, rows)) for start in range(0, rows, self.batch)]


class Metric(ABC):
    """Measures one thing. Numbers (how many prompts, which split) are constructor arguments."""

    tasks: ClassVar[frozenset[str]]  # measured only if a subject has one of these; else n/a
    # shell patterns of the names of its scores, `*/perplexity` for each of its tasks: a study whose
    # primary outcome no arm measures is refused
    measures: ClassVar[tuple[str, ...]] = ("*",)
    timed: ClassVar[bool] = False  # whether it measures time, which takes a quiet machine
    # to be raised when it, or what it measures by, comes to another score: stored ones are then old
    version: ClassVar[int] = 1
    # of parts that have weights of their own, a judge: the hash by key; known once it is built
    own_weights: Mapping[str, str] = MappingProxyType({})
    # its arguments, as the configuration has them: a passport of one's own metric states them
    configured: Mapping[str, Any] = MappingProxyType({})

    def check(self, subject: Subject) -> None:
        """ValueError if it cannot score the subject; asked before what is scored later is trained.

        Here: if the split that its argument `split` names has no record of a task to score.
        """
        split: Split | None = getattr(self, "split", None)
        if split is not None:
            for task in sorted(self.tasks & subject.tasks):
                available_records(subject.source, task, split)

    @classmethod
    def depends_on(cls, arguments: Mapping[str, Any]) -> object | None:
        """What else decides the scores of a metric with these arguments, None for nothing.

        Of a file that an argument names, say, its content: stored scores of another are old.
        ValueError where that cannot be told.
        """
        return None

    @abstractmethod
    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        """Scores named like `text_to_image/exact/two_objects`, and grids to look at."""


def digest(content: bytes) -> str:
    """12 hex digits of what was scored or asked, for a passport."""
    return hashlib.sha256(content).hexdigest()[:12]


def first_records(source: Source, task: str, split: Split, n: int) -> list[Record]:
    """The first n records of a split, or all if it has fewer.

    ValueError where there are none: nothing would be measured, and nobody told.
    """
    if n < 1:
        raise ValueError(f"{task}: a metric of {n} records measures nothing; ask for 1 at least")
    available = available_records(source, task, split)
    return [source.record(task, split, index) for index in range(min(n, available))]


def available_records(source: Source, task: str, split: Split) -> int:
    """Records of a split; ValueError for none, with where there are some and the remedy."""
    size = source.size(task, split)
    if size == 0:
        splits: tuple[Split, ...] = ("train", "validation", "test")
        sizes = {name: source.size(task, name) for name in splits}
        there = ", ".join(f"{name} {count:,}" for name, count in sizes.items())
        other = next((name for name in splits if sizes[name]), "")
        instead = f", or score another (`split: {other}`)" if other else ""
        raise ValueError(
            f"the {split} split of {type(source).__name__} has no record of {task} ({there}): give "
            f"it some (imported files: `data.source.{split}`){instead}"
        )
    return size


def conditions(source: Source, task: str, records: Sequence[Record]) -> list[tuple]:
    """The content of what a model is given of each record: equal for a repeated prompt.

    Of a task without conditions, the target.
    """
    columns = source.task(task).columns
    fields = [column.field for column in columns[:-1] or columns]
    return [tuple(_content(record.fields.get(name)) for name in fields) for record in records]


def pictures(source: Source, task: str, records: Sequence[Record]) -> list[tuple]:
    """The content of the pictures among `conditions`; empty tuples of a task without one."""
    columns = source.task(task).columns[:-1]
    fields = [column.field for column in columns if column.kind != "text"]
    return [tuple(_content(record.fields.get(name)) for name in fields) for record in records]


def _content(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_content, value))
    return value.tobytes() if isinstance(value, np.ndarray) else value


def distinct(prompts: Sequence[Hashable]) -> list[int]:
    """Index of the distinct prompt of each trial, in the order of first appearance."""
    index: dict[Hashable, int] = {}
    return [index.setdefault(prompt, len(index)) for prompt in prompts]


def proportion(
    metric: str,
    hits: Sequence[bool],
    passport: dict[str, Any] | None = None,
    *,
    better: Better | None = None,
    unit: str = "trials",
    prompts: Sequence[Hashable] = (),
) -> Score:
    """A share with its 95% interval: Wilson's, over distinct prompts where some are repeated.

    `prompts` says what each trial asked, equal for repeats (analysis/clustered_intervals.py); left
    out, each trial counts as a prompt of its own. ValueError without a trial, or for one that is
    neither a hit nor none.
    """
    outcomes, asked = [float(hit) for hit in hits], distinct(prompts)
    if others := [hit for hit in outcomes if hit not in (0.0, 1.0)]:
        raise ValueError(
            f"{metric}: a trial of a share is a hit or none, True or False, and {len(others)} of "
            f"{len(outcomes)} are neither (such as {others[0]:g}); give `average` what is measured "
            "in numbers, and leave out what was not measured"
        )
    value = _mean(metric, outcomes)
    low, high = share_interval(outcomes, asked) or (None, None)
    of = passport or {}
    return Score(metric, value, len(hits), low, high, of, outcomes, better, unit, asked)


def average(
    metric: str,
    values: Sequence[float],
    passport: dict[str, Any] | None = None,
    *,
    better: Better | None = None,
    unit: str = "trials",
    prompts: Sequence[Hashable] = (),
    bounds: tuple[float, float] = UNBOUNDED,
) -> Score:
    """A mean with its 95% interval by Student's t, cut off at the `bounds` of a single value.

    `prompts` as in `proportion`. A value that is not finite leaves a mean that is not, and has no
    interval: it is stored as none, and said to be no number. ValueError without a value.
    """
    value, asked = _mean(metric, values), distinct(prompts)
    ends = mean_interval(values, asked, bounds) if math.isfinite(value) else None
    low, high = ends or (None, None)
    of = passport or {}
    return Score(metric, value, len(values), low, high, of, values, better, unit, asked)


def _mean(metric: str, values: Sequence[float]) -> float:
    if not values:
        raise ValueError(f"{metric}: there is no trial to score; leave the score out")
    if not all(map(math.isfinite, values)):
        return float(sum(values))  # inf, -inf or NaN
    return math.fsum(values) / len(values)


def psnr(images: Tensor, truth: Tensor) -> list[float]:
    """Peak signal-to-noise ratio in dB of each image [B 3 H W] in [-1, 1]; at most MOST_PSNR."""
    error = (images - truth).square().mean((1, 2, 3)).clamp_min(1e-8)
    return (10 * torch.log10(4 / error)).tolist()
