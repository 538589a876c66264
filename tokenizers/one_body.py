"""One autoencoder body whose bottleneck alone is swapped: KL latents, or codes of any quantizer.

Tokenizers that differ in nothing else give paradigms over latents and over codes the same pictures:
encoder and decoder have the same layers, names and first values, and two 1x1 convolutions of the
bottleneck's own lead out of the encoder and into the decoder. Terms are those of vae.py and vq.py.

    latents    mean, log-variance = inward(encoder(x))    x' = decoder(outward(mean + sigma noise))
    codes      code = quantizer(inward(encoder(x)))       x' = decoder(outward(the code's vector))

B rows, F features of the body, C channels of a latent, D of a code, H x W pixels, h x w grid.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unify.batch import Batch
from unify.nn.conv import Autoencoder, autoencoder_flops
from unify.support.ranges import Count
from unify.tokenizer import ContinuousTokenizer, DiscreteTokenizer, inference
from unify.tokenizers.vae import VAE
from unify.tokenizers.vq import VQ, Quantizer

LOGVAR = -30.0, 20.0  # limits of the log-variance: its exponential stays finite in fp32


class Latents(VAE):
    """KL latents of `channels` numbers a cell, in a body."""

    def __init__(self, body: Autoencoder, channels: Count = 4):
        ContinuousTokenizer.__init__(self)  # VAE's own builds diffusers' net
        self.encoder, self.decoder, self.stride = body.encoder, body.decoder, body.stride
        self.inward = nn.Conv2d(body.features, 2 * channels, 1)
        self.outward = nn.Conv2d(channels, body.features, 1)
        self._scaled_by(torch.zeros(channels), torch.ones(channels))

    def _moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.grid(*images.shape[-2:])
        moments = self.inward(self.encoder(images)).float()  # [B 2C h w]
        mean, logvar = moments.chunk(2, 1)
        return mean, logvar.clamp(*LOGVAR)

    def _images(self, latents: Tensor) -> Tensor:
        return self.decoder(self.outward(latents))

    def flops(self, batch: Batch) -> float:
        return autoencoder_flops(self.encoder, self.decoder, self._means_and_back, batch)

    def _means_and_back(self, images: Tensor) -> Tensor:
        return self._images(self._moments(images)[0])


class Codes(VQ):
    """Codes of a quantizer, one for each cell, in a body."""

    def __init__(self, body: Autoencoder, quantizer: Quantizer):
        DiscreteTokenizer.__init__(self)  # VQ's own builds an encoder as wide as the code
        self.encoder, self.decoder, self.stride = body.encoder, body.decoder, body.stride
        self.quantizer = Bridged(quantizer, body.features)
        self.vocab_size, self.dim = quantizer.vocab_size, quantizer.dim

    @inference
    def vectors(self, codes: Tensor) -> Tensor:
        """The quantizer's own, between the bottleneck's two linear maps."""
        inner: Any = self.quantizer.quantizer
        return inner.lookup(codes[:, None]).squeeze(2).transpose(1, 2)  # from [B C 1 L]


class Bridged(Quantizer):
    """A quantizer of D numbers between two linear maps from `dim` numbers and back."""

    def __init__(self, quantizer: Quantizer, dim: Count):
        super().__init__()
        self.dim, self.vocab_size, self.quantizer = dim, quantizer.vocab_size, quantizer
        self.inward = nn.Conv2d(dim, quantizer.dim, 1)
        self.outward = nn.Conv2d(quantizer.dim, dim, 1)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quantised, codes, loss = self.quantizer(self.inward(z))
        return self.outward(quantised), codes, loss

    def lookup(self, codes: Tensor) -> Tensor:
        return self.outward(self.quantizer.lookup(codes))

    def settings(self) -> dict[str, Any]:
        return self.quantizer.settings()

    def share_updates(self, add_up: Callable[[Tensor], object]) -> None:
        self.quantizer.share_updates(add_up)
