"""The three tokenizer contracts, told apart by type.

B rows, L codes or text tokens, C channels, H x W pixels, h x w grid.

`encode` and `decode` are for inference: full precision, no gradient. Training a tokenizer goes
through `loss` (a tokenizer that can be trained is a `Trainable`, see paradigm.py). Inside a
paradigm a tokenizer is always frozen and never a sub-module (`Paradigm.__setattr__`), so it stays
out of checkpoints, sharding, EMA and the optimizer, and is named by its content hash.
"""

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

F = TypeVar("F", bound=Callable[..., Any])


def inference(method: F) -> F:
    """Run a method without gradient and autocast: codes must not depend on the run's precision."""

    @functools.wraps(method)
    def call(self, *args, **kwargs):
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return method(self, *args, **kwargs)

    return call  # type: ignore[return-value]


def module_hash(module: nn.Module, settings: dict[str, Any]) -> str:
    """12 hex digits of a module's class, its weights and buffers, and its settings."""
    digest = hashlib.sha256(type(module).__qualname__.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    digest.update(repr(sorted(settings.items())).encode())
    return digest.hexdigest()[:12]


class Tokenizer(ABC):
    """The part that the three contracts share: a content hash that names the tokenizer."""

    @abstractmethod
    def content_hash(self) -> str:
        """12 hex digits that change whenever an output could."""


class ImageTokenizer(nn.Module, Tokenizer):
    """Images [B 3 H W] in [-1, 1] to something a paradigm models, and back."""

    stride: int  # pixels of the image along one cell of the grid
    side: int = 0  # of the square images that are all it takes; 0: it takes any size

    @property
    def device(self) -> torch.device:
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return torch.device("cpu")

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the grid for an image of `height` x `width` pixels."""
        if self.side and (height, width) != (self.side, self.side):
            raise ValueError(
                f"this {type(self).__name__} has images of {self.side}x{self.side} pixels alone, "
                f"and not of {height}x{width}; change the image size"
            )
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"an image of {height}x{width} pixels does not divide into cells of {self.stride}; "
                f"choose a size that is a multiple of {self.stride}"
            )
        return height // self.stride, width // self.stride

    def content_hash(self) -> str:
        return module_hash(self, self.settings())

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The numbers outside the weights that change an output (stride, scale, ...)."""

    def share_updates(self, add_up: Callable[[Tensor], object]) -> None:
        """Add up over processes, in place, the updates that no gradient carries between them.

        Training calls it before the first step if there are several processes; a tokenizer that
        learns by gradient alone has nothing to do.
        """

    def calibrate(self, images: Tensor) -> None:
        """Set what is measured and not learned, from fixed images [N 3 H W], after training."""


class DiscreteTokenizer(ImageTokenizer):
    """Images to codes in [0, vocab_size)."""

    vocab_size: int
    dim: int = 0  # numbers of the vector that a code stands for; 0: its codes have none

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """[B 3 H W] -> codes [B L] (long), L = h * w in raster order."""

    @abstractmethod
    def decode(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        """codes [B L] on a grid (h, w) -> [B 3 H W] in [-1, 1]."""

    def vectors(self, codes: Tensor) -> Tensor:
        """codes [B L] -> the vectors [B L dim] among which the nearest decides a code."""
        raise NotImplementedError(f"{type(self).__name__} has codes without vectors")


class ContinuousTokenizer(ImageTokenizer):
    """Images to latents, already scaled to about unit variance."""

    channels: int
    unit: bool = False  # true if every latent vector of C numbers has the length C^.5

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """[B 3 H W] -> latents [B C h w], the posterior's mean where there is a posterior."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """[B C h w] -> [B 3 H W] in [-1, 1]."""


class TextTokenizer(Tokenizer):
    """Texts to ids, framed as `bos ... eos`; `None`, the unconditional text, is `bos null eos`."""

    vocab_size: int  # specials included
    bos: int
    eos: int
    pad: int
    null: int
    cut: int = 0  # how many texts did not fit since the start
    read: int = 0  # of so many, if the tokenizer counts them

    @abstractmethod
    def encode(self, texts: Sequence[str | None], length: int) -> tuple[Tensor, Tensor]:
        """B texts -> ids [B length] (long) and valid [B length] (bool), padded on the right.

        A text that does not fit is cut before its `eos`, which stays, and counted in `cut`.
        """

    @abstractmethod
    def decode(self, ids: Tensor) -> list[str]:
        """ids [B L] -> B texts, each up to its first `eos`; specials are left out."""
