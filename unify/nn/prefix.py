"""Paradigms whose conditions are a prefix of text and clean images in one token sequence.

B rows, D width, V text vocabulary.

A subclass defines how a clean image enters the sequence (`add_image`) and how hidden states become
text logits (`text_logits`); this class lays out conditions as training does and answers in text.
With `seen` (understanding.py) an image that a text is about enters by an encoder of its own.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unify.batch import Batch, Segment, Text
from unify.nn.losses import likelihood, token_nll
from unify.nn.sequence import References, TokenSequence
from unify.nn.trunk import TEXT, Backbone
from unify.nn.understanding import SeenImages
from unify.nn.words import Table
from unify.noise import Noise
from unify.paradigm import ImageRequest, Paradigm, Term, TextRequest
from unify.sampling import TextSampler, decode_text
from unify.tokenizer import TextTokenizer

MAX_PROMPT = 512  # tokens; a longer prompt is cut, and counted by its tokenizer

Context = tuple[
    Sequence[Text] | None, Sequence[Tensor]
]  # prompts and source images of one condition


class PrefixParadigm(Paradigm):
    """A paradigm whose conditions are a prefix of one sequence."""

    text_sampler = TextSampler
    trunk: Backbone
    text: TextTokenizer
    embed: Table
    dropout: float
    token_constant: float | None

    def __init__(self, seen: SeenImages | None = None, references: References = "order"):
        super().__init__()
        self.seen, self.references = seen, references

    @abstractmethod
    def add_image(
        self, sequence: TokenSequence, images: Tensor, present: Tensor | None = None
    ) -> object:
        """Append clean images [B 3 H W] with their delimiters; `present` [B]: the rows with one."""

    def add_seen(
        self, sequence: TokenSequence, images: Tensor, present: Tensor | None = None
    ) -> None:
        """Append images that a text will be about: as any others, or by the encoder for them."""
        if self.seen is None:
            self.add_image(sequence, images, present)
        else:
            features, grid = self.seen(images), self.seen.grid(images)  # [B P D]
            self.add_framed(sequence, features, self.seen.ends, present, grid=grid)

    def reads_apart(self, batch: Batch, column: Segment) -> bool:
        """True if the encoder for what a text is about reads this column."""
        if self.seen is None or column.kind == "text":
            return False
        return column.role == "condition" and batch.segments[-1].kind == "text"

    @abstractmethod
    def text_logits(self, hidden: Tensor) -> Tensor:
        """[... D] -> logits of text tokens [... V]."""

    @abstractmethod
    def image_tokens(self, segment: Segment, followed: bool) -> int:
        """Number of tokens of an image column in training; `followed`: another column follows."""

    def add_text(
        self, sequence: TokenSequence, texts: Sequence[Text], length: int
    ) -> tuple[slice, Tensor, Tensor]:
        """Append texts; returns where they lie, ids [B length] and valid [B length]."""
        ids, valid = (part.to(self.device) for part in self.text.encode(texts, length))
        return sequence.add(self.embed(ids), valid), ids, valid

    def add_framed(
        self,
        sequence: TokenSequence,
        tokens: Tensor,
        ends: Table,
        present: Tensor | None = None,
        isolated: bool = False,
        boi: Tensor | None = None,
        ends_tower: int = TEXT,
        **column: Any,
    ) -> slice:
        """Append tokens [B P D] between the last two entries of `ends`, boi and eoi; `boi` [B 1 D]
        stands for the first, and both are of `ends_tower`."""
        rows, last = len(tokens), ends.num_embeddings - 1
        valid = torch.ones(rows, 1, dtype=torch.bool, device=tokens.device)
        if present is not None:
            valid = present[:, None]
        ids = torch.full((rows, 1), last, device=tokens.device)
        first = ends(ids - 1) if boi is None else boi
        sequence.add(first, valid, isolated=isolated, tower=ends_tower)
        where = sequence.add(tokens, valid.expand(tokens.shape[:2]), isolated=isolated, **column)
        sequence.add(ends(ids), valid, isolated=isolated, tower=ends_tower)
        return where

    def add_conditions(self, sequence: TokenSequence, batch: Batch, noise: Noise) -> None:
        """Append all columns but the last, as they are read; some rows lose theirs in training."""
        texts = iter(self.drop_conditions(batch, noise))
        for column in batch.segments[:-1]:
            if column.kind == "text":
                self.add_text(sequence, next(texts), column.length)
            elif self.reads_apart(batch, column):
                self.add_seen(sequence, column.images, column.present)
            else:
                self.add_image(sequence, column.images, column.present)
        if batch.segments[-1].kind == "image":
            sequence.begin_target()

    def drop_conditions(self, batch: Batch, noise: Noise) -> list[list[Text]]:
        """The texts of all text columns; in training, some rows lose the conditions of an image.

        They get None, the unconditional text, and not a shorter row: the tokenizer's null token
        tells "no text given" from a text, and the same row is what guidance samples from.
        """
        generates = self.training and batch.segments[-1].kind == "image"
        dropped = (noise.uniform("drop") < self.dropout).tolist()
        return [
            [None if drop else text for text, drop in zip(column.texts, dropped, strict=True)]
            if generates and column.role == "condition"
            else column.texts
            for column in batch.segments
            if column.kind == "text"
        ]

    def text_term(self, logits: Tensor, ids: Tensor, valid: Tensor) -> Term:
        """Next-token loss inside one text column: logits [B L V], ids and valid [B L]."""
        learned = valid[:, 1:]  # bos is given; eos is learned, or no answer would ever end
        nll = token_nll(logits[:, :-1], ids[:, 1:])
        return likelihood(nll, learned, self.token_constant)

    def tokens(self, batch: Batch) -> int:
        """Tokens that the trunk reads for this batch."""
        last, row = len(batch.segments) - 1, 0
        for place, column in enumerate(batch.segments):
            if self.seen is not None and self.reads_apart(batch, column):
                row += self.seen.tokens(column)
            elif column.kind == "image":
                row += self.image_tokens(column, place < last)
            else:
                row += column.length
        return len(batch) * row

    def seen_flops(self, batch: Batch) -> float:
        """FLOPs of forward and backward of what is seen of one row's images."""
        if self.seen is None:
            return 0.0
        columns = [column for column in batch.segments if self.reads_apart(batch, column)]
        return sum(self.seen.training_flops(column) for column in columns)

    def encoded(self, batch: Batch) -> list[tuple[int, int]]:
        columns = self.drawn_columns(batch)
        return [(column.images.shape[-2], column.images.shape[-1]) for column in columns]

    def drawn_columns(self, batch: Batch) -> list[Segment]:
        """The image columns that enter as images are drawn: all but those that are read apart."""
        columns = [column for column in batch.segments if column.kind == "image"]
        return [column for column in columns if not self.reads_apart(batch, column)]

    def contexts(self, request: ImageRequest, guidance: float) -> list[Context]:
        """The conditions of guidance, from least to most; only the full one at guidance 1.

        Without a prompt (image to image) there is nothing to be guided by.
        """
        prompts, sources = request.prompts, request.sources
        if sources and all(prompt is None for prompt in prompts or ()):
            return [(None, sources)]
        assert prompts is not None
        if guidance == 1:
            return [(prompts, sources)]
        return [(request.negative or [None] * len(prompts), sources), (prompts, sources)]

    def new_sequence(self, draws: bool = False) -> TokenSequence:
        """One without tokens; `draws`: an image is its target."""
        return TokenSequence(self.trunk.axes, references=self.references if draws else "order")

    def prefix(
        self,
        contexts: list[Context],
        answers: bool = False,
        present: Sequence[Tensor] | None = None,
    ) -> TokenSequence:
        """Source images, then text, as training lays them out; contexts are stacked along B.

        `answers`: a text is to follow, not an image. `present`: the rows [B] that have each source.
        """
        sequence = self.new_sequence(draws=not answers)
        add = self.add_seen if answers else self.add_image
        for column in range(len(contexts[0][1])):
            stacked = torch.cat([sources[column] for _, sources in contexts])
            rows = None if present is None else present[column].repeat(len(contexts))
            add(sequence, stacked.to(self.device), None if rows is None else rows.to(self.device))
        if contexts[0][0] is not None:
            prompts = [text for texts, _ in contexts for text in texts or []]
            # padding changes nothing, so the longest prompt decides and not training's length
            used = int(self.text.encode(prompts, MAX_PROMPT)[1].sum(1).max())
            self.add_text(sequence, prompts, used)
        if not answers:
            sequence.begin_target()
        return sequence

    def token(self, sequence: TokenSequence, token: int, rows: int, tower: int = TEXT) -> slice:
        """Append one and the same token to every row."""
        ids = torch.full((rows, 1), token, device=self.device)
        return sequence.add(self.embed(ids), tower=tower)

    def sample_text(self, request: TextRequest, sampler: TextSampler) -> list[str]:
        """Answer (or caption, without prompts) after reading the image."""
        images = [] if request.images is None else [request.images]
        sequence = self.prefix([(request.prompts, images)], answers=True)
        self.token(sequence, self.text.bos, len(request))
        cache = self.trunk.cache()

        def logits() -> Tensor:
            scores = self.text_logits(sequence.run(self.trunk, cache)[:, -1]).float()  # [B V]
            # specials that never stand inside an answer
            scores[:, [self.text.bos, self.text.pad, self.text.null]] = -torch.inf
            return scores

        def advance(ids: Tensor, alive: Tensor) -> Tensor:
            sequence.add(self.embed(ids)[:, None], alive[:, None])  # a row that is done: padding
            return logits()

        uniforms = request.noise(self.device).uniform("text", (sampler.max_length,))
        ids = decode_text(logits(), advance, uniforms, self.text.eos, sampler)
        return self.text.decode(ids)
