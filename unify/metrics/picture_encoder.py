"""The contract of an encoder that metrics compare pictures by: it is trained once, and judges all.

B images of H x W pixels, D features.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from unify.tokenizer import inference, module_hash

CHUNK = 256  # images encoded at once


class PictureEncoder(nn.Module, ABC):
    """Images to features. Weights come from a run of its own, which `weights` of its node names."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """[B 3 H W] in [-1, 1] -> features [B D]; ValueError for a size that it cannot take."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The numbers outside the weights that change an output."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def content_hash(self) -> str:
        """12 hex digits that change whenever a feature could."""
        return module_hash(self, self.settings())

    @inference
    def features(self, images: Tensor) -> Tensor:
        """[B 3 H W] in [-1, 1] -> features [B D] on the CPU, in full precision."""
        parts = images.float().clamp(-1, 1).split(CHUNK)
        return torch.cat([self.embed(part.to(self.device)).float().cpu() for part in parts])
