"""What a description knows of a record, and where it has the records from.

A `Reader` goes through records once, as `Entry`s: their texts, and of their pictures a size and a
digest. Pixels are read again, of the few that are compared or shown.

H x W pixels.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from unify.data.adapters.ordered_pool import in_order
from unify.data.adapters.verdicts import Verdict
from unify.data.describe.looks import Look
from unify.data.source import Split

TOGETHER = 32  # records that a process is given at once
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "heldout")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Entry:
    """One record."""

    place: int  # by which its reader finds it again
    group: str  # its task, where each task has records of its own; only these are compared
    split: str
    shard: str  # or the source that it is from
    key: str
    texts: Mapping[str, str] = field(default_factory=dict)  # by field; "#1" and so on for more
    height: int = 0  # of its picture; 0 without one
    width: int = 0
    picture: int | None = None  # 64 bits of a digest of the picture
    look: Look | None = None  # where it was made on the way

    @property
    def name(self) -> str:
        """Shard and key, as on the page."""
        return f"{self.shard} {self.key}".strip()


class Reader(ABC):
    """Records to describe.

    Attributes:
        total: records that `entries` goes through, at most.
        counts: records by task and split.
        is_whole: whether `entries` goes through all of them.
        bad: how many records were left out before, by reason.
    """

    total: int
    counts: Mapping[str, Mapping[Split, int]]
    is_whole: bool
    bad: Mapping[str, int]

    @abstractmethod
    def entries(self, jobs: int) -> Iterator[Entry | Verdict]:
        """Every record, or why it is none, in an order that is always the same."""

    @abstractmethod
    def entry(self, place: int) -> Entry | Verdict:
        """The record at a place again."""

    @abstractmethod
    def left_out(self) -> Iterator[Verdict]:
        """Some of the records in `bad`, those of the index first."""

    @abstractmethod
    def looks(self, entries: Sequence[Entry], jobs: int) -> Iterator[Look | Verdict]:
        """The look of each entry with a picture, in order."""

    @abstractmethod
    def pixels(self, entry: Entry) -> np.ndarray:
        """The picture of an entry, [H W 3]; raises whatever its bytes make a decoder raise."""


def digest(*parts: Any) -> int:
    """64 bits, signed as a database has them, that differ where any of the parts does."""
    made = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        made.update(b"%d:" % len(data) + data)
    return int.from_bytes(made.digest(), "big", signed=True)


def mapped(
    function: Callable[[Sequence[Item]], Iterable[Result]], items: Iterable[Item], jobs: int
) -> Iterator[Result]:
    """`function` of all items, some at once, in order; 2 jobs and more are as many processes."""
    rest = iter(items)
    several = iter(lambda: list(islice(rest, TOGETHER)), [])
    for results in map(function, several) if jobs < 2 else in_order(function, several, jobs):
        yield from results
