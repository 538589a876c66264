"""Learnable queries read a frozen language model, and their hidden states condition an external
diffusion backbone (MetaQuery arXiv:2504.06256, OpenUni arXiv:2505.23661).

    h = llm([prefix, q_1 .. q_N]) at the queries,  c = connector(h)
    L = w(t) |v(x_t, t, c) - (x_1 - x_0)|^2                             nothing is learned on text

    prefix = source images, prompt                  causal: it never depends on the queries

Understanding is the language model's own, untouched. A source image that is dropped, or absent, is
shown to the language model as a gray one (the number of tokens stays) and to the denoiser as zeros,
in training and in sampling alike (MetaQuery: black; more such in docs/definitions.md).
B rows, N queries, D width, C channels, h x w latent grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unify.batch import Batch, Segment, Text
from unify.flow import FlowSampler, TimeLaw, guide, interpolate, shift_time
from unify.nn.alignment import OPTIONAL, REPA, TERM, Drawn, states_of, terms_with
from unify.nn.connector import Connector, check_chain
from unify.nn.denoiser import Denoiser
from unify.nn.frozen import freeze
from unify.nn.guidance import Shown, guidance_passes, stack_passes
from unify.nn.language import LanguageModel
from unify.nn.patches import size_of
from unify.noise import Noise
from unify.paradigm import ImageRequest, Paradigm, Term, Terms, TextRequest
from unify.sampling import TextSampler
from unify.support.ranges import Count, NotNegative, Positive, Share, SumAtMost
from unify.tokenizer import ContinuousTokenizer, Tokenizer


@dataclass(frozen=True)
class QueriesSampler(FlowSampler):
    """A flow's settings, whose guidance is by the text, and the scale of that by source images."""

    image_guidance: NotNegative = 1.0


class QueriesDiT(Paradigm):
    """Frozen language model, queries, connector, denoiser.

    The denoiser sees the latents of the first source_channels / channels source images.

    Args:
        time: the law of training times; None for a denoiser with a grid of times of its own.
        queries: how many, N.
        query_std: of the queries at the start; None: D^-0.5 as in OpenUni. BLIP3-o
            (arXiv:2505.09568) has 1; MetaQuery's are new rows of the model's own embedding, each
            nearly the mean of the old ones. Best as large as that embedding: then a query is still
            itself after the first layers.
        conditioning: learned queries, as many random ones that are never trained, or instead of
            queries the last layer's hidden states of the prefix.
        tune_llm: train the language model too, on the flow loss alone.
        train_denoiser: false in a first stage that trains queries and connector only; the denoiser
            must have weights then.
        train_shift: shifts the times of the `time` law; sampling has a shift of its own.
        dropout: probability that a row trains without its only condition.
        source_dropout: probabilities that a row with text and images trains without its text,
            without both, and without its images.
        align: as in `Transfusion`, of the denoiser.
    """

    tasks = frozenset({"text_to_image", "edit", "compose", "depth", "super_resolution", "image"})
    answers = frozenset({"caption", "vqa"})
    terms = frozenset({"image_flow"})
    optional = OPTIONAL
    later: ClassVar[dict[str, Any]] = {"align": None}  # of a run's identity
    image_sampler = QueriesSampler
    text_sampler = TextSampler
    likelihood = "none"
    copies = True
    queries: nn.Parameter | None

    def __init__(
        self,
        llm: LanguageModel,
        connector: Connector,
        denoiser: Denoiser,
        image: ContinuousTokenizer,
        time: TimeLaw | None = None,
        queries: Count = 64,
        query_std: Positive | None = None,
        conditioning: Literal["queries", "random_queries", "last_layer"] = "queries",
        tune_llm: bool = False,
        train_denoiser: bool = True,
        train_shift: Positive = 1.0,
        size: Count = 32,
        dropout: Share = 0.1,
        source_dropout: Annotated[tuple[Share, Share, Share], SumAtMost(1)] = (0.1, 0.1, 0.1),
        align: REPA | None = None,
    ):
        super().__init__()
        check_chain(llm, connector, denoiser, image)
        _check_times(denoiser, time, train_shift)
        if tune_llm and not any(p.requires_grad for p in llm.parameters()):
            raise ValueError("tune_llm is true, but llm is frozen: build it with frozen: false")
        if not llm.sees:
            self.tasks, self.answers = frozenset({"text_to_image"}), frozenset()
            self.lacks = f"its llm ({type(llm).__name__}) reads no images"
        self.llm = llm if tune_llm else freeze(llm)
        self.denoiser = denoiser if train_denoiser else freeze(denoiser)
        self.connector, self.image, self.time = connector, image, time
        self.tune_llm, self.train_denoiser, self.train_shift = tune_llm, train_denoiser, train_shift
        self.size, self.dropout, self.source_dropout = size, dropout, source_dropout
        self.align, self.terms = align, terms_with(align, self.terms, denoiser)
        self.query_std = llm.dim**-0.5 if query_std is None else query_std
        self.register_parameter("queries", None)
        if conditioning != "last_layer":
            # random queries have no gradient: how much does learning them add?
            self.queries = nn.Parameter(torch.empty(queries, llm.dim), conditioning == "queries")
            self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.queries is not None:
            nn.init.normal_(self.queries, std=self.query_std)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        """Velocity error on the target's latents, in rows that have one condition or several."""
        target, present = batch.segments[-1].images, batch.segments[-1].present
        prompts, sources, length = self._conditions(batch, noise)
        tokens, valid = self.condition(prompts, sources, length)
        x1 = self.image.encode(target)  # [B C h w]
        x0 = noise.x0(batch.target_place, x1.shape[1:])
        t = self.times(noise.t(batch.target_place))  # [B]
        xt, velocity = interpolate(x0, x1, t)  # [B C h w] each
        source = self.source_latents(sources, target.shape[-2:])
        with states_of(self.denoiser, self.align) as states:
            v = self.denoiser.velocity(xt, t, tokens, valid, source).float()
        error = (v - velocity).square().flatten(1).mean(1)  # [B]
        # a denoiser that was trained on noise or on v keeps the weight that its own loss gives t
        terms = {"image_flow": Term(self.denoiser.weight(t) * error, t=t)}
        if self.align is not None:
            drawn = Drawn(states[0], self._tokens_grid(size_of(x1)), target, present)
            terms[TERM] = self.align.term([drawn])
        return terms

    def times(self, u: Tensor) -> Tensor:
        """Training times [B] from uniform numbers [B]."""
        if self.time is None:
            return self.denoiser.own_times(u)
        return shift_time(self.time.quantile(u), self.train_shift)

    def condition(
        self, prompts: Sequence[Text] | None, sources: Sequence[Shown], length: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Condition tokens [B N C], and which of them count [B N] (None: all)."""
        # Gray, which is 0, where a source is absent: the prefix keeps its length, so that rows with
        # and without sources share one batch.
        images = [source * present[:, None, None, None] for source, present in sources]
        # The prefix is causal and never reads the queries: no gradient of theirs passes through it.
        with torch.set_grad_enabled(self.tune_llm and torch.is_grad_enabled()):
            context = self.llm.read(prompts, images, length)
        if self.queries is None:
            return self.connector(context.hidden, context.valid), context.valid
        return self.connector(self.llm.ask(context, self.queries)), None

    def source_latents(self, sources: Sequence[Shown], size: Sequence[int]) -> Tensor | None:
        """Latents of the sources for the denoiser, [B source_channels h w] for a target of `size`.

        None if it takes none, or there are none.
        """
        slots = self.denoiser.source_channels // self.image.channels
        if not (slots and sources):
            return None
        latents = []
        for images, present in sources[:slots]:
            if images.shape[-2:] != tuple(size):
                images = F.interpolate(images, tuple(size), mode="bilinear", antialias=True)
            latents.append(self.image.encode(images) * present[:, None, None, None])
        latents += [torch.zeros_like(latents[0])] * (slots - len(latents))
        return torch.cat(latents, dim=1)  # slots of [B C h w] along the channels

    def _conditions(
        self, batch: Batch, noise: Noise
    ) -> tuple[list[Text] | None, list[Shown], int | None]:
        """Prompts, sources and the prompts' length; in training some rows lose some of them."""
        text, images = _columns(batch)
        no_text, no_images = self._drops(noise, text is not None and bool(images))
        sources = [(column.images, column.present & ~no_images) for column in images]
        if text is None:
            return None, sources, None
        rows = zip(text.texts, no_text.tolist(), strict=True)
        return [None if lost else prompt for prompt, lost in rows], sources, text.length

    def _drops(self, noise: Noise, both: bool) -> tuple[Tensor, Tensor]:
        """Rows [B] that lose their text, and rows that lose their images; none in eval mode."""
        u = noise.uniform("drop")
        u = u if self.training else torch.ones_like(u)
        if not both:
            return u < self.dropout, u < self.dropout
        # One number decides for both, so that the three shares are disjoint: guidance needs the
        # model without text, without images and without both (`guidance_passes`).
        text, all_of_it, images = self.source_dropout
        return u < text + all_of_it, (u >= text) & (u < text + all_of_it + images)

    def tokenizers(self) -> dict[str, Tokenizer]:
        """The tokenizers of this module, and of a language model that is a paradigm itself."""
        inner = self.llm.tokenizers() if isinstance(self.llm, Paradigm) else {}
        return super().tokenizers() | {f"llm.{name}": part for name, part in inner.items()}

    def tokens(self, batch: Batch) -> int:
        """Tokens of the prefix, queries, and tokens of the denoiser."""
        context, queries, grid = self._lengths(batch)
        return len(batch) * (context + queries + self.denoiser.tokens(grid))

    def encoded(self, batch: Batch) -> list[tuple[int, int]]:
        """The target, and the sources that the denoiser sees; the llm has eyes of its own."""
        slots = self.denoiser.source_channels // self.image.channels
        h, w = batch.segments[-1].images.shape[-2:]
        return (1 + min(slots, len(_columns(batch)[1]))) * [(h, w)]

    def flops(self, batch: Batch) -> float:
        """Forward, and backward to what is trained: once for activations, once for weights.

        The frozen prefix is only read; through the frozen model the gradient flows to the queries.
        """
        context, queries, grid = self._lengths(batch)
        read = self.llm.flops_read(*_prefix(batch))
        ask = self.llm.flops_ask(context, queries) if queries else 0.0
        learned = self.queries is not None and self.queries.requires_grad
        llm = 3 * (read + ask) if self.tune_llm else read + ask * (1 + learned)
        if self.tune_llm and queries:
            llm -= 2 * self.llm.flops_unlearned(context)
        conditions = queries or context  # tokens that the connector reads
        # a frozen denoiser still passes the gradient on to its conditions
        denoise = self.denoiser.flops(grid, conditions) * (2 + self.train_denoiser)
        row = llm + 3 * self.connector.flops(conditions) + denoise
        if self.align is not None:
            row += self.align.flops(batch.segments[-1], self._tokens_grid(grid))
        return len(batch) * row

    def _tokens_grid(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Grid of the denoiser's tokens for latents on this one."""
        return grid[0] // self.denoiser.patch, grid[1] // self.denoiser.patch

    def _lengths(self, batch: Batch) -> tuple[int, int, tuple[int, int]]:
        """Tokens of the prefix and queries of a row, and the grid of its latents."""
        queries = 0 if self.queries is None else len(self.queries)
        context = self.llm.context_tokens(*_prefix(batch))
        return context, queries, self.image.grid(*batch.segments[-1].images.shape[-2:])

    def sample_image(self, request: ImageRequest, sampler: QueriesSampler) -> Tensor:
        """Integrate v(0, 0) + g_I [v(I, 0) - v(0, 0)] + g_T [v(I, T) - v(I, 0)].

        The prefix is read once. A pass whose weight in the sum is zero is not made.
        """
        images = [source.to(self.device) for source in request.sources]
        size = request.size or (self.size, self.size)
        noise = request.noise(self.device)
        x0 = noise.normal("x0", (self.image.channels, *self.image.grid(*size)))
        prompts = request.prompts
        if images and all(prompt is None for prompt in prompts or []):
            prompts = None  # image to image, as training lays it out
        passes, scales = guidance_passes(
            prompts, bool(images), request.negative, sampler.guidance, sampler.image_guidance
        )
        texts, stacked = stack_passes(passes, images, request.present)
        tokens, valid = self.condition(texts, stacked)
        source = self.source_latents(stacked, size)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            xs, ts = x.repeat(len(passes), 1, 1, 1), t.repeat(len(passes))
            v = self.denoiser.velocity(xs, ts, tokens, valid, source).float()
            return guide(v.chunk(len(passes)), scales)

        return self.image.decode(sampler.integrate(velocity, x0))

    def sample_text(self, request: TextRequest, sampler: TextSampler) -> list[str]:
        """Let the language model answer: it is frozen, so it answers as it always has."""
        return self.llm.sample_text(request, sampler)


def _columns(batch: Batch) -> tuple[Segment | None, list[Segment]]:
    """The text and the images that a target is drawn from; one without any is drawn from itself."""
    *given, target = batch.segments
    text = next((column for column in given if column.kind == "text"), None)
    return text, [column for column in given or [target] if column.kind == "image"]


def _prefix(batch: Batch) -> tuple[int, list[tuple[int, int]]]:
    """Length of the prompt and sizes (H, W) of the images that the language model reads."""
    text, images = _columns(batch)
    sizes = [(column.images.shape[-2], column.images.shape[-1]) for column in images]
    return (text.length if text else 0), sizes


def _check_times(denoiser: Denoiser, time: TimeLaw | None, shift: float) -> None:
    """Raise ValueError unless the training times come from a law or from the denoiser, not both."""
    name = type(denoiser).__name__
    if denoiser.has_times and (time is not None or shift != 1):
        raise ValueError(f"{name} trains at its own times: set time to null and train_shift to 1")
    if not denoiser.has_times and time is None:
        raise ValueError(f"time: {name} has no times of its own; name a law, as UniformTime")
