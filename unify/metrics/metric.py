"""The contract of a metric: a trained model -> scores with counts, intervals and passports."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from unify.data.source import Source
from unify.paradigm import Trainable


@dataclass
class Score:
    """One measured number: `n` trials, a 95% interval [low, high] where one is defined.

    `passport` says how it was measured; scores with unlike passports are never put in one column.
    `outcomes` has each trial's in the order of its prompt set, which is what two arms share.
    """

    metric: str
    value: float
    n: int
    low: float | None = None
    high: float | None = None
    passport: dict[str, Any] = field(default_factory=dict)
    outcomes: Sequence[float] = field(default=(), repr=False)

    def row(self) -> dict[str, Any]:
        """The score as a row of scores.json: all but the outcomes."""
        row = asdict(self)
        del row["outcomes"]
        return row


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

    def chunks(self, rows: int) -> list[range]:
        """Rows that are worked on at once; the same on any number of ranks."""
        return [range(start, min(start + self.batch, rows)) for start in range(0, rows, self.batch)]


class Metric(ABC):
    """Measures one thing. Numbers (how many prompts, which split) are constructor arguments."""

    tasks: ClassVar[frozenset[str]]  # measured only if a subject has one of these; else n/a
    timed: ClassVar[bool] = False  # whether it measures time, which takes a quiet machine
    # to be raised when it, or what it measures by, comes to another score: stored ones are then old
    version: ClassVar[int] = 1

    @abstractmethod
    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        """Scores named like `text_to_image/exact/two_objects`, and grids to look at."""


def digest(content: bytes) -> str:
    """12 hex digits of what was scored or asked, for a passport."""
    return hashlib.sha256(content).hexdigest()[:12]


def proportion(metric: str, hits: Sequence[bool], passport: dict[str, Any] | None = None) -> Score:
    """A share with its 95% Wilson interval."""
    n, k = len(hits), sum(map(bool, hits))
    if n == 0:
        return Score(metric, math.nan, 0, None, None, passport or {})
    p, z = k / n, 1.959964
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Score(metric, p, n, low, high, passport or {}, [float(hit) for hit in hits])


def psnr(images: Tensor, truth: Tensor) -> list[float]:
    """Peak signal-to-noise ratio in dB of each image [B 3 H W] in [-1, 1]; at most 86 dB."""
    error = (images - truth).square().mean((1, 2, 3)).clamp_min(1e-8)
    return (10 * torch.log10(4 / error)).tolist()


def average(metric: str, values: Sequence[float], passport: dict[str, Any] | None = None) -> Score:
    """A mean with its 95% interval by Student's t."""
    n = len(values)
    if n == 0:
        return Score(metric, math.nan, 0, None, None, passport or {})
    mean = math.fsum(values) / n
    if n == 1:
        return Score(metric, mean, 1, None, None, passport or {}, values)
    from scipy.stats import t as student

    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = float(student.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return Score(metric, mean, n, mean - half, mean + half, passport or {}, values)
