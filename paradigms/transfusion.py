"""Transfusion (arXiv:2408.11039): one transformer, next-token loss on text, flow loss on latents.

    L = CE(text) + lambda |v(x_t, t) - (x_1 - x_0)|^2    causal text, bidirectional inside an image

    row = bos prompt eos | boi patches eoi

An image that is read rather than drawn is either noised a little and drawn as well
(`condition_on="noised"`, the paper: t >= 0.5 for image-first pairs), or clean, and then an image
that is drawn and read later appears twice, noised and isolated, then clean (`"clean_copy"`, BAGEL
arXiv:2505.14683). Other than the paper: a flow's velocity for DDPM's noise, no text loss on
prompts, lambda 1 in the shipped YAMLs instead of 5, boi and eoi outside the block
(docs/definitions.md).
B rows, C channels, h x w latent grid, P patches, D width.
"""

import math
from functools import partial
from typing import Any, ClassVar, Literal

from torch import Tensor

from unify.batch import Batch, Segment
from unify.flow import FlowSampler, Prediction, TimeLaw, VelocityPrediction, guide, interpolate
from unify.nn.alignment import OPTIONAL, TERM, Alignment, SelfFlow, states_of, terms_with
from unify.nn.attention import Cache
from unify.nn.flops import scored
from unify.nn.noised import Noised, alignment_term, flow_term, of_cells
from unify.nn.patches import Patches, check_channels, size_of
from unify.nn.prefix import PrefixParadigm
from unify.nn.sequence import References, TokenSequence, with_axes
from unify.nn.trunk import IMAGE, Backbone
from unify.nn.understanding import seen_apart
from unify.nn.vision import VisionEncoder
from unify.nn.words import Table, embedding, head
from unify.noise import Noise
from unify.paradigm import ImageRequest, Terms
from unify.support.ranges import Count, Positive, Share
from unify.tokenizer import ContinuousTokenizer, TextTokenizer


class Transfusion(PrefixParadigm):
    """Text tokens and latent patches in one trunk; lambda is `loss_weights.image_flow`.

    Args:
        time: the law of training times.
        prediction: what the network's output stands for; default: the velocity.
        condition_on: what is read of an image that a condition shows, see above.
        condition_time: least t of an image that is noised and read: below, too little is left.
        image_attention: among an image's own patches; causal is the paper's ablation, and worse.
        size, dropout, token_constant: as in `ArVQ`.
        understand: reads what a text is about, then not as latents (JanusFlow, arXiv:2411.07975).
        time_token: the time's embedding stands in place of boi, as JanusFlow has it.
        align: hidden states of noised images learn from features (nn/alignment.py).
        references: where images lie that another is drawn from (nn/sequence.py).
    """

    tasks = frozenset(
        {"text_to_image", "caption", "vqa", "edit", "compose", "depth", "super_resolution", "text"}
    )
    terms = frozenset({"text_ce", "image_flow"})
    optional = OPTIONAL
    image_sampler = FlowSampler
    later: ClassVar[dict[str, Any]] = {"understand": None, "time_token": False}
    later |= {"align": None, "references": "order"}  # of a run's identity

    def __init__(
        self,
        trunk: Backbone,
        text: TextTokenizer,
        image: ContinuousTokenizer,
        patches: Patches,
        time: TimeLaw,
        prediction: Prediction | None = None,
        condition_on: Literal["noised", "clean_copy"] = "noised",
        condition_time: Share = 0.5,
        image_attention: Literal["bidirectional", "causal"] = "bidirectional",
        size: Count = 32,
        dropout: Share = 0.1,
        token_constant: Positive | None = None,
        understand: VisionEncoder | None = None,
        time_token: bool = False,
        align: Alignment | None = None,
        references: References = "order",
    ):
        super().__init__(seen_apart(understand, trunk.dim), with_axes(references, trunk.axes))
        if time_token and isinstance(align, SelfFlow):
            raise ValueError(
                "time_token says one time, and align gives an image two: leave out either"
            )
        check_channels(patches, image)
        self.trunk, self.text, self.image, self.patches = trunk, text, image, patches
        self.time, self.prediction = time, prediction or VelocityPrediction()
        self.condition_on, self.condition_time = condition_on, condition_time
        self.bidirectional = image_attention == "bidirectional"
        self.size, self.dropout, self.token_constant = size, dropout, token_constant
        self.time_token, self.align = time_token, align
        self.terms = terms_with(align, self.terms, trunk)
        words = text.vocab_size
        self.embed = embedding(trunk, text, words + 2, (words, words + 1))  # text, boi, eoi
        self.to_text = head(trunk, text, words)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        """Both losses from one pass over the row's columns."""
        sequence = self.new_sequence(draws=batch.segments[-1].kind == "image")
        read: list[tuple[slice, Tensor, Tensor]] = []  # text columns: place, ids, valid
        noised: list[Noised] = []
        texts = iter(self.drop_conditions(batch, noise))
        for place, segment in enumerate(batch.segments):
            if segment.kind == "text":
                read.append(self.add_text(sequence, next(texts), segment.length))
            else:
                noised += self._add_column(sequence, batch, place, noise)
        with states_of(self.trunk, self.align if noised else None) as states:
            hidden = sequence.run(self.trunk)  # [B S D]
        terms: Terms = {}
        if batch.segments[-1].kind == "text":  # the last column is the target
            where, ids, valid = read[-1]
            terms["text_ce"] = self.text_term(self.text_logits(hidden[:, where]), ids, valid)
        if noised:
            terms["image_flow"] = flow_term(noised, hidden, self.patches, self.prediction)
        if noised and self.align is not None:
            parts = sequence, self.trunk, self.patches
            terms[TERM] = alignment_term(self.align, noised, states[0], *parts)
        return terms

    def _add_column(
        self, sequence: TokenSequence, batch: Batch, place: int, noise: Noise
    ) -> list[Noised]:
        """Append an image column in training: noised, clean, or both, as `condition_on` says."""
        segment, last = batch.segments[place], batch.segments[-1]
        given = segment.role == "condition" and self.condition_on == "clean_copy"
        if given or self.reads_apart(batch, segment):
            # given, never drawn: read as it is, and nothing is learned about it
            add = self.add_seen if last.kind == "text" else self.add_image
            add(sequence, segment.images, segment.present)
            return []
        followed = segment is not last
        if not followed:
            sequence.begin_target()
        x1 = self.image.encode(segment.images)  # [B C h w]
        x0 = noise.x0(place, x1.shape[1:])
        read = followed and self.condition_on == "noised"
        law = partial(self.time.above, low=self.condition_time) if read else self.time.quantile
        t = law(noise.t(place))  # [B]
        if self.align is not None:
            tokens = math.prod(self.patches.grid(*size_of(x1)))
            t = self.align.times(t, law, noise, place, tokens)  # [B] or [B P]
        xt, velocity = interpolate(x0, x1, of_cells(t, x1, self.patches))  # [B C h w] each
        # Drawn, then read: later tokens would otherwise learn to read noise, which they never meet
        # in sampling. The noised copy is hidden from them, and a clean one follows it.
        isolated = followed and not read
        where, skip = self.add_latents(sequence, xt, t, segment.present, isolated)
        if isolated:
            self.add_image(sequence, segment.images, segment.present)
        return [Noised(where, xt, velocity, t, skip, segment.present, segment.images)]

    def add_latents(
        self,
        sequence: TokenSequence,
        latents: Tensor,
        t: Tensor,
        present: Tensor | None = None,
        isolated: bool = False,
    ) -> tuple[slice, Tensor]:
        """Append boi, patches of latents [B C h w] at time t [B] or [B P], eoi.

        Bidirectional inside: a patch has no order among the others, and a flow predicts all of them
        at once from all of them, so a causal mask would only hide half of the image.
        """
        tokens, time, skip = self.patches.tokens(latents, t)  # [B P D] each
        where = self.add_framed(
            sequence,
            tokens,
            self.ends,
            present,
            isolated,
            boi=time[:, :1] if self.time_token else None,
            grid=self.patches.grid(*latents.shape[-2:]),
            block=self.bidirectional,
            time=time,
            tower=IMAGE,
        )
        return where, skip

    @property
    def ends(self) -> Table:
        """The table with boi and eoi of latents as its last two entries."""
        return self.embed

    def add_image(
        self, sequence: TokenSequence, images: Tensor, present: Tensor | None = None
    ) -> None:
        latents = self.image.encode(images)
        # a clean latent is a noised one at t = 1: the same patches and time embedding serve both
        self.add_latents(sequence, latents, latents.new_ones(len(latents)), present)

    def text_logits(self, hidden: Tensor) -> Tensor:
        return self.to_text(hidden)

    def image_tokens(self, segment: Segment, followed: bool) -> int:
        twice = followed and segment.role == "target" and self.condition_on == "clean_copy"
        return self.latent_tokens(segment) * (2 if twice else 1)

    def latent_tokens(self, segment: Segment) -> int:
        """Number of tokens of one copy of the image, delimiters included."""
        h, w = self.patches.grid(*self.image.grid(*segment.images.shape[-2:]))
        return h * w + 2

    def flops(self, batch: Batch) -> float:
        """Forward and backward (three forwards) of trunk, patches and text head."""
        length, ahead, patches = self.tokens(batch) // len(batch), 0, 0.0
        aligned, cleaner, images = 0.0, 0.0, 0
        for column, copies, noised in self.latent_copies(batch):
            n = self.latent_tokens(column) - 2  # between its ends
            images += copies * n
            # beyond the causal pairs, those that a bidirectional image reads ahead
            ahead += self.bidirectional * copies * (n * (n - 1) // 2)
            grid = self.image.grid(*column.images.shape[-2:])
            seen = copies - noised  # of these no velocity is read
            times = n if isinstance(self.align, SelfFlow) else 1  # of a noised image
            patches += noised * self.patches.flops(grid, times=times)
            patches += seen * self.patches.flops(grid, back=False)
            if noised and self.align is not None:
                aligned += self.align.flops(column, self.patches.grid(*grid))
                cleaner += self.patches.flops(grid, back=False)
        pairs = scored(length * (length + 1) // 2 + ahead, length, length)
        trunk = self.trunk.flops(length, pairs, images)
        if cleaner and isinstance(self.align, SelfFlow):  # one pass more, forward alone
            aligned += trunk + cleaner
        row = trunk + patches + self.head_flops(batch)
        return len(batch) * (3.0 * row + aligned + self.seen_flops(batch))

    def head_flops(self, batch: Batch) -> int:
        """FLOPs of the text head over one row's target column; 0 if that is an image."""
        target = batch.segments[-1]
        written = target.length if target.kind == "text" else 0
        return 2 * self.trunk.dim * self.text.vocab_size * written

    def latent_copies(self, batch: Batch) -> list[tuple[Segment, int, bool]]:
        """Image columns, how often each is read as a latent, and whether one copy is noised."""
        copies, last = [], batch.segments[-1]
        for column in batch.segments:
            if column.kind == "image" and not self.reads_apart(batch, column):
                clean = self.condition_on == "clean_copy"
                given = clean and column.role == "condition"
                twice = clean and not given and column is not last
                copies.append((column, 1 + twice, not given))
        return copies

    def encoded(self, batch: Batch) -> list[tuple[int, int]]:
        return [
            (column.images.shape[-2], column.images.shape[-1])
            for column, copies, _ in self.latent_copies(batch)
            for _ in range(copies)
        ]

    def sample_image(self, request: ImageRequest, sampler: FlowSampler) -> Tensor:
        """Integrate the velocity over a cached prefix; guidance s = 1 skips the second pass."""
        contexts = self.contexts(request, sampler.guidance)
        passes = len(contexts)  # stacked along B
        h, w = self.image.grid(*(request.size or (self.size, self.size)))
        x0 = request.noise(self.device).normal("x0", (self.image.channels, h, w))
        prefix, cache = self.prefix(contexts, present=request.present), self.trunk.cache()
        prefix.run(self.trunk, cache)
        # The prefix is causal, so it never depends on the image: one pass serves every step of the
        # flow. A view reads it and keeps nothing of the noised patches.
        cache = cache.view()

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            xs, times = x.repeat(passes, 1, 1, 1), t.repeat(passes)  # [passes*B C h w]
            output = self.denoise(prefix.branch(), cache, xs, times)
            parts = self.prediction.velocity(output, xs, times).chunk(passes)
            return guide(parts, [sampler.guidance] * (passes - 1))

        return self.image.decode(sampler.integrate(velocity, x0))

    def denoise(self, sequence: TokenSequence, cache: Cache, latents: Tensor, t: Tensor) -> Tensor:
        """The network's output [B C h w] for noised latents after a cached prefix."""
        start = sequence.length
        where, skip = self.add_latents(sequence, latents, t)
        hidden = sequence.run(self.trunk, cache)[:, where.start - start : where.stop - start]
        return self.patches.latents(hidden, skip, size_of(latents)).float()
