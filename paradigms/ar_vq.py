"""Text and image codes in one vocabulary, next-token prediction (Emu3 arXiv:2409.18869, Chameleon
arXiv:2405.09818, VQGAN arXiv:2012.09841).

    L = CE(text) + w CE(codes) (+ z log^2 Z)        causal everywhere

    row = bos prompt eos | boi c c .. c eol  c c .. c eol ... eoi        h rows of w codes

Row and end tokens follow from the grid: a grammar feeds them and they carry no loss, so an image
is always well formed. B rows, n tokens of a column, h x w grid of codes, D width, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from unify.batch import Batch, Segment
from unify.flow import guide
from unify.nn.flops import causal
from unify.nn.losses import likelihood, log_partition_squared, per_row, token_nll
from unify.nn.prefix import PrefixParadigm
from unify.nn.sequence import TokenSequence
from unify.nn.trunk import IMAGE, Backbone
from unify.nn.understanding import seen_apart
from unify.nn.vision import VisionEncoder
from unify.nn.words import embedding, head
from unify.noise import Noise
from unify.paradigm import ImageRequest, Term, Terms
from unify.sampling import draw
from unify.support.ranges import Count, CountOrZero, NotNegative, Positive, Share, ShareAbove0
from unify.tokenizer import DiscreteTokenizer, TextTokenizer


@dataclass(frozen=True)
class CodeSampler:
    """Scale of guidance, and settings of `draw` for every code."""

    guidance: NotNegative = 1.0
    temperature: NotNegative = 1.0
    top_k: CountOrZero = 0
    top_p: ShareAbove0 = 1.0

    def draw(self, logits: Tensor, u: Tensor) -> Tensor:
        return draw(logits, u, self.temperature, self.top_k, self.top_p)


class ArVQ(PrefixParadigm):
    """Autoregression over one vocabulary `[text | boi eol eoi | codes]`.

    Args:
        size: side in pixels of a generated image if the request names none.
        dropout: probability that a row that generates an image trains without its text, which is
            what guidance moves away from.
        token_constant: divide a row's summed text loss by this number instead of its own token
            count: every token then weighs the same, long texts more than short ones.
        understand: reads the images that a text is about, apart from the codes (Janus). The softmax
            is then over text where a text is learned and over codes where an image is.
    """

    tasks = frozenset(
        {"text_to_image", "caption", "vqa", "edit", "compose", "depth", "super_resolution", "text"}
    )
    terms = frozenset({"text_ce", "image_ce", "z_loss"})
    image_sampler = CodeSampler
    later: ClassVar[dict[str, Any]] = {"understand": None}  # of a run's identity

    def __init__(
        self,
        trunk: Backbone,
        text: TextTokenizer,
        image: DiscreteTokenizer,
        size: Count = 32,
        dropout: Share = 0.1,
        token_constant: Positive | None = None,
        understand: VisionEncoder | None = None,
    ):
        super().__init__(seen_apart(understand, trunk.dim))
        self.trunk, self.text, self.image = trunk, text, image
        self.size, self.dropout, self.token_constant = size, dropout, token_constant
        # one table, one head and one softmax for both kinds of token: that is the paradigm
        self.boi, self.eol, self.eoi = range(text.vocab_size, text.vocab_size + 3)
        self.codes = text.vocab_size + 3  # id of code 0
        self.vocab_size = self.codes + image.vocab_size
        self.embed = embedding(trunk, text, self.vocab_size, (self.boi, self.eoi))
        self.to_logits = head(trunk, text, self.vocab_size)

    @property
    def alphabet(self) -> int:
        return self.vocab_size if self.seen is None else self.text.vocab_size

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        """Next-token loss on the target, which is the last column; conditions are only read."""
        sequence, target = TokenSequence(self.trunk.axes), batch.segments[-1]
        self.add_conditions(sequence, batch, noise)
        if target.kind == "text":
            where, ids, valid = self.add_text(sequence, target.texts, target.length)
        else:
            where, ids, valid = self.add_image(sequence, target.images, target.present)
        # the vocabulary is large beside the trunk's width: the head runs on the target alone
        hidden = sequence.run(self.trunk)[:, where]  # [B n D]
        return self._terms(self.to_logits(hidden[:, :-1]), ids, valid, target.kind)

    def _terms(self, logits: Tensor, ids: Tensor, valid: Tensor, kind: str) -> Terms:
        """logits [B n-1 V] predict ids[:, 1:]; grammar tokens carry no loss."""
        ids, learned = ids[:, 1:], valid[:, 1:]  # [B n-1]
        name, constant = "text_ce", self.token_constant
        if kind == "image":
            # boi, eol and eoi follow from the grid: to predict them would be a free, easy gain that
            # grows with the number of rows
            name, constant, learned = "image_ce", None, learned & (ids >= self.codes)
        if self.seen is not None:  # neither kind's loss reaches the other's rows of the head
            first = self.codes if kind == "image" else 0
            last = self.vocab_size if kind == "image" else self.text.vocab_size
            logits, ids = logits[..., first:last], (ids - first).clamp(min=0)
        return {
            name: likelihood(token_nll(logits, ids), learned, constant),
            "z_loss": Term(per_row(log_partition_squared(logits), learned)),
        }

    def image_ids(self, images: Tensor) -> Tensor:
        """images [B 3 H W] -> boi, h rows of w codes and an eol, eoi: [B h(w+1)+2].

        An eol after each row tells images of one area but other sides apart (Emu3).
        """
        h, w = self.image.grid(*images.shape[-2:])
        codes = self.image.encode(images).view(-1, h, w) + self.codes
        rows = F.pad(codes, (0, 1), value=self.eol).flatten(1)  # [B h w] -> [B h(w+1)]
        return F.pad(F.pad(rows, (1, 0), value=self.boi), (0, 1), value=self.eoi)

    def add_image(
        self, sequence: TokenSequence, images: Tensor, present: Tensor | None = None
    ) -> tuple[slice, Tensor, Tensor]:
        """Append images; returns where they lie, ids [B n] and valid [B n], as `add_text`."""
        ids = self.image_ids(images)
        valid = torch.ones_like(ids, dtype=torch.bool)
        if present is not None:
            valid = present[:, None].expand_as(ids)
        return sequence.add(self.embed(ids), valid, tower=IMAGE), ids, valid

    def text_logits(self, hidden: Tensor) -> Tensor:
        return self.to_logits(hidden)[..., : self.text.vocab_size]

    def image_tokens(self, segment: Segment, followed: bool) -> int:
        h, w = self.image.grid(*segment.images.shape[-2:])
        return h * (w + 1) + 2

    def flops(self, batch: Batch) -> float:
        """Forward and backward (three forwards); the head runs on the target column alone."""
        length = self.tokens(batch) // len(batch)
        target = batch.segments[-1]
        predicted = target.length if target.kind == "text" else self.image_tokens(target, False)
        head = 2 * self.trunk.dim * self.vocab_size * (predicted - 1)
        images = sum(self.image_tokens(column, False) for column in self.drawn_columns(batch))
        trunk = self.trunk.flops(length, causal(length), images)
        return len(batch) * (3.0 * (trunk + head) + self.seen_flops(batch))

    def sample_image(self, request: ImageRequest, sampler: CodeSampler) -> Tensor:
        """Draw codes in raster order; guidance u + s (c - u) on logits, s = 1 skips u."""
        contexts = self.contexts(request, sampler.guidance)
        passes = len(contexts)  # stacked along B
        h, w = grid = self.image.grid(*(request.size or (self.size, self.size)))
        uniforms = request.noise(self.device).uniform("codes", (h * w,))
        sequence = self.prefix(contexts, present=request.present)
        cache = self.trunk.cache(sequence.length + h * (w + 1) + 1)
        codes: list[Tensor] = []
        self.token(sequence, self.boi, len(request) * passes, IMAGE)
        for place in range(h * w):
            hidden = sequence.run(self.trunk, cache)[:, -1]  # [passes*B D]
            # only codes can follow here, so text and grammar tokens are left out of the softmax
            parts = self.to_logits(hidden)[:, self.codes :].float().chunk(passes)
            logits = guide(parts, [sampler.guidance] * (passes - 1))  # [B K]
            codes.append(sampler.draw(logits, uniforms[:, place]))  # [B]
            # every pass reads the guided code: they differ in their conditions alone
            fed = self.embed(codes[-1] + self.codes).repeat(passes, 1)
            sequence.add(fed[:, None], tower=IMAGE)
            if (place + 1) % w == 0:
                self.token(sequence, self.eol, len(request) * passes, IMAGE)
        return self.image.decode(torch.stack(codes, dim=1), grid)
