"""Representation autoencoders (RAE, arXiv:2510.11690): the features of a frozen encoder as latents.

    f = encoder(x), each cell scaled to length C^.5        z = (f - shift) * scale
    L = mean (x - decoder(f + sigma n))^2                  sigma = |tau n'|, one for a picture

The encoder learned before, from pictures alone (mae.py) or from captions (the `vision` of a VLM),
and is never changed; the decoder learns to draw what it says. Noise in its training makes the
decoder forgive what a flow leaves of it. Other than the paper: no perceptual and no adversarial
loss. Noise is added to f, before its channels are scaled, as in the paper's code and in diffusers.
Latents have many channels: `ShiftedTime` (unify/flow.py) moves a flow's times to more noise.
B rows, C channels, H x W pixels, h x w grid.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from unify.batch import Batch
from unify.nn.conv import row_mean
from unify.nn.frozen import freeze
from unify.nn.vision import PatchDecoder, VisionEncoder
from unify.noise import Noise
from unify.paradigm import Term, Terms, Trainable
from unify.support.ranges import Count, CountOrZero, NotNegative
from unify.tokenizer import ContinuousTokenizer, inference
from unify.tokenizers.vae import per_channel

Scaling = Literal["channels", "length"]


class RAE(ContinuousTokenizer, Trainable):
    """Features of `encoder`, whose weights come from a run of its own, and a decoder of patches.

    Args:
        encoder: its features are the latents, C = `encoder.dim`.
        patch: pixels along one side of a feature's patch.
        dim, depth, heads: of the decoder.
        tau: deviation of sigma, as a share of the features' size.
        scaling: "channels": mean 0 and variance 1 of every channel, measured at the end;
            "length": every vector keeps its length C^.5, and only its direction says something.
    """

    tasks = frozenset({"image"})
    terms = frozenset({"pixel"})
    shift: Tensor  # [C]
    scale: Tensor  # [C]

    def __init__(
        self,
        encoder: VisionEncoder,
        patch: Count,
        dim: Count = 128,
        depth: CountOrZero = 2,
        heads: Count = 4,
        tau: NotNegative = 0.2,
        scaling: Scaling = "channels",
    ):
        super().__init__()
        self.encoder, self.stride, self.channels = freeze(encoder), patch, encoder.dim
        self.decoder = PatchDecoder(encoder.dim, dim, depth, heads, patch)
        self.tau, self.unit = tau, scaling == "length"
        self.register_buffer("shift", torch.zeros(encoder.dim))
        self.register_buffer("scale", torch.ones(encoder.dim))

    def requires_grad_(self, requires_grad: bool = True) -> "RAE":
        super().requires_grad_(requires_grad)
        freeze(self.encoder)  # whatever is asked of the whole
        return self

    def settings(self) -> dict[str, Any]:
        return {"stride": self.stride, "unit": self.unit}

    def grid(self, height: int, width: int) -> tuple[int, int]:
        grid = super().grid(height, width)
        if (features := self.encoder.grid(height, width)) != grid:
            raise ValueError(
                f"patch: the encoder has {features[0]}x{features[1]} features of an image of "
                f"{height}x{width} pixels, and patches of {self.stride} are {grid[0]}x{grid[1]}; "
                "change patch or the image size"
            )
        return grid

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        images = batch.segments[0].images
        features = self.features(images)  # [B C h w]
        sigma = (self.tau * noise.normal("sigma")).abs()  # [B]
        noised = features + sigma[:, None, None, None] * noise.normal("noise", features.shape[1:])
        return {"pixel": Term(row_mean((self._images(noised).float() - images).square()))}

    def flops(self, batch: Batch) -> float:
        """Forward alone of the encoder, forward and backward of the decoder."""
        height, width = batch.segments[0].images.shape[-2:]
        read = self.encoder.flops(height, width)
        drawn = self.decoder.training_flops(self.grid(height, width), inward=False)
        return len(batch) * (read + drawn)

    def features(self, images: Tensor) -> Tensor:
        """[B 3 H W] -> f [B C h w], each cell of length C^.5."""
        grid = self.grid(*images.shape[-2:])
        with torch.no_grad():
            features = self.encoder(images).float()  # [B h*w C]
        features = F.normalize(features, dim=-1) * self.channels**0.5
        return features.transpose(1, 2).unflatten(2, grid)

    def _images(self, features: Tensor) -> Tensor:
        h, w = features.shape[-2:]
        return self.decoder(features.flatten(2).transpose(1, 2), (h, w))

    @inference
    def encode(self, images: Tensor) -> Tensor:
        return (self.features(images) - per_channel(self.shift)) * per_channel(self.scale)

    @inference
    def decode(self, latents: Tensor) -> Tensor:
        features = latents / per_channel(self.scale) + per_channel(self.shift)
        return self._images(features).clamp(-1, 1)

    @inference
    def calibrate(self, images: Tensor) -> None:
        """Set shift and scale over images [N 3 H W], unless lengths are kept."""
        if self.unit:
            return
        parts = [self.features(part.to(self.device)) for part in images.split(64)]
        values = torch.cat(parts).transpose(0, 1).flatten(1)  # [C N*h*w]
        self.shift.copy_(values.mean(1))
        self.scale.copy_(1 / values.std(1).clamp(min=1e-6))


class PretrainedRAE(ContinuousTokenizer):
    """diffusers' `AutoencoderRAE` (on DINOv2, SigLIP2 or MAE), from a local folder or a repository.

    Latents are scaled by the statistics that come with it. It draws one size of image, and takes no
    other: that of its decoder; the encoder's own size is made of it inside.
    """

    def __init__(self, name: str, subfolder: str | None = None, revision: str | None = None):
        from diffusers import AutoencoderRAE

        super().__init__()
        net = AutoencoderRAE.from_pretrained(
            name, subfolder=subfolder, revision=revision, torch_dtype=torch.float32
        )
        self.net: Any = freeze(net)  # in training mode it would add noise to what it encodes
        self.channels = self.net.config.encoder_hidden_size
        self.stride, self.side = self.net.decoder_patch_size, self.net.decoder_image_size

    def settings(self) -> dict[str, Any]:
        return {"stride": self.stride, "side": self.side}

    @inference
    def encode(self, images: Tensor) -> Tensor:
        self.grid(*images.shape[-2:])  # a checked image size
        return self.net.encode((images + 1) / 2).latent

    @inference
    def decode(self, latents: Tensor) -> Tensor:
        return (2 * self.net.decode(latents).sample - 1).clamp(-1, 1)
