"""Variational autoencoder: diffusers' `AutoencoderKL`, trained here or pretrained; DC-AE.

Kingma and Welling, arXiv:1312.6114; Rombach et al., arXiv:2112.10752; DC-AE: arXiv:2410.10733.

B rows, C channels, H x W pixels, h x w grid.

Encoding gives the posterior's mean, shifted and scaled per channel to about unit variance; decoding
undoes both. A VAE trained here takes the two from a fixed set of images (`calibrate`), never from a
running average: they do not depend on batches, and resuming is exact.

    pixel    mean (x - x')^2 over the 3 H W values of a row
    kl       KL(posterior || N(0, 1)), mean over the C h w latent numbers of a row: nats per number.
             (Weight w on sums over a row is weight w * (C h w) / (3 H W) on these means.)
"""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import MinLen
from torch import Tensor

from unify.batch import Batch
from unify.nn.conv import row_mean, training_flops
from unify.noise import Noise
from unify.paradigm import Term, Terms, Trainable
from unify.support.ranges import Count
from unify.tokenizer import ContinuousTokenizer, inference


class VAE(ContinuousTokenizer, Trainable):
    """A small `AutoencoderKL`; the grid's stride is patch * 2 ** (len(widths) - 1).

    A `patch` above 1 folds squares of so many pixels into channels first, and unfolds them last:
    convolutions over every pixel cost most and see least.
    """

    tasks = frozenset({"image"})
    terms = frozenset({"pixel", "kl"})
    shift: Tensor  # [C] latent = (mean - shift) * scale
    scale: Tensor  # [C]

    def __init__(
        self,
        channels: Count = 4,
        widths: Annotated[Sequence[Count], MinLen(1)] = (16, 32, 64),
        layers: Count = 1,
        norm_groups: Count = 8,
        patch: Count = 1,
    ):
        from diffusers import AutoencoderKL

        net = AutoencoderKL(
            in_channels=3 * patch**2,
            out_channels=3 * patch**2,
            latent_channels=channels,
            block_out_channels=tuple(widths),
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            layers_per_block=layers,
            norm_num_groups=norm_groups,
            mid_block_add_attention=False,
        )
        self._adopt(net, torch.zeros(channels), torch.ones(channels), patch)

    def _adopt(self, net: Any, shift: Tensor, scale: Tensor, patch: int = 1) -> None:
        super().__init__()
        self.net, self.patch = net, patch
        self.stride = patch * 2 ** (len(net.config.block_out_channels) - 1)
        self._scaled_by(shift, scale)

    def _scaled_by(self, shift: Tensor, scale: Tensor) -> None:
        self.channels = len(shift)
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def settings(self) -> dict[str, Any]:
        return {"stride": self.stride}

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        images = batch.segments[0].images
        mean, logvar = self._moments(images)  # 2 x [B C h w]
        sample = mean + (0.5 * logvar).exp() * noise.normal("posterior", mean.shape[1:])
        reconstruction = self._images(sample)  # [B 3 H W]
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar)  # [B C h w]
        return {
            "pixel": Term(row_mean((reconstruction.float() - images).square())),
            "kl": Term(row_mean(kl)),
        }

    def flops(self, batch: Batch) -> float:
        return training_flops(lambda x: self._images(self._moments(x)[0]), batch.segments[0].images)

    @inference
    def encode(self, images: Tensor) -> Tensor:
        mean, _ = self._moments(images)
        return (mean - per_channel(self.shift)) * per_channel(self.scale)

    @inference
    def decode(self, latents: Tensor) -> Tensor:
        mean = latents / per_channel(self.scale) + per_channel(self.shift)
        return self._images(mean).clamp(-1, 1)

    @inference
    def calibrate(self, images: Tensor) -> None:
        """Set shift and scale: mean 0 and variance 1 of every channel over images [N 3 H W].

        A flow starts at noise of that scale. Called once after training, on fixed images.
        """
        moments = [self._moments(part.to(self.device))[0] for part in images.split(64)]
        mean = torch.cat(moments).transpose(0, 1).flatten(1)  # [C N*h*w]
        self.shift.copy_(mean.mean(1))
        self.scale.copy_(1 / mean.std(1))

    def _moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, 2 x [B C h w] fp32; a checked image size."""
        self.grid(*images.shape[-2:])
        posterior = self.net.encode(F.pixel_unshuffle(images, self.patch)).latent_dist
        return posterior.mean.float(), posterior.logvar.float()

    def _images(self, latents: Tensor) -> Tensor:
        return F.pixel_shuffle(self.net.decode(latents).sample, self.patch)


class PretrainedVAE(VAE):
    """An `AutoencoderKL` from a local folder or a repository id, scaled as its config says."""

    def __init__(self, name: str, subfolder: str | None = None, revision: str | None = None):
        from diffusers import AutoencoderKL

        net = AutoencoderKL.from_pretrained(
            name, subfolder=subfolder, revision=revision, torch_dtype=torch.float32
        )
        config = net.config
        ones = torch.ones(config.latent_channels)
        shift, scale = ones * (config.shift_factor or 0.0), ones * config.scaling_factor
        if config.latents_mean is not None and config.latents_std is not None:
            shift = torch.tensor(config.latents_mean).flatten().float()
            scale = scale / torch.tensor(config.latents_std).flatten().float()
        self._adopt(net, shift, scale)


class PretrainedDCAE(ContinuousTokenizer):
    """An `AutoencoderDC` from a local folder or a repository id: Sana's latents.

    A plain autoencoder: latent = encoder's output * the config's `scaling_factor`.
    """

    def __init__(self, name: str, subfolder: str | None = None, revision: str | None = None):
        from diffusers import AutoencoderDC

        super().__init__()
        self.net: Any = AutoencoderDC.from_pretrained(
            name, subfolder=subfolder, revision=revision, torch_dtype=torch.float32
        )
        config = self.net.config
        self.channels, self.scale = config.latent_channels, config.scaling_factor
        self.stride = 2 ** (len(config.encoder_block_out_channels) - 1)

    def settings(self) -> dict[str, Any]:
        return {"stride": self.stride, "scale": self.scale}

    @inference
    def encode(self, images: Tensor) -> Tensor:
        self.grid(*images.shape[-2:])  # a checked image size
        return self.net.encode(images).latent * self.scale

    @inference
    def decode(self, latents: Tensor) -> Tensor:
        return self.net.decode(latents / self.scale).sample.clamp(-1, 1)


def per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]  # [C] -> [C 1 1]
