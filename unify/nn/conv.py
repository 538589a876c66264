"""Convolutional parts of image tokenizers: residual encoder and decoder, and a patch discriminator.

B rows, C channels, H x W pixels, h x w grid.

Residual blocks of GroupNorm, SiLU and 3x3 convolutions; no statistic is shared between rows, so
a row's output does not depend on its batch mates. The first and the last layer move patches of
pixels into channels and back (space-to-depth): nothing is computed at full resolution, where most
of the time would go.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

from annotated_types import MinLen
from torch import Tensor, nn

from unify.batch import Batch
from unify.nn.flops import counted
from unify.support.ranges import Count, CountOrZero

GROUPS = 8


def norm(width: int) -> nn.GroupNorm:
    # not BatchNorm: its statistics would tie a row to its batch mates
    return nn.GroupNorm(GROUPS, width, eps=1e-6)


class Residual(nn.Module):
    """x + conv(act(norm(conv(act(norm(x))))))."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            norm(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            norm(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Encoder(nn.Module):
    """[B 3 H W] -> [B channels h w]: patches, then each width at half the size of the last."""

    def __init__(self, channels: int, widths: Sequence[int], blocks: int, patch: int):
        super().__init__()
        self.stride = patch * 2 ** (len(widths) - 1)
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(patch),  # [B 3 H W] -> [B 3*patch^2 H/patch W/patch]
            nn.Conv2d(3 * patch**2, widths[0], 3, padding=1),
        ]
        for index, width in enumerate(widths):
            if index:
                layers.append(nn.Conv2d(widths[index - 1], width, 3, stride=2, padding=1))
            layers += [Residual(width) for _ in range(blocks)]
        layers += [norm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], channels, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Decoder(nn.Module):
    """[B channels h w] -> [B 3 H W]: the encoder's mirror image."""

    def __init__(self, channels: int, widths: Sequence[int], blocks: int, patch: int):
        super().__init__()
        widths = list(reversed(widths))
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1)]
        for index, width in enumerate(widths):
            if index:
                # a transposed convolution would draw a checkerboard (Odena et al. 2016)
                layers += [nn.Upsample(scale_factor=2.0, mode="nearest")]
                layers += [nn.Conv2d(widths[index - 1], width, 3, padding=1)]
            layers += [Residual(width) for _ in range(blocks)]
        layers += [norm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], 3 * patch**2, 3, padding=1)]
        layers += [nn.PixelShuffle(patch)]
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers(latents)


class Autoencoder(nn.Module):
    """An encoder and a decoder without a bottleneck: they meet in `features` numbers a cell.

    Whatever stands between them, their parameters have the same names, shapes and first values.
    The grid's stride is patch * 2 ** (len(widths) - 1).
    """

    def __init__(
        self,
        features: Count = 64,
        widths: Annotated[Sequence[Count], MinLen(1)] = (64, 128),
        blocks: CountOrZero = 1,
        patch: Count = 2,
    ):
        super().__init__()
        self.features = features
        self.encoder = Encoder(features, widths, blocks, patch)
        self.decoder = Decoder(features, widths, blocks, patch)
        self.stride = self.encoder.stride

    def forward(self, images: Tensor) -> Tensor:
        """[B 3 H W] -> [B 3 H W], with nothing between encoder and decoder."""
        return self.decoder(self.encoder(images))


class Discriminator(nn.Module):
    """One logit per overlapping patch, PatchGAN (arXiv:1611.07004), with GroupNorm.

    [B 3 H W] -> [B 1 h w], each width at half the size of the one before.
    """

    def __init__(self, widths: Annotated[Sequence[Count], MinLen(1)] = (32, 64)):
        super().__init__()
        layers: list[nn.Module] = []
        previous = 3
        for width in widths:
            # kernel 4 at stride 2: every pixel is under equally many windows
            layers += [nn.Conv2d(previous, width, 4, stride=2, padding=1)]
            layers += [norm(width), nn.LeakyReLU(0.2)]
            previous = width
        layers += [nn.Conv2d(previous, 1, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def row_mean(values: Tensor) -> Tensor:
    """[B ...] -> [B], in fp32: a term's value per row."""
    return values.float().flatten(1).mean(1)


def training_flops(forward: Callable[[Tensor], object], images: Tensor) -> float:
    """FLOPs of forward and backward over images [B 3 H W]: 3 times one row's forward, times B."""
    # backward is two products for each of forward: by the input and by the weight
    return 3.0 * counted(lambda: forward(images[:1])) * len(images)


def autoencoder_flops(
    encoder: Encoder, decoder: Decoder, whole: Callable[[Tensor], object], batch: Batch
) -> float:
    """FLOPs of forward and backward of `whole`, which holds both, over a batch of images.

    Backward is twice the forward pass of encoder and decoder, without the gradient of the pixels;
    what stands between them is counted once, as no gradient comes back through a choice of codes.
    """
    images = batch.segments[0].images
    row = images[:1]
    once, learned = counted(lambda: whole(row)), counted(lambda: decoder(encoder(row)))
    return len(images) * (once + 2 * learned - counted(lambda: encoder.layers[:2](row)))
