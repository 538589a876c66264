"""Masked autoregression over latents, with a flow for each token (MAR, arXiv:2406.11838), and one
encoder of images to draw and to read (Harmon, arXiv:2503.21979).

    L = CE(text) + lambda |v(x_t, t, c_i) - (x_1 - x_0)|^2        over the hidden tokens i

    row = bos prompt eos | boi tokens eoi           some tokens of an image that is drawn are hidden

The trunk reads the prompt and the known tokens, both ways inside the image, and gives a vector c_i
at each hidden one; a small head carries noise to that token, given c_i. Drawing starts with all
hidden and makes some known in each iteration, in an order fixed beforehand. An image that is read
goes through the same layers, with nothing hidden.

Other than the papers: a flow for DDPM; one trunk, which reads a hidden token as a learned vector,
for an encoder that leaves it out, a language model and a decoder that puts it back; no buffer
tokens; a share of hidden tokens for each row and not for the batch (docs/definitions.md).
B rows, C channels, h x w latent grid, N tokens of E = C p p numbers, R times of a token, D width.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from unify.batch import Batch, Segment
from unify.flow import (
    FlowSampler,
    Prediction,
    TimeLaw,
    Velocity,
    VelocityPrediction,
    guide,
    interpolate,
)
from unify.nn.alignment import OPTIONAL, REPA, TERM, Drawn, states_of, terms_with
from unify.nn.flops import causal
from unify.nn.flow_head import FlowHead, check_head
from unify.nn.layers import Embedding, Linear, patchify, sincos_2d, unpatchify
from unify.nn.masking import Hidden, Masking
from unify.nn.masks import Mask
from unify.nn.prefix import PrefixParadigm
from unify.nn.sequence import References, TokenSequence, with_axes
from unify.nn.trunk import IMAGE, Backbone, Tokens
from unify.nn.understanding import seen_apart
from unify.nn.unmasking import Draw, Order, decode_in_order, earliness
from unify.nn.vision import VisionEncoder
from unify.nn.words import embedding, head
from unify.noise import Noise
from unify.paradigm import ImageRequest, Term, Terms
from unify.support.ranges import Count, NotNegative, Positive, Share
from unify.tokenizer import ContinuousTokenizer, TextTokenizer

Grid = tuple[int, int]


@dataclass(frozen=True)
class InOrderSampler(FlowSampler):
    """Settings of each token's flow, and of the iterations.

    Args:
        iterations: no more than tokens; a cosine says how many are drawn in each.
        temperature: scale of the noise that a token starts from.
        guidance_schedule: one scale for all, or one that grows from 1 as tokens become known (MAR).
    """

    iterations: Count = 8
    temperature: NotNegative = 1.0
    guidance_schedule: Literal["constant", "linear"] = "constant"

    def scale(self, known: float) -> float:
        """Of guidance in the iteration after which this share of the tokens is known."""
        linear = self.guidance_schedule == "linear"
        return 1 + (self.guidance - 1) * known if linear else self.guidance


class MAR(PrefixParadigm):
    """Latent tokens, drawn in an order from what is known; lambda is `loss_weights.image_flow`.

    Args:
        flow_head: the flow of one token; its `patch` is a token's side in latent cells.
        time: the law of training times.
        masking: how many tokens are hidden in training, and what each weighs.
        order: in which tokens become known: by chance, another for each picture, or as one reads.
        repeats: R, noised copies of a token that the head learns from; the trunk runs once.
        prediction: what the head's output stands for; default: the velocity.
        encoder: layers of D numbers that read the known tokens and nothing else, before the trunk;
            None: the trunk alone.
        align: what the trunk makes of an image's tokens, known and hidden, learns from an encoder's
            features (REPA).
        size, dropout, token_constant, understand: as in `ArVQ`; with the last one reading and
            drawing share the trunk and the words alone.
        references: where images lie that another is drawn from (nn/sequence.py).
    """

    tasks = frozenset(
        {"text_to_image", "caption", "vqa", "edit", "compose", "depth", "super_resolution", "text"}
    )
    terms = frozenset({"text_ce", "image_flow"})
    optional = OPTIONAL
    image_sampler = InOrderSampler
    later: ClassVar[dict[str, Any]] = {"align": None, "understand": None}  # of a run's identity
    later |= {"references": "order"}

    def __init__(
        self,
        trunk: Backbone,
        text: TextTokenizer,
        image: ContinuousTokenizer,
        flow_head: FlowHead,
        time: TimeLaw,
        masking: Masking,
        order: Order = "random",
        repeats: Count = 4,
        prediction: Prediction | None = None,
        encoder: Backbone | None = None,
        size: Count = 32,
        dropout: Share = 0.1,
        token_constant: Positive | None = None,
        align: REPA | None = None,
        understand: VisionEncoder | None = None,
        references: References = "order",
    ):
        super().__init__(seen_apart(understand, trunk.dim), with_axes(references, trunk.axes))
        check_head(trunk, image, flow_head, encoder)
        self.trunk, self.text, self.image = trunk, text, image
        self.flow_head, self.encoder = flow_head, encoder
        self.time, self.prediction = time, prediction or VelocityPrediction()
        self.masking, self.order, self.repeats, self.align = masking, order, repeats, align
        self.terms = terms_with(align, self.terms, trunk)
        self.size, self.dropout, self.token_constant = size, dropout, token_constant
        words = text.vocab_size
        self.embed = embedding(trunk, text, words + 2, (words, words + 1))  # text, boi, eoi
        self.inward = Linear(flow_head.numbers, trunk.dim)
        self.unknown = Embedding(1, trunk.dim)  # what a hidden token is read as
        self.to_text = head(trunk, text, words)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        """The target is the last column; conditions are read, and nothing in them is hidden."""
        target = batch.segments[-1]
        sequence = self.new_sequence(draws=target.kind == "image")
        self.add_conditions(sequence, batch, noise)
        if target.kind == "image":
            return self._image_terms(sequence, target, batch.target_place, noise)
        where, ids, valid = self.add_text(sequence, target.texts, target.length)
        logits = self.text_logits(sequence.run(self.trunk)[:, where])
        return {"text_ce": self.text_term(logits, ids, valid)}

    def _image_terms(
        self, sequence: TokenSequence, target: Segment, at: int, noise: Noise
    ) -> Terms:
        """Mean squared error of the hidden tokens' velocities; the image is appended."""
        latents = self.image.encode(target.images)
        tokens, grid = self.latent_tokens(latents)  # [B N E]
        places = tokens.shape[1]
        share = self.masking.share(noise.uniform("share"))  # [B]
        early = earliness(self.order, noise, places)
        hidden = Hidden(self.masking.choose(early, share), share)
        where = self.add_tokens(sequence, tokens, grid, hidden.places, target.present)
        with states_of(self.trunk, self.align) as states:
            c = sequence.run(self.trunk)[:, where]  # [B N D]
        x0 = noise.x0(at, (self.repeats, *latents.shape[1:]))  # [B R C h w]
        x0 = patchify(x0.flatten(0, 1), self.flow_head.patch)  # [B*R N E]
        t = self.time.quantile(noise.t(at, (self.repeats, places)))  # [B R N]
        x1 = tokens.repeat_interleave(self.repeats, 0)  # [B*R N E]
        xt, velocity = interpolate(x0.flatten(0, 1), x1.flatten(0, 1), t.flatten())  # [B*R*N E]
        output = self.flow_head(xt.view(*t.shape, -1), t, c[:, None]).float()  # [B R N E]
        v = self.prediction.velocity(output.flatten(0, 2), xt, t.flatten())
        errors = (v - velocity).square().mean(1).view_as(t)
        value = self.masking.term(errors.mean(1), hidden).value * target.present
        counted = hidden.places & target.present[:, None]
        times = t.masked_fill(~counted[:, None], -1)
        terms = {"image_flow": Term(value, t=times.flatten(1), each=errors.detach().flatten(1))}
        if self.align is not None:
            drawn = Drawn(states[0][:, where], grid, target.images, target.present)
            terms[TERM] = self.align.term([drawn])
        return terms

    def latent_tokens(self, latents: Tensor) -> tuple[Tensor, Grid]:
        """latents [B C h w] -> tokens [B N E] and their grid."""
        grid = self.flow_head.grid(*latents.shape[-2:])
        return patchify(latents, self.flow_head.patch), grid

    def add_tokens(
        self,
        sequence: TokenSequence,
        tokens: Tensor,
        grid: Grid,
        hidden: Tensor | None = None,
        present: Tensor | None = None,
    ) -> slice:
        """Append boi, tokens [B N E], eoi; what `hidden` [B N] tokens say is not read."""
        place = sincos_2d(*grid, self.trunk.dim).to(tokens)  # rotary positions are relative
        x = self.inward(tokens) + place  # [B N D]
        if hidden is None:
            hidden = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        if self.encoder is not None:
            positions = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
            x = self.encoder(Tokens(x, Mask.full(~hidden), positions)) + place
        x = torch.where(hidden[..., None], self.unknown.weight + place, x)
        return self.add_framed(sequence, x, self.embed, present, grid=grid, block=True, tower=IMAGE)

    def add_image(
        self, sequence: TokenSequence, images: Tensor, present: Tensor | None = None
    ) -> None:
        self.add_tokens(sequence, *self.latent_tokens(self.image.encode(images)), present=present)

    def text_logits(self, hidden: Tensor) -> Tensor:
        return self.to_text(hidden)

    def image_tokens(self, segment: Segment, followed: bool) -> int:
        h, w = self.flow_head.grid(*self.image.grid(*segment.images.shape[-2:]))
        return h * w + 2

    def flops(self, batch: Batch) -> float:
        """Forward and backward; each head runs on the target alone."""
        length, target = self.tokens(batch) // len(batch), batch.segments[-1]
        places = [self.image_tokens(column, False) - 2 for column in self.drawn_columns(batch)]
        forward = self.trunk.flops(length, causal(length, blocks=places), sum(places))
        forward += 2.0 * self.inward.weight.numel() * sum(places)
        if self.encoder is not None:
            forward += sum(self.encoder.flops(n, n * n) for n in places)
        if target.kind == "text":
            forward += 2.0 * self.trunk.dim * self.text.vocab_size * target.length
            return len(batch) * (3.0 * forward + self.seen_flops(batch))
        drawn = self.flow_head.training_flops(places[-1], self.repeats)
        if self.align is not None:
            grid = self.image.grid(*target.images.shape[-2:])
            drawn += self.align.flops(target, self.flow_head.grid(*grid))
        return len(batch) * (3.0 * forward + drawn)

    def sample_image(self, request: ImageRequest, sampler: InOrderSampler) -> Tensor:
        """Draw tokens over a cached prefix; guidance s = 1 skips the second pass."""
        contexts = self.contexts(request, sampler.guidance)
        cells = self.image.grid(*(request.size or (self.size, self.size)))
        noise = request.noise(self.device)
        x0, grid = self.latent_tokens(noise.normal("x0", (self.image.channels, *cells)))
        early = earliness(self.order, noise, x0.shape[1])
        prefix = self.prefix(contexts, present=request.present)
        draw = self.drawing(prefix, sampler.temperature * x0, grid, sampler)
        tokens = decode_in_order(draw, early, self.flow_head.numbers, sampler.iterations)
        return self.image.decode(unpatchify(tokens, cells, self.flow_head.patch))

    def drawing(
        self, prefix: TokenSequence, x0: Tensor, grid: Grid, sampler: InOrderSampler
    ) -> Draw:
        """A function that draws tokens at some places; a place always starts from its own noise.

        `prefix` has the conditions of guidance stacked along B; x0 is [B N E].
        """
        read, stacked = prefix.reader(self.trunk), len(prefix.columns[0].x)

        def draw(tokens: Tensor, hidden: Tensor, places: Tensor, known: float) -> Tensor:
            passes = stacked // len(tokens)
            shown = tokens.repeat(passes, 1, 1), grid, hidden.repeat(passes, 1)
            states = read(lambda branch: self.add_tokens(branch, *shown))
            c = _at(states, places.repeat(passes, 1)).flatten(0, 1)  # [passes*B*m D]
            begin = _at(x0, places)  # [B m E]
            velocity = self._velocity(c, passes, sampler.scale(known))
            return sampler.integrate(velocity, begin.flatten(0, 1)).view_as(begin)

        return draw

    def _velocity(self, c: Tensor, passes: int, scale: float) -> Velocity:
        """The guided velocity of n tokens [n E], given vectors of each pass, [passes*n D]."""

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            xs, ts = x.repeat(passes, 1), t.repeat(passes)
            parts = self.prediction.velocity(self.flow_head(xs, ts, c).float(), xs, ts)
            return guide(parts.chunk(passes), [scale] * (passes - 1))

        return velocity


def _at(x: Tensor, places: Tensor) -> Tensor:
    """[B N F] at places [B m] -> [B m F]."""
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[2]))
