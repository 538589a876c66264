"""What can be trained, and what a paradigm is.

B rows of a batch.

    Trainable    tasks, loss, flops: a tokenizer in training is one
    Paradigm     a Trainable that can also generate images or text

A newcomer's paradigm is one Python file with a `Paradigm` and one YAML that names it. Parts (trunk,
tokenizers, numbers) arrive built; no paradigm sees a config, a rank or a device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from unify.batch import Batch, Text
from unify.noise import Noise
from unify.tokenizer import Tokenizer


@dataclass
class Term:
    """One named, unweighted loss value per row.

    `value` [B]; `t` [B] the flow time where there is one (loss is then logged by time bin).
    A likelihood also says its `total` [B] in nats and the `count` [B] of tokens that it is over.
    """

    value: Tensor
    t: Tensor | None = None
    total: Tensor | None = None
    count: Tensor | None = None


Terms = dict[str, Term]


class Trainable(nn.Module, ABC):
    """Something with a loss over batches."""

    tasks: frozenset[str]  # what it can learn: names from unify/data/source.py
    lacks: str = ""  # why an instance has fewer tasks than its class
    terms: ClassVar[frozenset[str]]  # every term that `loss` can return: the keys of loss_weights
    group: int = 1  # a row's loss depends on its group of so many consecutive draws (slots)
    # methods that are called from outside and compute: shards are gathered for these alone (FSDP)
    entries: ClassVar[frozenset[str]] = frozenset({"loss", "flops"})

    @abstractmethod
    def loss(self, batch: Batch, noise: Noise) -> Terms:
        """Unweighted terms by name, one value per row; all randomness comes from `noise`.

        A row's value must not depend on its batch mates outside its `group`, which is never split:
        so micro-batches, ranks and packing change nothing and a non-finite value names its sample.
        """

    def tokens(self, batch: Batch) -> int:
        """Tokens that the batch becomes; its rows where there are no tokens."""
        return len(batch)

    def flops(self, batch: Batch) -> float:
        """Floating-point operations of forward and backward over the batch; 0 if not counted."""
        return 0.0


class Fitted(ABC):
    """A part trained by one pass over data instead of by gradient, e.g. a BPE vocabulary."""

    @property
    @abstractmethod
    def fitted(self) -> bool:
        """Whether it was: without, it can do nothing."""

    @abstractmethod
    def fit(self, texts: Sequence[str]) -> None:
        """Learn from the training split's texts."""

    @abstractmethod
    def save(self, folder: Any) -> None:
        """Write what `load` reads back."""

    @abstractmethod
    def load(self, folder: Any) -> None:
        """Read what `save` wrote."""


class Paradigm(Trainable):
    """A way to unify understanding and generation. Contract tests run by what it declares."""

    entries = Trainable.entries | {"generate_image", "generate_text"}
    # tasks beyond `tasks` that a part of it answers untrained: evaluated, never trained on
    answers: frozenset[str] = frozenset()
    causal_text: ClassVar[bool] = True  # text at i never depends on anything after i
    cached: ClassVar[bool] = True  # text is decoded with a KV cache, equal to the full forward
    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "exact"  # what text terms mean
    # whether the task `image` is to draw an image from itself, and not from nothing
    copies: ClassVar[bool] = False
    # what guidance moves away from: another text, or the same source with an indicator off
    guided_by: ClassVar[Literal["text", "indicator"]] = "text"

    def __setattr__(self, name: str, value: Any) -> None:
        """A tokenizer given to a paradigm is frozen and stays out of its modules."""
        if isinstance(value, Tokenizer):
            if isinstance(value, nn.Module):
                value.requires_grad_(False).eval()
                # convolutions that only encode are twice as fast channels-last
                value.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def tokenizers(self) -> dict[str, Tokenizer]:
        """The frozen tokenizers by attribute name."""
        return {name: part for name, part in vars(self).items() if isinstance(part, Tokenizer)}

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def generate_image(
        self,
        prompts: Sequence[Text] | None,
        sources: Sequence[Tensor] | None = None,
        negative: Sequence[Text] | None = None,
        size: tuple[int, int] | None = None,
        seed: int | Sequence[int] = 0,
        present: Sequence[Tensor] | None = None,
        **sampling: Any,
    ) -> Tensor:
        """B prompts, or 1..N source images [B 3 H W], or both -> images [B 3 H W] in [-1, 1].

        `negative` replaces the unconditional text of guidance; `size` (H, W) defaults to the
        training size. `present`: for each source the rows [B] that have it, where some lack one;
        who learns from one source at most need not take it. The same seed and prompt give the same
        image whatever the batch mates.
        """
        raise ValueError(f"{type(self).__name__} does not generate images")

    def generate_text(
        self,
        images: Tensor | None,
        prompts: Sequence[Text] | None = None,
        seed: int | Sequence[int] = 0,
        **sampling: Any,
    ) -> list[str]:
        """Images [B 3 H W] and questions (None: caption) -> B texts."""
        raise ValueError(f"{type(self).__name__} does not generate text")
