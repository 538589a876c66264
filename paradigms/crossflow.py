"""CrossFlow (arXiv:2412.15213): a flow straight from a latent of the text to a latent of the image.

    z0 = mean + exp(logvar / 2) eps, from a variational encoder of the text
    L = |v(z_t, t, i) - dz_t/dt|^2 + w KL(z0 | N(0, 1)) + w' L_enc(z0)

There is no noise but the encoder's and no cross-attention: the text is where the flow starts. The
flow and its guidance by an indicator are in unify/nn/latent_flow.py, encoder and L_enc in
unify/nn/text_latent.py, flows that start at an image in crossflow_from_image.py.

Other than the release: the encoder learns from scratch, where theirs reads a pretrained T5 or CLIP
(unify/nn/text_features.py reads a frozen language model); the divergence is the Gaussian one, with
a weight of its own (docs/definitions.md).

B rows, C channels, h x w latent grid, L text tokens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unify.batch import Batch, Text
from unify.flow import FlowSampler
from unify.nn.latent_flow import FlowToImage, twins
from unify.nn.prefix import MAX_PROMPT
from unify.nn.text_features import check_own_text
from unify.nn.text_latent import Regulariser, TextEncoder, check_fit
from unify.noise import Noise
from unify.paradigm import ImageRequest, Term, Terms
from unify.support.ranges import NotNegative
from unify.tokenizer import TextTokenizer


@dataclass(frozen=True)
class LatentSampler(FlowSampler):
    """`temperature` scales the encoder's noise: at 0 the flow starts at the prompt's mean."""

    temperature: NotNegative = 1.0


class CrossFlow(FlowToImage):
    """Text to image. `loss_weights.kl` is per number of the latent (see `Variational`).

    `invert` gives the latent that a text for an image would have had.

    Args:
        encoder: texts to distributions of latents; its posterior is what is regularised.
        regulariser: keeps the text in its latent. By the flow alone the encoder would make the
            latents of all texts alike, since equal starts are the easiest to leave.
        flow: settings of `LatentFlow`.
    """

    tasks = frozenset({"text_to_image"})
    terms = frozenset({"image_flow", "kl", "regulariser"})
    entries = FlowToImage.entries | {"generate_arithmetic"}
    image_sampler = LatentSampler

    def __init__(
        self, text: TextTokenizer, encoder: TextEncoder, regulariser: Regulariser, **flow: Any
    ):
        super().__init__(**flow)
        check_own_text("encoder", encoder, text)
        check_fit("encoder", encoder, text.vocab_size, self.image.channels)
        self.text, self.encoder, self.regulariser = text, encoder, regulariser

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        """The gradient of every term reaches the encoder through z0."""
        prompts, target = batch.segments
        z1 = self.image.encode(target.images)  # [B C h w]
        encoded = self.text.encode(prompts.texts, prompts.length)
        ids, valid = (part.to(self.device) for part in encoded)  # [B L] each
        moments = self.encoder(ids, valid, self._grid(batch))
        eps = noise.x0(batch.target_place, z1.shape[1:])
        z0 = self.encoder.posterior.sample(moments, eps)
        # two rows with one text have no right to be told apart
        compared = self.grouped(batch) & ~twins(prompts.texts).to(self.device)
        kept = self.regulariser(z0, ids, valid, target.images, compared)
        return {
            **self.flow_terms(z0, z1, batch, noise),
            "kl": Term(self.encoder.posterior.divergence(moments)),
            "regulariser": Term(kept),
        }

    def source(self, prompts: Sequence[Text], eps: Tensor) -> Tensor:
        """Latents of texts, sampled with eps [B C h w]."""
        if any(prompt is None for prompt in prompts):
            raise ValueError(
                "CrossFlow has no latent for a prompt of None; its unconditional model is any "
                "prompt with guidance 0"
            )
        encoded = self.text.encode(prompts, MAX_PROMPT)
        used = int(encoded[1].sum(1).max())  # padding changes nothing, and costs
        ids, valid = (part[:, :used].to(self.device) for part in encoded)
        h, w = eps.shape[-2:]
        return self.encoder.posterior.sample(self.encoder(ids, valid, (h, w)), eps)

    def sample_image(self, request: ImageRequest, sampler: LatentSampler) -> Tensor:
        """Encode the prompts, carry their latents over, decode."""
        if request.prompts is None or request.sources or request.negative:
            raise ValueError(
                "CrossFlow starts at a prompt and is guided by an indicator; give prompts, and "
                "neither sources nor negative prompts"
            )
        eps = request.noise(self.device).normal("x0", self._shape(request.size))
        z0 = self.source(request.prompts, sampler.temperature * eps)
        return self.image.decode(self.carry(z0, sampler))

    @torch.no_grad()
    def generate_arithmetic(
        self,
        expression: str,
        count: int = 1,
        size: tuple[int, int] | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> Tensor:
        """`count` images [N 3 H W] of a sum and difference of prompts, e.g. "A + B - C".

        `settings` are fields of `image_sampler`.
        """
        sampler = self.image_sampler(**settings)
        noise = Noise.for_prompts(seed, [expression] * count, self.device)
        eps = sampler.temperature * noise.normal("x0", self._shape(size))
        z0 = standardise(self.combine(parse(expression), eps))
        return self.image.decode(self.carry(z0, sampler))

    def combine(self, terms: Sequence[tuple[int, str]], eps: Tensor) -> Tensor:
        """Sum of signed latents [B C h w], all sampled with one eps: equal prompts cancel."""
        signed = [sign * self.source([prompt] * len(eps), eps) for sign, prompt in terms]
        return torch.stack(signed).sum(0)

    def _shape(self, size: tuple[int, int] | None) -> tuple[int, int, int]:
        return (self.image.channels, *self.image.grid(*(size or (self.size, self.size))))

    def tokens(self, batch: Batch) -> int:
        """Tokens of the text, and of the flow's trunk."""
        return len(batch) * (batch.segments[0].length + self.flow_tokens(self._grid(batch)))

    def flops(self, batch: Batch) -> float:
        """Forward and backward of encoder, flow and regulariser."""
        grid, length = self._grid(batch), batch.segments[0].length
        row = self.encoder.training_flops(length, grid) + 3.0 * self.flow_flops(grid)
        row += self.aligned_flops(batch)
        kept = self.regulariser.flops(length, grid, batch.segments[1].images)
        return len(batch) * row + kept

    def _grid(self, batch: Batch) -> tuple[int, int]:
        return self.image.grid(*batch.segments[1].images.shape[-2:])


def standardise(latents: Tensor) -> Tensor:
    """Latents [B C h w] with mean 0 and standard deviation 1 in each row.

    A sum of latents leaves the scale that the flow was trained at; this brings it back.
    """
    flat = latents.flatten(1)
    flat = (flat - flat.mean(1, keepdim=True)) / flat.std(1, correction=0, keepdim=True)
    return flat.view_as(latents)


def parse(expression: str) -> list[tuple[int, str]]:
    """Prompts with their signs, which stand between spaces: `a dog + "a grey - white cat"`."""
    terms: list[tuple[int, str]] = []
    sign, words = 1, []
    # a last sign ends the last prompt
    for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', f"{expression} +"):
        if bare not in ("+", "-"):
            words.append(quoted or bare)
            continue
        if not " ".join(words).strip() or expression.count('"') % 2:
            raise ValueError(
                f"cannot read {expression!r}; write prompts with + and - between them, e.g. "
                "'a red circle + a blue square - a red square', in double quotes where a prompt "
                "has such a sign itself"
            )
        terms.append((sign, " ".join(words)))
        sign, words = 1 if bare == "+" else -1, []
    return terms
