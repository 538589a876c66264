"""CrossFlow (arXiv:2412.15213) from an image: to another image, or to a text.

    image -> image    z0 = latent of the source image    z1 = latent of the target
    image -> text     z0 = latent of the image           z1 = latent of the text, read by a decoder

    L = |v(z_t, t, i) - dz_t/dt|^2 (+ CE(text | z1) + w KL(z1 | N(0, 1)), image -> text)

B rows, C channels, h x w latent grid, L text tokens, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unify.batch import Batch
from unify.flow import FlowSampler
from unify.nn.latent_flow import FlowToImage, LatentFlow
from unify.nn.text_features import check_own_text
from unify.nn.text_latent import TextDecoder, TextEncoder, check_fit
from unify.noise import Noise
from unify.paradigm import ImageRequest, Term, Terms, TextRequest
from unify.sampling import AnswerLength, draw
from unify.tokenizer import TextTokenizer


class CrossFlowImages(FlowToImage):
    """Image to image: the source's latent is where the flow starts.

    A smaller source (super-resolution) is first enlarged to the target's size. The paper's depth
    model needs an encoder of its RGB source, to the shape of a depth map; a depth map of ours is an
    image like its source, and takes none.
    """

    tasks = frozenset({"depth", "super_resolution"})
    terms = frozenset({"image_flow"})

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        condition, target = batch.segments
        h, w = target.images.shape[-2:]
        z0 = self.source(condition.images, (h, w))  # [B C h w]
        z1 = self.image.encode(target.images)  # [B C h w]
        return self.flow_terms(z0, z1, batch, noise)

    def source(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Images [B 3 H' W'] -> latents [B C h w] of the images at `size`."""
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bicubic").clamp(-1, 1)
        return self.image.encode(images)

    def sample_image(self, request: ImageRequest, sampler: FlowSampler) -> Tensor:
        """Carry the source's latent over; nothing is random, so the seed changes nothing."""
        texts = (*(request.prompts or ()), *(request.negative or ()))
        if len(request.sources) != 1 or any(text is not None for text in texts):
            raise ValueError(
                "CrossFlowImages starts at an image and is guided by an indicator; give one source "
                "image for each and no prompts"
            )
        size = request.size or (self.size, self.size)
        z0 = self.source(request.sources[0].to(self.device), size)
        return self.image.decode(self.carry(z0, sampler))

    def tokens(self, batch: Batch) -> int:
        return len(batch) * self.flow_tokens(self._grid(batch))

    def encoded(self, batch: Batch) -> list[tuple[int, int]]:
        h, w = batch.segments[-1].images.shape[-2:]
        return 2 * [(h, w)]  # a smaller source is enlarged first

    def flops(self, batch: Batch) -> float:
        """Forward and backward of the flow."""
        flow = 3.0 * self.flow_flops(self._grid(batch))
        return len(batch) * (flow + self.aligned_flops(batch))

    def _grid(self, batch: Batch) -> tuple[int, int]:
        return self.image.grid(*batch.segments[-1].images.shape[-2:])


@dataclass(frozen=True)
class CaptionSampler(FlowSampler, AnswerLength):
    """Settings of the flow to the text's latent, and of drawing the tokens that it stands for."""


class CrossFlowCaption(LatentFlow):
    """Image to text. A variational encoder makes the texts' latents and a decoder reads them back.

    The flow learns towards those latents without changing them (`detach`): the latent that is
    easiest to reach is one that says nothing.
    """

    tasks = frozenset({"caption"})
    terms = frozenset({"text_flow", "kl", "reconstruction"})
    text_sampler = CaptionSampler

    def __init__(
        self, text: TextTokenizer, encoder: TextEncoder, decoder: TextDecoder, **flow: Any
    ):
        super().__init__(**flow)
        if self.align is not None:
            raise ValueError("align: what is drawn is a text, which has no features; leave it out")
        check_own_text("encoder", encoder, text)
        check_fit("encoder", encoder, text.vocab_size, self.image.channels)
        check_fit("decoder", decoder, text.vocab_size, self.image.channels)
        self.text, self.encoder, self.decoder = text, encoder, decoder

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        condition, target = batch.segments
        z0 = self.image.encode(condition.images)  # [B C h w]
        encoded = self.text.encode(target.texts, target.length)
        ids, valid = (part.to(self.device) for part in encoded)
        moments = self.encoder(ids, valid, self._grid(batch))
        eps = noise.x0(batch.target_place, z0.shape[1:])
        z1 = self.encoder.posterior.sample(moments, eps)
        return {
            "text_flow": self.flow_term(z0, z1.detach(), batch, noise),
            "kl": Term(self.encoder.posterior.divergence(moments)),
            "reconstruction": Term(self.decoder.nll(z1, ids, valid)),
        }

    def sample_text(self, request: TextRequest, sampler: CaptionSampler) -> list[str]:
        """Carry the images' latents over and decode all tokens at once."""
        images = request.images
        if images is None or any(prompt is not None for prompt in request.prompts or ()):
            raise ValueError("CrossFlowCaption describes images and answers no prompts")
        z1 = self.carry(self.image.encode(images.to(self.device)), sampler)
        logits = self.decoder(z1, sampler.max_length).float()  # [B L V]
        # ids that say nothing inside a text
        logits[..., [self.text.bos, self.text.pad, self.text.null]] = -torch.inf
        noise = Noise.for_prompts(request.seed, [None] * len(images), self.device)
        u = noise.uniform("text", (sampler.max_length,))  # [B L]
        ids = draw(logits.flatten(0, 1), u.flatten(), sampler.temperature)
        return self.text.decode(ids.view(u.shape))

    def tokens(self, batch: Batch) -> int:
        """Tokens of the text, and of the flow's trunk."""
        return len(batch) * (batch.segments[1].length + self.flow_tokens(self._grid(batch)))

    def flops(self, batch: Batch) -> float:
        """Forward and backward of encoder, decoder and flow."""
        grid, length = self._grid(batch), batch.segments[1].length
        others = self.decoder.flops(length - 1, grid) + self.flow_flops(grid)
        return len(batch) * (self.encoder.training_flops(length, grid) + 3.0 * others)

    def _grid(self, batch: Batch) -> tuple[int, int]:
        return self.image.grid(*batch.segments[0].images.shape[-2:])
