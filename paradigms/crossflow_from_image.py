"""CrossFlow (arXiv:2412.15213) from an image: to another image, or to a text.

    image -> image    z0 = latent of the source image    z1 = latent of the target
    image -> text     z0 = latent of the image           z1 = latent of the text, read by a decoder

B rows, C channels, h x w latent grid, L text tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unify.batch import Batch, Text
from unify.flow import Solver
from unify.nn.latent_flow import FlowToImage, LatentFlow, target_name
from unify.nn.text_latent import TextDecoder, TextEncoder, check_fit
from unify.noise import Noise
from unify.paradigm import Term, Terms
from unify.sampling import draw
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
        shown, target = batch.segments
        z1 = self.image.encode(target.images)  # [B C h w]
        h, w = target.images.shape[-2:]
        return {"image_flow": self.flow_term(self.source(shown.images, (h, w)), z1, batch, noise)}

    def source(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Images [B 3 H' W'] -> latents [B C h w] of the images at `size`."""
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bicubic").clamp(-1, 1)
        return self.image.encode(images)

    @torch.no_grad()
    def generate_image(  # type: ignore[override]  # names its own sampling settings
        self,
        prompts: Sequence[Text] | None,
        sources: Sequence[Tensor] | None = None,
        negative: Sequence[Text] | None = None,
        size: tuple[int, int] | None = None,
        seed: int | Sequence[int] = 0,
        guidance: float = 1.0,
        steps: int = 30,
        shift: float = 1.0,
        solver: Solver = "euler",
    ) -> Tensor:
        """Carry the source's latent over; there is no chance in it."""
        asked = [text for text in (*(prompts or ()), *(negative or ())) if text is not None]
        if sources is None or len(sources) != 1 or asked:
            raise ValueError(
                "CrossFlowImages starts at an image and is guided by an indicator; give one source "
                "image for each and no prompts"
            )
        z0 = self.source(sources[0].to(self.device), size or (self.size, self.size))
        return self.image.decode(self.carry(z0, guidance, steps, shift, solver))

    def tokens(self, batch: Batch) -> int:
        return len(batch) * self.flow_tokens(self._grid(batch))

    def flops(self, batch: Batch) -> float:
        """Forward and backward of the flow."""
        return 3.0 * len(batch) * self.flow_flops(self._grid(batch))

    def _grid(self, batch: Batch) -> tuple[int, int]:
        return self.image.grid(*batch.segments[-1].images.shape[-2:])


class CrossFlowCaption(LatentFlow):
    """Image to text. A variational encoder makes the texts' latents and a decoder reads them back.

    The flow learns towards those latents without changing them: what is easiest to reach is a
    latent that says nothing.
    """

    tasks = frozenset({"caption"})
    terms = frozenset({"text_flow", "kl", "reconstruction"})

    def __init__(
        self, text: TextTokenizer, encoder: TextEncoder, decoder: TextDecoder, **flow: Any
    ):
        super().__init__(**flow)
        check_fit("encoder", encoder, text.vocab_size, self.image.channels)
        check_fit("decoder", decoder, text.vocab_size, self.image.channels)
        self.text, self.encoder, self.decoder = text, encoder, decoder

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        shown, target = batch.segments
        z0 = self.image.encode(shown.images)  # [B C h w]
        encoded = self.text.encode(target.texts, target.length)
        ids, valid = (part.to(self.device) for part in encoded)
        moments = self.encoder(ids, valid, self._grid(batch))
        eps = noise.normal(f"{target_name(batch)}/x0", z0.shape[1:])
        z1 = self.encoder.posterior.sample(moments, eps)
        return {
            "text_flow": self.flow_term(z0, z1.detach(), batch, noise),
            "kl": Term(self.encoder.posterior.divergence(moments)),
            "reconstruction": Term(self.decoder.nll(z1, ids, valid)),
        }

    @torch.no_grad()
    def generate_text(  # type: ignore[override]  # names its own sampling settings
        self,
        images: Tensor | None,
        prompts: Sequence[Text] | None = None,
        seed: int | Sequence[int] = 0,
        max_length: int = 32,
        temperature: float = 0.0,
        guidance: float = 1.0,
        steps: int = 30,
        shift: float = 1.0,
        solver: Solver = "euler",
    ) -> list[str]:
        """Carry the images' latents over and decode all tokens at once; greedy by default."""
        if images is None or any(prompt is not None for prompt in prompts or ()):
            raise ValueError("CrossFlowCaption describes images and answers no prompts")
        z0 = self.image.encode(images.to(self.device))
        z1 = self.carry(z0, guidance, steps, shift, solver)
        logits = self.decoder(z1, max_length).float()  # [B L V]
        logits[..., [self.text.bos, self.text.pad, self.text.null]] = -torch.inf
        noise = Noise.for_prompts(seed, [None] * len(images), self.device)
        u = noise.uniform("text", (max_length,))  # [B L]
        ids = draw(logits.flatten(0, 1), u.flatten(), temperature)
        return self.text.decode(ids.view(u.shape))

    def tokens(self, batch: Batch) -> int:
        """Of the text and the flow's trunk."""
        return len(batch) * (batch.segments[1].length + self.flow_tokens(self._grid(batch)))

    def flops(self, batch: Batch) -> float:
        """Forward and backward of encoder, decoder and flow."""
        grid, length = self._grid(batch), batch.segments[1].length
        texts = self.encoder.flops(length, grid) + self.decoder.flops(length - 1, grid)
        return 3.0 * len(batch) * (texts + self.flow_flops(grid))

    def _grid(self, batch: Batch) -> tuple[int, int]:
        return self.image.grid(*batch.segments[0].images.shape[-2:])
