"""The contract of a paradigm: what can be trained, and what can be asked to generate.

B rows of a batch or of a request, H x W pixels.

    Trainable       tasks, loss, flops: a tokenizer in training is one
    Paradigm        a Trainable that can also generate images or text
    ImageRequest    what images to draw        TextRequest    what texts to write

A newcomer's paradigm is one Python file with a `Paradigm` and one YAML that names it. Parts (trunk,
tokenizers, numbers) arrive built; no paradigm sees a config, a rank or a device.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from unify.batch import Batch, Text
from unify.noise import Noise
from unify.tokenizer import ImageTokenizer, TextTokenizer, Tokenizer


@dataclass
class Term:
    """One named, unweighted loss value per row.

    `value` [B]; `t` [B] the flow time where there is one (loss is then logged by time bin). A row
    with n times of its own has them in `t` [B n], a negative one where there is none, and what it
    lost at each in `each` [B n].
    A likelihood also gives its `total` [B] in nats and the `count` [B] of tokens it is over.
    """

    value: Tensor
    t: Tensor | None = None
    total: Tensor | None = None
    count: Tensor | None = None
    each: Tensor | None = None


Terms = dict[str, Term]


@dataclass
class ImageRequest:
    """B images to draw, from B prompts, from source images, or from both.

    Args:
        prompts: B texts, None among them the unconditional one; None for source images alone.
        sources: 1..N batches of source images, each [B 3 H W] in [-1, 1].
        present: for each source the rows [B] (bool) that have it; None: every row has every source.
        negative: B texts that replace the unconditional text of guidance.
        size: (H, W) in pixels of the images to draw; None: the size of training.
        seed: one for all rows, or one for each. A row's image depends on its seed and prompt alone,
            never on its batch mates.
    """

    prompts: Sequence[Text] | None = None
    sources: Sequence[Tensor] = ()
    present: Sequence[Tensor] | None = None
    negative: Sequence[Text] | None = None
    size: tuple[int, int] | None = None
    seed: int | Sequence[int] = 0

    def __post_init__(self) -> None:
        if self.prompts is None and not self.sources:
            raise ValueError("an image request needs prompts, source images, or both")

    def __len__(self) -> int:
        return len(self.prompts) if self.prompts is not None else len(self.sources[0])

    def noise(self, device: torch.device | str) -> Noise:
        """Noise of B rows, keyed by each row's seed and prompt."""
        return Noise.for_prompts(self.seed, self.prompts or [None] * len(self), device)


@dataclass
class TextRequest:
    """B texts to write about B images, in answer to B questions, or both.

    `images` [B 3 H W] in [-1, 1]; `prompts` are the questions (None: caption); `seed` as in
    `ImageRequest`.
    """

    images: Tensor | None = None
    prompts: Sequence[Text] | None = None
    seed: int | Sequence[int] = 0

    def __post_init__(self) -> None:
        if self.images is None and self.prompts is None:
            raise ValueError("a text request needs images, prompts, or both")

    def __len__(self) -> int:
        return len(self.images) if self.images is not None else len(self.prompts or ())

    def noise(self, device: torch.device | str) -> Noise:
        """Noise of B rows, keyed by each row's seed and prompt."""
        return Noise.for_prompts(self.seed, self.prompts or [None] * len(self), device)


@dataclass(frozen=True)
class NoSampler:
    """The sampler of what generates nothing, or has nothing to set."""


class Trainable(nn.Module, ABC):
    """A module with a loss over batches."""

    tasks: frozenset[str]  # what it can learn: names from unify/data/source.py
    lacks: str = ""  # why an instance has fewer tasks than its class
    terms: frozenset[str]  # every term that `loss` can return: the keys of loss_weights
    # terms that an instance has besides, and the argument that it has them by
    optional: ClassVar[Mapping[str, str]] = {}
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
        """Number of tokens that the batch becomes; of its rows for a model without tokens."""
        return len(batch)

    def flops(self, batch: Batch) -> float:
        """Floating-point operations of forward and backward over the batch; 0 if not counted."""
        return 0.0


class Fitted(ABC):
    """A part trained by one pass over data instead of by gradient, e.g. a BPE vocabulary."""

    @property
    @abstractmethod
    def fitted(self) -> bool:
        """True once `fit` or `load` has run; needed before `encode`."""

    @abstractmethod
    def fit(self, texts: Sequence[str]) -> None:
        """Learn from the training split's texts."""

    @abstractmethod
    def save(self, folder: Any) -> None:
        """Write the files that `load` reads."""

    @abstractmethod
    def load(self, folder: Any) -> None:
        """Read the files that `save` wrote; ValueError if they are not its own."""


class Paradigm(Trainable):
    """A way to unify understanding and generation.

    A subclass draws in `sample_image` and writes in `sample_text`. Its samplers are dataclasses:
    their fields are the keys of `image_sampling` and `text_sampling` in YAML. The contract tests
    (tests/contracts) run by what the class declares here.
    """

    entries = Trainable.entries | {"generate_image", "generate_text"}
    # tasks beyond `tasks` that a part of it answers untrained: evaluated, never trained on
    answers: frozenset[str] = frozenset()
    image_sampler: ClassVar[type] = NoSampler
    text_sampler: ClassVar[type] = NoSampler
    causal_text: bool = True  # text at i never depends on anything after i
    cached: ClassVar[bool] = True  # text is decoded with a KV cache, equal to the full forward
    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "exact"  # what text terms mean
    seeded: ClassVar[bool] = True  # another seed draws another image
    # true if the task `image` is to draw an image from itself, and not from nothing
    copies: ClassVar[bool] = False
    # what guidance moves away from: another text, or the same source with an indicator off
    guided_by: ClassVar[Literal["text", "indicator"]] = "text"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for kind in ("image", "text"):
            if f"generate_{kind}" in vars(cls):
                # an override would take the request for its prompts, and fail after the training
                raise TypeError(
                    f"{cls.__name__} overrides generate_{kind}; define sample_{kind}(request, "
                    f"sampler) and name the sampler's dataclass as {kind}_sampler"
                )

    def __setattr__(self, name: str, value: Any) -> None:
        """Freeze a tokenizer and keep it out of the modules."""
        if isinstance(value, Tokenizer):
            if isinstance(value, nn.Module):
                value.requires_grad_(False).eval()
                # convolutions that only encode are twice as fast channels-last
                value.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            # past nn.Module: no sub-module, so outside checkpoints, shards, EMA and optimizer
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def tokenizers(self) -> dict[str, Tokenizer]:
        """The frozen tokenizers by attribute name."""
        return {name: part for name, part in vars(self).items() if isinstance(part, Tokenizer)}

    @property
    def alphabet(self) -> int:
        """Number of ids that the softmax of its text likelihood is over; 0: not stated.

        Perplexities over unlike alphabets are never put in one column. Here: the vocabularies of
        its text tokenizers.
        """
        parts = {id(part): part for part in self.tokenizers().values()}.values()  # each once
        return sum(part.vocab_size for part in parts if isinstance(part, TextTokenizer))

    @property
    def draws_with(self) -> ImageTokenizer | None:
        """The tokenizer whose decoder makes the images that it draws; None: it draws pixels.

        Here: the one that it has as `image`.
        """
        image = vars(self).get("image")
        return image if isinstance(image, ImageTokenizer) else None

    def encoded(self, batch: Batch) -> list[tuple[int, int]]:
        """Height and width of each image of a row that `loss` has encoded by a frozen tokenizer.

        Counted as `encoding` of a budget. Here: every image column, once, as it is.
        """
        columns = [column for column in batch.segments if column.kind == "image"]
        return [(column.images.shape[-2], column.images.shape[-1]) for column in columns]

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @torch.no_grad()
    def generate_image(self, request: ImageRequest, **settings: Any) -> Tensor:
        """Images [B 3 H W] in [-1, 1]; `settings` are fields of `image_sampler`.

        ValueError for a request that the paradigm cannot fulfil.
        """
        return self.sample_image(request, self.image_sampler(**settings))

    @torch.no_grad()
    def generate_text(self, request: TextRequest, **settings: Any) -> list[str]:
        """B texts; `settings` are fields of `text_sampler`."""
        return self.sample_text(request, self.text_sampler(**settings))

    def sample_image(self, request: ImageRequest, sampler: Any) -> Tensor:
        """Images [B 3 H W] in [-1, 1], by an `image_sampler`, without gradient.

        The same seed and prompt must give the same image whatever the batch mates.
        """
        raise ValueError(f"{type(self).__name__} does not generate images")

    def sample_text(self, request: TextRequest, sampler: Any) -> list[str]:
        """B texts, by a `text_sampler`, without gradient."""
        raise ValueError(f"{type(self).__name__} does not generate text")
