"""Pairs of a sample that are nearly the same: how many records have one, and the closest pairs.

N records.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from unify.data.describe.entries import Entry

Item = TypeVar("Item")
Pairs = Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]  # places, later places, distances


@dataclass
class Near:
    """What was compared, by split, and what was found."""

    compared: dict[str, int]
    paired: dict[str, int] = field(default_factory=dict)  # records that are in a pair
    with_train: dict[str, int] = field(default_factory=dict)  # not of train, paired with one of it
    pairs: int = 0
    closest: list[tuple[Entry, Entry]] = field(default_factory=list)  # across splits first


def within_groups(
    entries: Sequence[Entry], items: Sequence[Item], pairs: Callable[[Sequence[Item]], Pairs]
) -> Pairs:
    """`pairs` of the items of entries, of which two are compared if their groups are the same."""
    groups = np.array([entry.group for entry in entries], str)
    for group in sorted(set(groups.tolist())):
        places = np.flatnonzero(groups == group)
        for left, right, far in pairs([items[place] for place in places.tolist()]):
            yield places[left], places[right], far


def near(entries: Sequence[Entry], values: Sequence[int], pairs: Pairs, most: int) -> Near:
    """Sum up pairs of entries.

    Pairs of equal `values` are copies, which are counted elsewhere. `most`: pairs that are kept.
    """
    splits = np.array([entry.split for entry in entries], str)
    copies, is_train = np.array(values, np.int64), splits == "train"
    paired, with_train = np.zeros(len(entries), bool), np.zeros(len(entries), bool)
    best: list[tuple[bool, float, int, int]] = []
    found = Near(dict(sorted(Counter(splits.tolist()).items())))
    for left, right, far in pairs:
        counts = copies[left] != copies[right]
        left, right, far = left[counts], right[counts], far[counts]
        found.pairs += len(left)
        paired[left] = paired[right] = True
        with_train[left[is_train[right]]] = True
        with_train[right[is_train[left]]] = True
        inside = is_train[left] == is_train[right]
        first = np.lexsort((right, left, far, inside))[:most]
        some = zip(*(array[first].tolist() for array in (inside, far, left, right)), strict=True)
        best = sorted([*best, *some])[:most]
    found.paired = dict(sorted(Counter(splits[paired].tolist()).items()))
    found.with_train = dict(sorted(Counter(splits[with_train & ~is_train].tolist()).items()))
    found.closest = [(entries[left], entries[right]) for _, _, left, right in best]
    return found
