"""Sources of records, and the tasks that they serve.

A `Source` answers `record(task, split, index)` deterministically: the embedded world draws the
record, tar shards read it. A `Task` says which fields of a record become the columns of a `Batch`.
TASKS are the shipped ones; a source brings others as `own_tasks`.

B rows, H x W pixels.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from unify.batch import TEXT_LENGTH, Batch, Role, Segment
from unify.data.order import permuted
from unify.support.user_code import class_code

Split = Literal["train", "validation", "test", "heldout"]
Lengths = Mapping[str, int]  # tokens per text field; TEXT_LENGTH where a field is not named


@dataclass
class Record:
    """One sample of one task. `fields` by name (see TASKS): texts and images.

    Images are uint8 [H W 3]; `meta` holds what scoring needs and no paradigm ever sees. Several
    source images are a list `sources`. Its length is the source's choice and the same in every
    record of a task, None standing for an image that a record lacks: so a batch has a fixed number
    of columns, and a step's shapes are a constant of its config.
    """

    key: str
    fields: dict[str, Any]
    meta: dict[str, Any] = field(default_factory=dict)


def to_tensor(image: np.ndarray) -> Tensor:
    """uint8 [H W 3] -> [3 H W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 127.5 - 1


def to_uint8(image: Tensor) -> np.ndarray:
    """[3 H W] in [-1, 1] -> uint8 [H W 3]."""
    pixels = ((image.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return pixels.permute(1, 2, 0).cpu().numpy()


@dataclass(frozen=True)
class Column:
    """A column of a task: the field of a record that fills it, and what that field holds.

    `text`: a string. `image`: uint8 [H W 3]. `images`: a list of them with None for one that a
    record lacks; each place of the list becomes a segment of the batch (see `sources`).
    """

    field: str
    kind: Literal["text", "image", "images"]

    def segments(self, records: Sequence[Record], role: Role, lengths: Lengths) -> list[Segment]:
        """The column of B records: one segment, or one for each place of `images`."""
        if self.kind == "text":
            length = lengths.get(self.field, TEXT_LENGTH)
            return [Segment.text(texts(records, self.field), role, length)]
        if self.kind == "image":
            return [Segment.image(images(records, self.field), role)]
        pairs = zip(*sources(records, self.field), strict=True)
        return [Segment.image(shown, role, present) for shown, present in pairs]


@dataclass(frozen=True)
class Task:
    """Columns that a model is given, and last the one that it is to produce, the target.

        Task("inpaint", (Column("source", "image"), Column("image", "image")))

    The order of samples and all noise are keyed by the name. ValueError for a target of `images`.
    """

    name: str
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        if not self.columns or self.columns[-1].kind == "images":
            raise ValueError(f"task {self.name}: the last column is its target, a text or an image")

    @property
    def layout(self) -> tuple[str, ...]:
        """The kinds of the columns in order: the shape of the task, without its content."""
        return tuple(column.kind for column in self.columns)

    @property
    def text_fields(self) -> tuple[str, ...]:
        """The fields whose length in tokens `data.lengths` may set."""
        return tuple(column.field for column in self.columns if column.kind == "text")

    def batch(self, records: Sequence[Record], lengths: Lengths | None = None) -> Batch:
        """Records -> B rows; `lengths` in tokens by text field. ValueError as of `sources`."""
        *conditions, target = self.columns
        segments = [s for c in conditions for s in c.segments(records, "condition", lengths or {})]
        segments += target.segments(records, "target", lengths or {})
        return Batch(self.name, segments, keys(records))

    def learned_by(self, names: Collection[str]) -> bool:
        """True if a model that learns the tasks `names` learns this one.

        A shipped task must be among them. A task of a user's own may also have the layout of one
        that is: it differs from that in its data alone, of which a model knows nothing.
        """
        if self.name in names or self.name in TASKS:
            return self.name in names
        return any(TASKS[name].layout == self.layout for name in names if name in TASKS)


_PROMPT, _INSTRUCTION = Column("prompt", "text"), Column("instruction", "text")
_IMAGE, _SOURCE, _SOURCES = (
    Column("image", "image"),
    Column("source", "image"),
    Column("sources", "images"),
)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("text_to_image", (_PROMPT, _IMAGE)),
        Task("caption", (_IMAGE, Column("caption", "text"))),
        # meta of a record of vqa: kind, the type of question
        Task("vqa", (_IMAGE, Column("question", "text"), Column("answer", "text"))),
        Task("edit", (_SOURCES, _INSTRUCTION, _IMAGE)),
        # what each source shows goes where the instruction says
        Task("compose", (_SOURCES, _INSTRUCTION, _IMAGE)),
        Task("depth", (_SOURCE, _IMAGE)),
        Task("super_resolution", (_SOURCE, _IMAGE)),  # from a smaller source
        Task("text", (Column("text", "text"),)),
        Task("image", (_IMAGE,)),
    )
}


def collate(task: str, records: Sequence[Record], lengths: Lengths | None = None) -> Batch:
    """Records of a shipped task -> a `Batch`. Of any task: `source.task(name).batch(records)`."""
    return TASKS[task].batch(records, lengths)


class Source(ABC):
    """Records of one or more tasks, addressed by (task, split, index)."""

    own_tasks: ClassVar[Sequence[Task]] = ()  # tasks that it brings, beside the shipped TASKS

    @property
    @abstractmethod
    def tasks(self) -> frozenset[str]:
        """Names of the tasks that it can serve: of TASKS, or of its own."""

    @abstractmethod
    def size(self, task: str, split: Split) -> int:
        """Number of records of a task in a split."""

    @abstractmethod
    def record(self, task: str, split: Split, index: int) -> Record:
        """Record `index`, the same on every call, in every process."""

    @abstractmethod
    def fingerprint(self) -> str:
        """12 hex digits that change whenever a record could."""

    def order(self, task: str, positions: np.ndarray, seed: int) -> np.ndarray:
        """Which training records are read at these places of an endless sequence: indices.

        A function of the place and the seed alone. Here: every epoch a permutation of all records.
        """
        return permuted(positions, self.size(task, "train"), seed)

    @classmethod
    def known_tasks(cls) -> dict[str, Task]:
        """TASKS and its own by name; ValueError for one of its own that takes a shipped name."""
        for task in cls.own_tasks:
            if task.name in TASKS:
                raise ValueError(
                    f"{cls.__name__}.own_tasks: {task.name!r} is a shipped task; take another name"
                )
        return TASKS | {task.name: task for task in cls.own_tasks}

    def task(self, name: str) -> Task:
        """One of them by name."""
        return self.known_tasks()[name]


def source_fingerprint(source: Source) -> str:
    """Its `fingerprint`, with the class and its code where that is none of `unify`; 12 hex digits.

    A subclass draws other records than the class whose `fingerprint` it inherits.
    """
    code = class_code(type(source))
    if not code:
        return source.fingerprint()
    content = json.dumps([source.fingerprint(), code])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def keys(records: Sequence[Record]) -> list[str]:
    """Keys of the records, which key their noise too."""
    return [record.key for record in records]


def texts(records: Sequence[Record], name: str) -> list[str]:
    """The text field `name` of every record."""
    return [record.fields[name] for record in records]


def images(records: Sequence[Record], name: str) -> Tensor:
    """The image field `name` of every record, [B 3 H W] in [-1, 1]."""
    return torch.stack([to_tensor(record.fields[name]) for record in records])


def sources(records: Sequence[Record], name: str = "sources") -> tuple[list[Tensor], list[Tensor]]:
    """The source images by column, [B 3 H W] each, 0 (gray) where a row has none; who has one [B].

    A record with a single one may have it as `source`, without a list. ValueError for a record
    without any, or with fewer or more columns than the others.
    """
    rows = [
        record.fields.get(name) or [record.fields[name.removesuffix("s")]] for record in records
    ]
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
