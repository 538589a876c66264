"""Semantics first: features of a frozen encoder are continuous tokens, predicted one after another,
and their tokenizer's decoder makes the picture (MetaMorph, arXiv:2412.14164).

    L = CE(text) + lambda (1 - cos(f_i, g(h_i-1)))        causal everywhere

    row = bos prompt eos | boi f f .. f eoi        f_i of length C^.5, in raster order

What is fed back in drawing is the prediction at that length, so every picture of a prompt is the
same one: a direction that is a mean of all that may follow. Features predicted by a flow (BLIP3-o,
UniLiP) are `queries_dit` over the same tokenizer, and features as codes (SEED) are `ar_vq` over
codes of them. Other than MetaMorph: a grid of the encoder's own size, its delimiters are fed and
not predicted, and the decoder is the tokenizer's (docs/definitions.md).
B rows, N features of C numbers on a grid h x w, D width.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from unify.batch import Batch, Segment
from unify.flow import guide
from unify.nn.flops import causal
from unify.nn.layers import Linear
from unify.nn.prefix import PrefixParadigm
from unify.nn.sequence import TokenSequence
from unify.nn.trunk import IMAGE, Backbone
from unify.nn.understanding import seen_apart
from unify.nn.vision import VisionEncoder
from unify.nn.words import embedding, head
from unify.noise import Noise
from unify.paradigm import ImageRequest, Term, Terms
from unify.support.ranges import Count, NotNegative, Positive, Share
from unify.tokenizer import ContinuousTokenizer, TextTokenizer


@dataclass(frozen=True)
class FeatureSampler:
    """Scale of guidance, u + s (c - u) on predicted features; nothing else can be set."""

    guidance: NotNegative = 1.0


class SemanticFirst(PrefixParadigm):
    """Next features by their direction; lambda is `loss_weights.image_cosine`.

    Args:
        image: a tokenizer whose latent vectors all have the length C^.5 (`unit`).
        size, dropout, token_constant, understand: as in `ArVQ`.
    """

    tasks = frozenset(
        {"text_to_image", "caption", "vqa", "edit", "compose", "depth", "super_resolution", "text"}
    )
    terms = frozenset({"text_ce", "image_cosine"})
    image_sampler = FeatureSampler
    seeded: ClassVar[bool] = False
    later: ClassVar[dict[str, Any]] = {"understand": None}  # as in `ArVQ`

    def __init__(
        self,
        trunk: Backbone,
        text: TextTokenizer,
        image: ContinuousTokenizer,
        size: Count = 32,
        dropout: Share = 0.1,
        token_constant: Positive | None = None,
        understand: VisionEncoder | None = None,
    ):
        super().__init__(seen_apart(understand, trunk.dim))
        if not image.unit:
            raise ValueError(
                f"image: latents of this {type(image).__name__} have lengths of their own, and "
                "only directions are predicted; use an RAE with `scaling: length`"
            )
        self.trunk, self.text, self.image = trunk, text, image
        self.size, self.dropout, self.token_constant = size, dropout, token_constant
        words = text.vocab_size
        self.embed = embedding(trunk, text, words + 2, (words, words + 1))  # text, boi, eoi
        self.to_text = head(trunk, text, words)
        self.inward = Linear(image.channels, trunk.dim)
        self.outward = Linear(trunk.dim, trunk.dim)
        self.to_features = Linear(trunk.dim, image.channels)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        """Next-token loss on the target, which is the last column; conditions are only read."""
        sequence, target = TokenSequence(self.trunk.axes), batch.segments[-1]
        self.add_conditions(sequence, batch, noise)
        if target.kind == "text":
            where, ids, valid = self.add_text(sequence, target.texts, target.length)
            logits = self.text_logits(sequence.run(self.trunk)[:, where])
            return {"text_ce": self.text_term(logits, ids, valid)}
        features = self.features(target.images)  # [B N C]
        where = self.add_features(sequence, features, target.present)
        # a feature is predicted where the one before it is read, the first one at boi
        before = slice(where.start - 1, where.stop - 1)
        predicted = self.to_features(sequence.run(self.trunk)[:, before]).float()
        error = 1 - F.cosine_similarity(predicted, features, dim=-1)  # [B N]
        return {"image_cosine": Term(error.mean(1) * target.present)}

    def features(self, images: Tensor) -> Tensor:
        """[B 3 H W] -> [B N C]."""
        return self.image.encode(images).flatten(2).transpose(1, 2)

    def add_features(
        self, sequence: TokenSequence, features: Tensor, present: Tensor | None = None
    ) -> slice:
        """Append boi, features [B N C], eoi. Their order is 1-D: each is decoded after the last."""
        # the first feature is predicted at boi, which goes through what features go through
        framed = sequence, self.tokens_of(features), self.embed, present
        return self.add_framed(*framed, tower=IMAGE, ends_tower=IMAGE)

    def tokens_of(self, features: Tensor) -> Tensor:
        """features [... C] -> tokens [... D]."""
        return self.outward(F.gelu(self.inward(features)))

    def add_image(
        self, sequence: TokenSequence, images: Tensor, present: Tensor | None = None
    ) -> None:
        self.add_features(sequence, self.features(images), present)

    def text_logits(self, hidden: Tensor) -> Tensor:
        return self.to_text(hidden)

    def image_tokens(self, segment: Segment, followed: bool) -> int:
        h, w = self.image.grid(*segment.images.shape[-2:])
        return h * w + 2

    def flops(self, batch: Batch) -> float:
        """Forward and backward (three forwards); no gradient to features, heads on the target."""
        length, target = self.tokens(batch) // len(batch), batch.segments[-1]
        first, second = self.inward.weight.numel(), self.outward.weight.numel()
        images = [self.image_tokens(column, False) for column in self.drawn_columns(batch)]
        image = 2.0 * (sum(images) - 2 * len(images)) * (2 * first + 3 * second)
        if target.kind == "image":
            scored = self.to_features.weight.numel() * (self.image_tokens(target, False) - 2)
        else:
            scored = self.trunk.dim * self.text.vocab_size * target.length
        row = 3.0 * (self.trunk.flops(length, causal(length), sum(images)) + 2 * scored)
        return len(batch) * (row + image + self.seen_flops(batch))

    def sample_image(self, request: ImageRequest, sampler: FeatureSampler) -> Tensor:
        """Draw features in raster order, each at full length; the seed changes nothing."""
        contexts = self.contexts(request, sampler.guidance)
        passes = len(contexts)  # stacked along B
        grid = self.image.grid(*(request.size or (self.size, self.size)))
        places = grid[0] * grid[1]
        sequence = self.prefix(contexts, present=request.present)
        cache = self.trunk.cache(sequence.length + places)
        self.token(sequence, self.text.vocab_size, len(request) * passes, IMAGE)  # boi
        drawn: list[Tensor] = []
        for _ in range(places):
            hidden = sequence.run(self.trunk, cache)[:, -1]  # [passes*B D]
            parts = self.to_features(hidden).float().chunk(passes)
            feature = guide(parts, [sampler.guidance] * (passes - 1))  # [B C]
            drawn.append(F.normalize(feature, dim=-1) * self.image.channels**0.5)
            sequence.add(self.tokens_of(drawn[-1]).repeat(passes, 1)[:, None], tower=IMAGE)
        latents = torch.stack(drawn, 2).unflatten(2, grid)  # [B C N] -> [B C h w]
        return self.image.decode(latents)
