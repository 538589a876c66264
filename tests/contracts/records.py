"""The content of a source as hashes: light, since another process imports it, too."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

SPLITS = ("train", "validation", "test", "heldout")


def places(source, tasks) -> Iterator[tuple[str, str, int]]:
    """(task, split, size) of every split that has records."""
    for task in sorted(tasks):
        for split in SPLITS:
            if size := source.size(task, split):
                yield task, split, size


def digest(record) -> str:
    """Key, fields and the pixels of images, as hex."""
    hashed = hashlib.sha256(record.key.encode())
    for name, value in sorted(record.fields.items()):
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, np.ndarray):
                hashed.update(f"{name}{one.shape}{one.dtype}".encode() + one.tobytes())
            else:
                hashed.update(f"{name}{one!r}".encode())
    return hashed.hexdigest()


def digests(source, tasks, rows: int = 3) -> dict[tuple[str, str, int], str]:
    """Of the first records of every split."""
    return {
        (task, split, index): digest(source.record(task, split, index))
        for task, split, size in places(source, tasks)
        for index in range(min(rows, size))
    }
