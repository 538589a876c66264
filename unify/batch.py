"""A batch: B rows of one task, raw and paradigm-free, as columns of segments.

B rows, N images of one segment, H height, W width.

Every row of a batch has the same layout, e.g. `[text condition, image target]` for text-to-image.
A column that a row lacks (its third source image, say) is marked absent in `present`. The data
never knows which paradigm will read it, so every paradigm sees identical samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["text", "image"]
Role = Literal["condition", "target"]
Text = str | None  # None is the unconditional text; it is never the empty string

TEXT_LENGTH = 32  # tokens that a text is padded or cut to, if `data.lengths` says no other


@dataclass
class Segment:
    """One column of a batch.

    `data` is a list of B texts, or images [B 3 H W] in [-1, 1]. A text column is padded or cut to
    `length` tokens by whoever tokenizes it, so that a step's shapes are a constant of its config.
    """

    kind: Kind
    data: list[Text] | Tensor
    role: Role
    present: Tensor  # [B] bool
    length: int = TEXT_LENGTH

    @classmethod
    def text(cls, texts: Sequence[Text], role: Role, length: int = TEXT_LENGTH) -> Segment:
        """B texts, all present, to be padded or cut to `length` tokens."""
        return cls("text", list(texts), role, torch.ones(len(texts), dtype=torch.bool), length)

    @classmethod
    def image(cls, images: Tensor, role: Role, present: Tensor | None = None) -> Segment:
        """Images [B 3 H W] in [-1, 1]; `present` [B]: who has one (default: all)."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be [B 3 H W] in [-1, 1], not {tuple(images.shape)}")
        if present is None:
            present = torch.ones(len(images), dtype=torch.bool)
        return cls("image", images, role, present)

    @property
    def texts(self) -> list[Text]:
        assert isinstance(self.data, list)
        return self.data

    @property
    def images(self) -> Tensor:  # [B 3 H W]
        assert isinstance(self.data, Tensor)
        return self.data

    def rows(self, index: slice) -> Segment:
        """Some of the rows."""
        return replace(self, data=self.data[index], present=self.present[index])

    def pin_memory(self) -> Segment:
        """A copy in page-locked memory, from which a GPU reads without waiting."""
        data = self.data.pin_memory() if isinstance(self.data, Tensor) else self.data
        return replace(self, data=data, present=self.present.pin_memory())

    def to(self, device: torch.device | str) -> Segment:
        """A copy on a device; texts stay where they are."""
        data = (
            self.data.to(device, non_blocking=True) if isinstance(self.data, Tensor) else self.data
        )
        return replace(self, data=data, present=self.present.to(device, non_blocking=True))


@dataclass
class Batch:
    """B rows of one task. `keys`: which samples they are; `slots`: places in the global batch."""

    task: str
    segments: list[Segment]
    keys: list[str]
    slots: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.slots:
            self.slots = list(range(len(self.keys)))
        sizes = {len(self.keys), len(self.slots), *(len(s.data) for s in self.segments)}
        if len(sizes) != 1:
            raise ValueError(f"{self.task}: columns of a batch differ in rows: {sorted(sizes)}")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def target_place(self) -> int:
        """Place of the target among the segments: the last."""
        return len(self.segments) - 1

    @classmethod
    def text_to_image(
        cls,
        prompts: Sequence[Text],
        images: Tensor,
        keys: Sequence[str],
        length: int = TEXT_LENGTH,
        task: str = "text_to_image",
    ) -> Batch:
        """`[prompt, image]`: B prompts and images [B 3 H W]."""
        columns = [Segment.text(prompts, "condition", length), Segment.image(images, "target")]
        return cls(task, columns, list(keys))

    @classmethod
    def image_to_text(
        cls,
        images: Tensor,
        answers: Sequence[str],
        keys: Sequence[str],
        questions: Sequence[Text] | None = None,
        lengths: tuple[int, int] = (TEXT_LENGTH, TEXT_LENGTH),
        task: str = "image_to_text",
    ) -> Batch:
        """Captioning without `questions`, question answering with; `lengths` (question, answer)."""
        columns = [Segment.image(images, "condition")]
        if questions is not None:
            columns.append(Segment.text(questions, "condition", lengths[0]))
        columns.append(Segment.text(answers, "target", lengths[1]))
        return cls(task, columns, list(keys))

    @classmethod
    def edit(
        cls,
        sources: Sequence[Tensor],
        instructions: Sequence[Text],
        images: Tensor,
        keys: Sequence[str],
        length: int = TEXT_LENGTH,
        present: Sequence[Tensor] | None = None,
        task: str = "edit",
    ) -> Batch:
        """1..N source images (each [B 3 H W], `present` per source), an instruction, a target."""
        given = present or [torch.ones(len(images), dtype=torch.bool) for _ in sources]
        columns = [Segment.image(s, "condition", p) for s, p in zip(sources, given, strict=True)]
        columns += [
            Segment.text(instructions, "condition", length),
            Segment.image(images, "target"),
        ]
        return cls(task, columns, list(keys))

    @classmethod
    def image_to_image(
        cls, sources: Tensor, images: Tensor, keys: Sequence[str], task: str = "image_to_image"
    ) -> Batch:
        """Depth, super-resolution, reconstruction: the two images may differ in size."""
        return cls(
            task, [Segment.image(sources, "condition"), Segment.image(images, "target")], list(keys)
        )

    @classmethod
    def text(
        cls,
        texts: Sequence[str],
        keys: Sequence[str],
        length: int = TEXT_LENGTH,
        task: str = "text",
    ) -> Batch:
        """`[text]`: texts alone, for a language model."""
        return cls(task, [Segment.text(texts, "target", length)], list(keys))

    @classmethod
    def image(cls, images: Tensor, keys: Sequence[str], task: str = "image") -> Batch:
        """Images alone: what an image tokenizer trains on."""
        return cls(task, [Segment.image(images, "target")], list(keys))

    def rows(self, index: slice) -> Batch:
        """The same task with some of the rows, their keys and slots kept."""
        return Batch(
            self.task, [s.rows(index) for s in self.segments], self.keys[index], self.slots[index]
        )

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory, from which a GPU reads without waiting."""
        return replace(self, segments=[s.pin_memory() for s in self.segments])

    def to(self, device: torch.device | str) -> Batch:
        """A copy on a device; texts stay where they are."""
        return replace(self, segments=[s.to(device) for s in self.segments])
