"""Vector quantisation: a convolutional autoencoder with one code per cell of the grid.

van den Oord et al., arXiv:1711.00937; Esser et al., arXiv:2012.09841.

B rows, C channels of a code, K codes, H x W pixels, h x w grid, L = h * w codes.

The quantizers come from vector-quantize-pytorch behind one contract, in fp32 whatever the run's
precision. Losses are computed here, one value per row (the library's are means over the batch):

    pixel          mean (x - x')^2 over the 3 H W values of a row
    codebook       what the quantizer asks for, e.g. beta |z - sg[e]|^2; 0 for FSQ
    generator      -D(x') with D's parameters detached: it trains the autoencoder alone
    discriminator  (relu(1 - D(x)) + relu(1 + D(sg[x']))) / 2: it trains the discriminator alone
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval, MinLen
from torch import Tensor, nn
from torch.func import functional_call

from unify.batch import Batch
from unify.nn import conv
from unify.nn.conv import Decoder, Discriminator, Encoder, row_mean
from unify.noise import Noise
from unify.paradigm import Term, Terms, Trainable
from unify.support.ranges import Count, CountOrZero, NotNegative, ShareBelow1
from unify.tokenizer import DiscreteTokenizer, inference

Bits = Annotated[int, Interval(ge=1, le=30)]  # of a code: 2 ** bits of them have to be told apart


class Quantizer(nn.Module, ABC):
    """Turns vectors of `dim` numbers into `vocab_size` codes, and back."""

    dim: int
    vocab_size: int

    @abstractmethod
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z [B C h w] -> quantised z [B C h w], codes [B h w] (long) and loss [B], in fp32.

        Nothing is learned outside a gradient's forward pass in training mode: neither in eval
        mode, nor where no gradient flows to z.
        """

    @abstractmethod
    def lookup(self, codes: Tensor) -> Tensor:
        """codes [B h w] -> quantised vectors [B C h w]."""

    def settings(self) -> dict[str, Any]:
        """The numbers outside the weights that change a code."""
        return {"quantizer": type(self).__name__}

    def share_updates(self, add_up: Callable[[Tensor], object]) -> None:
        """As in `ImageTokenizer`: only a codebook of running means has such updates."""


def full_precision(z: Tensor) -> torch.autocast:
    """Autocast off: the nearest code of a rounded vector may be another one."""
    return torch.autocast(z.device.type, enabled=False)


class EMACodebook(Quantizer):
    """A codebook of running means (arXiv:1711.00937, appendix A.1), straight-through gradient.

    With `cosine`, vectors and codes have unit length (arXiv:2110.04627). Codes that fewer than
    `revive_below` vectors of a step choose, by running mean, restart at vectors of that step. The
    codebook moves once a micro-step, so it, unlike the losses, depends on how a batch is cut.
    """

    rotation = False

    def __init__(
        self,
        size: Count = 256,
        dim: Count = 8,
        decay: ShareBelow1 = 0.9,
        cosine: bool = True,
        commitment: NotNegative = 0.25,
        revive_below: NotNegative = 0.2,
    ):
        from vector_quantize_pytorch import VectorQuantize

        super().__init__()
        self.vocab_size, self.dim = size, dim
        self.cosine, self.commitment = cosine, commitment
        self.vq = VectorQuantize(
            dim=dim,
            codebook_size=size,
            decay=decay,
            use_cosine_sim=cosine,
            threshold_ema_dead_code=revive_below,
            rotation_trick=self.rotation,
            commitment_weight=0.0,  # ours, per row, is below
            sync_codebook=False,  # see share_updates
            accept_image_fmap=True,
        )

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with full_precision(z):
            z = z.float()
            learns = self.training and z.requires_grad
            quantised, codes, _ = self.vq(z, freeze_codebook=not learns)
            unit = F.normalize(z, dim=1, eps=1e-6) if self.cosine else z
            loss = self.commitment * row_mean((unit - quantised.detach()).square())
        return quantised, codes, loss

    def lookup(self, codes: Tensor) -> Tensor:
        return self.vq.get_codes_from_indices(codes)

    def settings(self) -> dict[str, Any]:
        return {"quantizer": type(self).__name__, "cosine": self.cosine}

    def share_updates(self, add_up: Callable[[Tensor], object]) -> None:
        # the library would decide this when it is constructed, before there are several processes
        from vector_quantize_pytorch.vector_quantize_pytorch import sample_vectors_distributed

        self.vq._codebook.all_reduce_fn = add_up
        self.vq._codebook.replace_sample_fn = sample_vectors_distributed


class RotationCodebook(EMACodebook):
    """An EMA codebook whose gradient is rotated and scaled with the vector (arXiv:2410.06424)."""

    rotation = True


class SimVQCodes(Quantizer):
    """A frozen random codebook behind one learned linear map (arXiv:2411.02038), rotation trick.

    All codes move together, so none dies; the codebook learns by gradient.
    """

    def __init__(self, size: Count = 256, dim: Count = 8, commitment: NotNegative = 0.25):
        from vector_quantize_pytorch import SimVQ

        super().__init__()
        self.vocab_size, self.dim, self.commitment = size, dim, commitment
        self.vq = SimVQ(dim=dim, codebook_size=size, channel_first=True)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with full_precision(z):
            z = z.float()
            quantised, codes, _ = self.vq(z)
            code = self.lookup(codes)  # with a gradient to the codebook
            commitment = self.commitment * (z - code.detach()).square()
            loss = row_mean((z.detach() - code).square() + commitment)
        return (quantised if self.training else code), codes, loss

    def lookup(self, codes: Tensor) -> Tensor:
        return self.vq.indices_to_codes(codes)


class FSQCodes(Quantizer):
    """Finite scalar quantisation (arXiv:2309.15505): each number is rounded to one of its levels.

    No state and no loss; prod(levels) codes.
    """

    def __init__(self, levels: Annotated[Sequence[Annotated[int, Ge(2)]], MinLen(1)] = (8, 6, 5)):
        from vector_quantize_pytorch import FSQ

        super().__init__()
        self.levels = list(levels)
        self.vq = FSQ(self.levels)
        self.vocab_size, self.dim = self.vq.codebook_size, len(self.levels)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with full_precision(z):
            quantised, codes = self.vq(z.float())
        return quantised, codes.long(), quantised.new_zeros(len(z))

    def lookup(self, codes: Tensor) -> Tensor:
        return self.vq.indices_to_codes(codes)

    def settings(self) -> dict[str, Any]:
        return {"quantizer": type(self).__name__, "levels": self.levels}


class LFQCodes(Quantizer):
    """Lookup-free quantisation (arXiv:2310.05737): a code is the signs of `bits` numbers.

    The loss is beta |z - sg[e]|^2 of the row, plus `entropy` times (mean entropy of a vector's
    code - entropy of the mean code). That second part is over the whole micro-step and the same
    for its rows: with this quantizer alone, a row's loss depends on its batch mates.
    """

    def __init__(self, bits: Bits = 8, entropy: NotNegative = 0.1, commitment: NotNegative = 0.25):
        from vector_quantize_pytorch import LFQ

        super().__init__()
        self.dim, self.vocab_size, self.commitment = bits, 2**bits, commitment
        self.vq = LFQ(dim=bits, entropy_loss_weight=entropy)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with full_precision(z):
            z = z.float()
            quantised, codes, entropy = self.vq(z)
            commitment = row_mean((z - quantised.detach()).square())
        return quantised, codes.long(), self.commitment * commitment + entropy

    def lookup(self, codes: Tensor) -> Tensor:
        return self.vq.indices_to_codes(codes)


class VQ(DiscreteTokenizer, Trainable):
    """Encoder, quantizer, decoder; the grid's stride is patch * 2 ** (len(widths) - 1)."""

    tasks = frozenset({"image"})
    terms = frozenset({"pixel", "codebook"})

    def __init__(
        self,
        quantizer: Quantizer,
        widths: Annotated[Sequence[Count], MinLen(1)] = (96, 192),
        blocks: CountOrZero = 1,
        patch: Count = 4,
    ):
        super().__init__()
        self.encoder = Encoder(quantizer.dim, widths, blocks, patch)
        self.quantizer = quantizer
        self.decoder = Decoder(quantizer.dim, widths, blocks, patch)
        self.stride, self.vocab_size = self.encoder.stride, quantizer.vocab_size
        self.dim = quantizer.dim

    def settings(self) -> dict[str, Any]:
        return {"stride": self.stride, **self.quantizer.settings()}

    def share_updates(self, add_up: Callable[[Tensor], object]) -> None:
        self.quantizer.share_updates(add_up)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        terms, _ = self.reconstruct(batch.segments[0].images)
        return terms

    def reconstruct(self, images: Tensor) -> tuple[Terms, Tensor]:
        """Images [B 3 H W] -> the autoencoder's own terms and the reconstruction [B 3 H W]."""
        self.grid(*images.shape[-2:])
        quantised, _, codebook = self.quantizer(self.encoder(images))
        reconstruction = self.decoder(quantised).float()
        pixel = row_mean((reconstruction - images).square())
        return {"pixel": Term(pixel), "codebook": Term(codebook)}, reconstruction

    def flops(self, batch: Batch) -> float:
        return conv.autoencoder_flops(self.encoder, self.decoder, self.reconstruct, batch)

    @inference
    def encode(self, images: Tensor) -> Tensor:
        self.grid(*images.shape[-2:])
        _, codes, _ = self.quantizer(self.encoder(images))  # [B h w]
        return codes.flatten(1)

    @inference
    def decode(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.decoder(self.quantizer.lookup(codes.unflatten(1, grid))).clamp(-1, 1)

    @inference
    def vectors(self, codes: Tensor) -> Tensor:
        return self.quantizer.lookup(codes[:, None]).squeeze(2).transpose(1, 2)  # from [B C 1 L]


class AdversarialVQ(VQ):
    """VQ with a patch discriminator and the hinge loss (VQGAN), in one backward pass.

    Each side is trained by its own term alone, so one optimizer serves both. The weight of
    `generator` is a constant of the experiment, not a ratio of gradients.
    """

    terms = frozenset({"pixel", "codebook", "generator", "discriminator"})

    def __init__(
        self,
        quantizer: Quantizer,
        discriminator: Discriminator,
        widths: Annotated[Sequence[Count], MinLen(1)] = (96, 192),
        blocks: CountOrZero = 1,
        patch: Count = 4,
    ):
        super().__init__(quantizer, widths, blocks, patch)
        self.discriminator = discriminator

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        images = batch.segments[0].images
        terms, fake = self.reconstruct(images)
        constant = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        generator = -row_mean(functional_call(self.discriminator, constant, (fake,)))
        real_logits = self.discriminator(images)
        fake_logits = self.discriminator(fake.detach())
        hinge = row_mean(F.relu(1 - real_logits)) + row_mean(F.relu(1 + fake_logits))
        return terms | {"generator": Term(generator), "discriminator": Term(0.5 * hinge)}

    def flops(self, batch: Batch) -> float:
        images = batch.segments[0].images
        return super().flops(batch) + 3 * conv.training_flops(self.discriminator, images)
