"""Masked prediction of image codes, next tokens of text, one vocabulary (Show-o, arXiv:2408.12528;
MaskGIT, arXiv:2202.04200). With masked text as well: paradigms/masked_text.py.

    L = CE(text) + w CE(hidden codes | known codes, prompt)        each at its own place, no shift

    row = bos prompt eos | boi codes eoi          some codes of an image that is drawn are hidden

How many are hidden, and what the loss then weighs, is a `Masking` (unify/nn/masking.py). Drawing
starts with all hidden, and each pass makes some known, the surest first. Other than Show-o and its
code: a hidden token weighs a constant, there a share of the batch; the noise of the choice falls
linearly, there as a product; no loss on prompts; 2-D places (docs/definitions.md).
B rows, N places of codes on a grid h x w, K codes, D width, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from unify.batch import Batch, Segment
from unify.flow import guide
from unify.nn.flops import causal
from unify.nn.layers import sincos_2d
from unify.nn.losses import token_nll
from unify.nn.masking import Masking
from unify.nn.prefix import Context, PrefixParadigm
from unify.nn.sequence import References, TokenSequence, with_axes
from unify.nn.trunk import IMAGE, Backbone
from unify.nn.understanding import seen_apart
from unify.nn.vision import VisionEncoder
from unify.nn.words import embedding, head
from unify.noise import Noise
from unify.paradigm import ImageRequest, Term, Terms
from unify.sampling import ParallelSampler, Predict, decode_parallel
from unify.support.ranges import Count, NotNegative, Positive, Share
from unify.tokenizer import DiscreteTokenizer, TextTokenizer

Grid = tuple[int, int]


@dataclass(frozen=True)
class MaskedSampler(ParallelSampler):
    """Scale of guidance, and settings of `decode_parallel`."""

    guidance: NotNegative = 1.0


class Masked(PrefixParadigm):
    """Masked image codes and next-token text over one vocabulary `[text | codes]`.

    Args:
        masking: of the codes of an image that is drawn; its `weight` is the weight of their loss.
        attention: `causal_text`: an image is one bidirectional block, all else is causal. `full`:
            so are conditions and image together; a text that is written reads them, causal.
        size, dropout, token_constant, understand: as in `ArVQ`.
        references: where images lie that another is drawn from (nn/sequence.py).
    """

    tasks = frozenset(
        {"text_to_image", "caption", "vqa", "edit", "compose", "depth", "super_resolution", "text"}
    )
    terms = frozenset({"text_ce", "image_ce"})
    image_sampler = MaskedSampler
    later: ClassVar[dict[str, Any]] = {"understand": None, "references": "order"}  # of its identity

    def __init__(
        self,
        trunk: Backbone,
        text: TextTokenizer,
        image: DiscreteTokenizer,
        masking: Masking,
        attention: Literal["causal_text", "full"] = "causal_text",
        size: Count = 32,
        dropout: Share = 0.1,
        token_constant: Positive | None = None,
        understand: VisionEncoder | None = None,
        references: References = "order",
    ):
        super().__init__(seen_apart(understand, trunk.dim), with_axes(references, trunk.axes))
        self.trunk, self.text, self.image, self.masking = trunk, text, image, masking
        self.full = attention == "full"
        self.causal_text = not self.full
        self.size, self.dropout, self.token_constant = size, dropout, token_constant
        self.codes = text.vocab_size  # id of code 0
        self.vocab_size = self.mask = self.codes + image.vocab_size
        # the mask and the ends of an image are read and never predicted: the head lacks them, so
        # that none of them is ever drawn
        ends = (self.mask + 1, self.mask + 2)  # boi, eoi
        self.embed = embedding(trunk, text, self.mask + 3, ends)
        self.to_logits = head(trunk, text, self.vocab_size)

    @property
    def alphabet(self) -> int:
        return self.vocab_size if self.seen is None else self.text.vocab_size

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        """The target is the last column; conditions are read, and nothing in them is hidden."""
        target = batch.segments[-1]
        sequence = self.new_sequence(draws=target.kind == "image")
        self.add_conditions(sequence, batch, noise)
        if target.kind == "text":
            return {"text_ce": self.text_target(sequence, target, batch.target_place, noise)}
        ids, grid = self.image_ids(target.images)  # [B N]
        hidden = self.masking.draw(noise, batch.target_place, ids.shape[1])
        shown = ids.masked_fill(hidden.places, self.mask)
        where = self.add_codes(sequence, shown, grid, target.present)
        logits = self.to_logits(sequence.run(self.trunk)[:, where])
        if self.seen is not None:  # neither kind's loss reaches the other's rows of the head
            logits, ids = logits[..., self.codes :], ids - self.codes
        return {"image_ce": self.masking.term(token_nll(logits, ids), hidden)}

    def text_target(self, sequence: TokenSequence, target: Segment, at: int, noise: Noise) -> Term:
        """Next-token loss on the texts of the target column, which is appended."""
        sequence.joined = False
        where, ids, valid = self.add_text(sequence, target.texts, target.length)
        return self.text_term(self.learned_logits(sequence.run(self.trunk)[:, where]), ids, valid)

    def learned_logits(self, hidden: Tensor) -> Tensor:
        """[... D] -> logits that a text is learned by: over codes too, unless images that a text is
        about are read apart."""
        return self.to_logits(hidden) if self.seen is None else self.text_logits(hidden)

    def new_sequence(self, draws: bool = False) -> TokenSequence:
        return TokenSequence(self.trunk.axes, self.full, self.references if draws else "order")

    def prefix(
        self,
        contexts: list[Context],
        answers: bool = False,
        present: Sequence[Tensor] | None = None,
    ) -> TokenSequence:
        sequence = super().prefix(contexts, answers, present)
        sequence.joined &= not answers
        return sequence

    def image_ids(self, images: Tensor) -> tuple[Tensor, Grid]:
        """images [B 3 H W] -> ids of their codes [B h*w], and the grid."""
        return self.image.encode(images) + self.codes, self.image.grid(*images.shape[-2:])

    def add_codes(
        self,
        sequence: TokenSequence,
        ids: Tensor,
        grid: Grid,
        present: Tensor | None = None,
    ) -> slice:
        """Append boi, ids [B N] of codes or the mask, eoi."""
        tokens = self.embed(ids)  # [B N D]
        # a hidden token says nothing but its place, and rotary positions are relative
        tokens = tokens + sincos_2d(*grid, self.trunk.dim).to(tokens)
        return self.add_framed(
            sequence, tokens, self.embed, present, grid=grid, block=True, tower=IMAGE
        )

    def add_image(
        self, sequence: TokenSequence, images: Tensor, present: Tensor | None = None
    ) -> None:
        self.add_codes(sequence, *self.image_ids(images), present)

    def text_logits(self, hidden: Tensor) -> Tensor:
        return self.to_logits(hidden)[..., : self.codes]

    def image_tokens(self, segment: Segment, followed: bool) -> int:
        return math.prod(self.image.grid(*segment.images.shape[-2:])) + 2

    def flops(self, batch: Batch) -> float:
        """Forward and backward (three forwards); the head runs on the target column alone."""
        length = self.tokens(batch) // len(batch)
        heads = 2 * self.trunk.dim * self.vocab_size * self.predicted(batch.segments[-1])
        images = sum(self.predicted(column) for column in self.drawn_columns(batch))
        trunk = self.trunk.flops(length, causal(length, blocks=self.blocks(batch)), images)
        return len(batch) * (3.0 * (trunk + heads) + self.seen_flops(batch))

    def predicted(self, target: Segment) -> int:
        """Places of a target that the head runs on."""
        return target.length if target.kind == "text" else self.image_tokens(target, False) - 2

    def blocks(self, batch: Batch) -> list[int]:
        """Sizes of the bidirectional blocks of a row."""
        target = batch.segments[-1]
        if self.full:
            apart = target.length if target.kind == "text" else 0
            return [self.tokens(batch) // len(batch) - apart]
        return [self.predicted(column) for column in self.drawn_columns(batch)]

    def sample_image(self, request: ImageRequest, sampler: MaskedSampler) -> Tensor:
        """Make codes known, the surest first; guidance u + s (c - u) on logits, s = 1 skips u."""
        contexts = self.contexts(request, sampler.guidance)
        scales = [sampler.guidance] * (len(contexts) - 1)
        grid = self.image.grid(*(request.size or (self.size, self.size)))
        places, noise = math.prod(grid), request.noise(self.device)
        shape = (sampler.passes(places), places)
        predict = self.codes_predictor(self.prefix(contexts, False, request.present), grid, scales)
        codes = torch.zeros(len(request), places, dtype=torch.long, device=self.device)
        uniforms = noise.uniform("codes", shape), noise.uniform("choices", shape)
        codes = decode_parallel(predict, codes, codes == 0, *uniforms, sampler)
        return self.image.decode(codes, grid)

    def codes_predictor(
        self, prefix: TokenSequence, grid: Grid, scales: Sequence[float] = ()
    ) -> Predict:
        """A function of codes [B N] and hidden places [B N] to guided logits [B N K].

        `prefix` has the conditions of guidance stacked along B, one more than there are scales.
        """
        read, passes = prefix.reader(self.trunk), len(scales) + 1

        def predict(codes: Tensor, hidden: Tensor) -> Tensor:
            shown = (codes + self.codes).masked_fill(hidden, self.mask).repeat(passes, 1)
            states = read(lambda branch: self.add_codes(branch, shown, grid))
            # only codes can stand here, so text is left out of the softmax
            parts = self.to_logits(states)[..., self.codes :].float().chunk(passes)
            return guide(parts, list(scales))

        return predict
