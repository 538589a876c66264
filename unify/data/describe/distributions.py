"""Counts by value -> quantiles, and bars whose edges are round numbers."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

MOST_BARS = 24
SPAN = 20  # largest over smallest value from which edges are a factor apart, not a distance
SHARES = {"median": 0.5, "p90": 0.9, "p99": 0.99}
SHAPES = ((1, 3), (1, 2), (2, 3), (3, 4), (1, 1), (4, 3), (3, 2), (2, 1), (3, 1))


def distribution(counts: Counter[int]) -> dict[str, Any]:
    """least, median, p90, p99, most, mean, and the histogram; counts are of whole numbers."""
    total, seen, wanted = sum(counts.values()), 0, dict(SHARES)
    out: dict[str, Any] = {"records": total, "least": min(counts)}
    for value in sorted(counts):
        seen += counts[value]
        for name in [name for name, share in wanted.items() if seen >= share * total]:
            out[name] = value
            del wanted[name]
    mean = math.fsum(value * n for value, n in counts.items()) / total
    edges = _edges(min(counts), max(counts))
    bars = [0] * (len(edges) - 1)
    for value, n in counts.items():
        bars[bisect_right(edges, value) - 1] += n
    return {**out, "most": max(counts), "mean": round(mean, 2), "edges": edges, "counts": bars}


def _edges(least: int, most: int) -> list[int]:
    """Whole numbers, the first at most `least`, the last above `most`."""
    if most >= SPAN * max(least, 1):
        factor = (most + 1) / max(least, 1)
        steps = min(MOST_BARS, math.ceil(4 * math.log2(factor)))
        edges = {round(max(least, 1) * factor ** (n / steps)) for n in range(steps)}
        return sorted({least, *edges, most + 1})
    size = 1
    while (most + 1 - least) / size > MOST_BARS:
        size = size * 5 // 2 if str(size)[0] == "2" else size * 2  # 1, 2, 5, 10 ...
    first = least // size * size
    return list(range(first, most + size + 1, size))


def shapes(sizes: Iterable[tuple[int, int, int]]) -> dict[str, int]:
    """(width, height, count) of pictures -> how many are of each shape, from narrow to wide."""
    names = [f"below {_ratio(SHAPES[0])}"]
    for low, high in pairwise(SHAPES):
        if low == (1, 1):
            names.append("square")
        names.append(f"{_ratio(low)} to {_ratio(high)}")
    names.append(f"{_ratio(SHAPES[-1])} or more")
    out = dict.fromkeys(names, 0)
    for width, height, count in sizes:
        past = sum(width * h >= w * height for w, h in SHAPES)
        wider = past + (width > height)  # "square" has a bar of its own
        out[names[wider]] += count
    return out


def _ratio(shape: tuple[int, int]) -> str:
    return f"{shape[0]}:{shape[1]}"
