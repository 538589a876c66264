"""Pixels as latents: the identity, for a paradigm that models images without a tokenizer.

B rows, H x W pixels. Patches are cut by the paradigm's own projection.
"""

from typing import Any

from torch import Tensor

from unify.tokenizer import ContinuousTokenizer, inference


class Pixels(ContinuousTokenizer):
    """Latents [B 3 H W] are the image itself."""

    channels = 3
    stride = 1

    def settings(self) -> dict[str, Any]:
        return {"stride": self.stride}

    @inference
    def encode(self, images: Tensor) -> Tensor:
        return images.float()

    @inference
    def decode(self, latents: Tensor) -> Tensor:
        return latents.float().clamp(-1, 1)
