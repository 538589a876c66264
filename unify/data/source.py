"""Sources of records, and the tasks that they serve.

A `Source` answers `record(task, split, index)` deterministically: the embedded world draws the
record, tar shards read it. `TASKS` says how the records of a task become a `Batch`.

B rows, H x W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from unify.batch import TEXT_LENGTH, Batch

Split = Literal["train", "validation", "test", "heldout"]


@dataclass
class Record:
    """One sample of one task. `fields` by the task's names (see TASKS): texts and images.

    Images are uint8 [H W 3]; `meta` holds what scoring needs and no paradigm ever sees. Several
    source images are a list `sources`. Its length is the source's choice and the same in every
    record of a task, None standing for an image that a record lacks: so a batch has a fixed number
    of columns, and a step's shapes are a constant of its config.
    """

    key: str
    fields: dict[str, Any]
    meta: dict[str, Any] = field(default_factory=dict)


class Source(ABC):
    """Records of one or more tasks, addressed by (task, split, index)."""

    @property
    @abstractmethod
    def tasks(self) -> frozenset[str]:
        """Names out of TASKS that this source can serve."""

    @abstractmethod
    def size(self, task: str, split: Split) -> int:
        """Number of records of a task in a split."""

    @abstractmethod
    def record(self, task: str, split: Split, index: int) -> Record:
        """Record `index`, the same on every call, in every process."""

    @abstractmethod
    def fingerprint(self) -> str:
        """12 hex digits that change whenever a record could."""


def to_tensor(image: np.ndarray) -> Tensor:
    """uint8 [H W 3] -> [3 H W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 127.5 - 1


def to_uint8(image: Tensor) -> np.ndarray:
    """[3 H W] in [-1, 1] -> uint8 [H W 3]."""
    pixels = ((image.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return pixels.permute(1, 2, 0).cpu().numpy()


Lengths = Mapping[str, int]  # tokens per text field; TEXT_LENGTH where a field is not named


def _text_to_image(records: Sequence[Record], lengths: Lengths, task: str) -> Batch:
    length = lengths.get("prompt", TEXT_LENGTH)
    return Batch.text_to_image(
        texts(records, "prompt"), images(records, "image"), keys(records), length, task
    )


def _caption(records: Sequence[Record], lengths: Lengths, task: str) -> Batch:
    length = lengths.get("caption", TEXT_LENGTH)
    return Batch.image_to_text(
        images(records, "image"),
        texts(records, "caption"),
        keys(records),
        lengths=(length, length),
        task=task,
    )


def _vqa(records: Sequence[Record], lengths: Lengths, task: str) -> Batch:
    return Batch.image_to_text(
        images(records, "image"),
        texts(records, "answer"),
        keys(records),
        questions=texts(records, "question"),
        lengths=(lengths.get("question", TEXT_LENGTH), lengths.get("answer", TEXT_LENGTH)),
        task=task,
    )


def _edit(records: Sequence[Record], lengths: Lengths, task: str) -> Batch:
    shown, present = sources(records)
    return Batch.edit(
        shown,
        texts(records, "instruction"),
        images(records, "image"),
        keys(records),
        lengths.get("instruction", TEXT_LENGTH),
        present,
        task,
    )


def _image_to_image(records: Sequence[Record], lengths: Lengths, task: str) -> Batch:
    return Batch.image_to_image(
        images(records, "source"), images(records, "image"), keys(records), task
    )


def _text(records: Sequence[Record], lengths: Lengths, task: str) -> Batch:
    return Batch.text(texts(records, "text"), keys(records), lengths.get("text", TEXT_LENGTH), task)


def _image(records: Sequence[Record], lengths: Lengths, task: str) -> Batch:
    return Batch.image(images(records, "image"), keys(records), task)


TASKS: dict[str, Callable[[Sequence[Record], Lengths, str], Batch]] = {
    "text_to_image": _text_to_image,  # fields: prompt, image
    "caption": _caption,  # image, caption
    "vqa": _vqa,  # image, question, answer; meta: kind (the question type)
    "edit": _edit,  # source (or sources), instruction, image
    "compose": _edit,  # sources (what each shows goes where the instruction says), the rest as edit
    "depth": _image_to_image,  # source, image
    "super_resolution": _image_to_image,  # source (smaller), image
    "text": _text,  # text
    "image": _image,  # image
}

TEXT_FIELDS: dict[str, tuple[str, ...]] = {  # whose lengths in tokens `data.lengths` may set
    "text_to_image": ("prompt",),
    "caption": ("caption",),
    "vqa": ("question", "answer"),
    "edit": ("instruction",),
    "compose": ("instruction",),
    "text": ("text",),
}


def collate(task: str, records: Sequence[Record], lengths: Lengths | None = None) -> Batch:
    """Records of one task -> a `Batch`."""
    return TASKS[task](records, lengths or {}, task)


def keys(records: Sequence[Record]) -> list[str]:
    return [record.key for record in records]


def texts(records: Sequence[Record], name: str) -> list[str]:
    return [record.fields[name] for record in records]


def images(records: Sequence[Record], name: str) -> Tensor:
    """[B 3 H W] in [-1, 1]."""
    return torch.stack([to_tensor(record.fields[name]) for record in records])


def sources(records: Sequence[Record]) -> tuple[list[Tensor], list[Tensor]]:
    """The source images by column, [B 3 H W] each, 0 (gray) where a row has none; who has one [B].

    ValueError for a record without any, or with fewer or more columns than the others.
    """
    rows = [record.fields.get("sources") or [record.fields["source"]] for record in records]
    shown = [[image for image in row if image is not None] for row in rows]
    for record, row, some in zip(records, rows, shown, strict=True):
        if not some or len(row) != len(rows[0]):
            raise ValueError(
                f"record {record.key} has {len(some)} source images in {len(row)} places, and "
                f"{records[0].key} has {len(rows[0])} places; a record needs one image at least, "
                "and as many places as all others of its task: None for an image that it lacks"
            )
    absent = torch.zeros_like(to_tensor(shown[0][0]))
    columns = list(zip(*rows, strict=True))
    return (
        [
            torch.stack([absent if x is None else to_tensor(x) for x in column])
            for column in columns
        ],
        [torch.tensor([image is not None for image in column]) for column in columns],
    )
