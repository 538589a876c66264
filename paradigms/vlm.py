"""A language model that reads images and answers in text (LLaVA, arXiv:2304.08485), all trained.

    VLM         from the parts that it is given
    LlamaVLM    from a pretrained language model of Llama or Qwen type, in our own trunk

    L = CE(answer)        causal everywhere

    row = boi patches eoi | bos question eos | bos answer eos        or: bos text eos

The encoder's features are projected to the trunk's width. They are causal tokens like all others:
in the encoder each patch has seen the whole image already, and one kind of mask serves decoding.

It is the understanding-only baseline, and the small language model that `queries_dit` conditions
on: frozen, read once and asked by learned queries (unify/nn/language.py).
B rows, P patches, N queries, S tokens of a context, D width.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from unify.batch import Batch, Segment, Text
from unify.nn.flops import after_keys, causal
from unify.nn.language import Context, LanguageModel, Words
from unify.nn.layers import Embedding, Linear
from unify.nn.prefix import MAX_PROMPT, PrefixParadigm
from unify.nn.pretrained import LlamaTrunk, fill_rows
from unify.nn.provenance import mark_loaded
from unify.nn.sequence import TokenSequence
from unify.nn.trunk import Backbone
from unify.nn.vision import VisionEncoder
from unify.noise import Noise
from unify.paradigm import Terms
from unify.support.ranges import Count, Positive
from unify.tokenizer import TextTokenizer
from unify.tokenizers.text import PretrainedText


class VLM(PrefixParadigm, LanguageModel):
    """Image features and text tokens in one causal trunk; `token_constant` as in `ArVQ`.

    Without a `vision` encoder it is a language model that learns from text alone.
    """

    tasks = frozenset({"caption", "vqa", "text"})
    terms = frozenset({"text_ce"})
    embed: Embedding

    def __init__(
        self,
        trunk: Backbone,
        text: TextTokenizer,
        vision: VisionEncoder | None = None,
        token_constant: Positive | None = None,
    ):
        super().__init__()
        self.trunk, self.text, self.vision, self.dim = trunk, text, vision, trunk.dim
        self.token_constant = token_constant
        self.embed = Embedding(text.vocab_size + 2, trunk.dim)  # text, boi, eoi
        # boi and eoi are read and never predicted, so the head has the text's rows alone
        self.project = Linear(vision.dim, trunk.dim) if vision is not None else None
        self.to_text = Linear(trunk.dim, text.vocab_size, bias=False)
        if vision is None:
            self.sees, self.tasks, self.lacks = False, frozenset({"text"}), "it has no vision"

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        """Next-token loss on the target, which is the last column; nothing is random."""
        sequence = TokenSequence(self.trunk.axes)
        *conditions, answer = batch.segments
        for column in conditions:
            if column.kind == "text":
                self.add_text(sequence, column.texts, column.length)
            else:
                self.add_image(sequence, column.images, column.present)
        where, ids, valid = self.add_text(sequence, answer.texts, answer.length)
        hidden = sequence.run(self.trunk)[:, where]  # [B L D]
        return {"text_ce": self.text_term(self.text_logits(hidden), ids, valid)}

    def add_image(
        self, sequence: TokenSequence, images: Tensor, present: Tensor | None = None
    ) -> None:
        vision, project = self.eyes()
        features, grid = project(vision(images)), vision.grid(*images.shape[-2:])  # [B P D]
        self.add_framed(sequence, features, self.embed, present, grid=grid)

    def eyes(self) -> tuple[VisionEncoder, Linear]:
        """The encoder and its projection; ValueError if it was built without."""
        if self.vision is None or self.project is None:
            raise ValueError(f"{type(self).__name__} reads no images: give it a vision encoder")
        return self.vision, self.project

    def text_logits(self, hidden: Tensor) -> Tensor:
        return self.to_text(hidden)

    def image_tokens(self, segment: Segment, followed: bool) -> int:
        height, width = segment.images.shape[-2:]
        return self._image_tokens(height, width)

    def _image_tokens(self, height: int, width: int) -> int:
        h, w = self.eyes()[0].grid(height, width)
        return h * w + 2

    def flops(self, batch: Batch) -> float:
        """Forward and backward (three forwards); the head runs on the target column alone."""
        length = self.tokens(batch) // len(batch)
        head = 2 * self.trunk.dim * self.text.vocab_size * batch.segments[-1].length
        sizes = [column.images.shape[-2:] for column in batch.segments if column.kind == "image"]
        vision = sum(self._flops_image(h, w, training=True) for h, w in sizes)
        return len(batch) * (3.0 * (self.flops_ask(0, length) + head) + vision)

    def _flops_image(self, height: int, width: int, training: bool = False) -> float:
        vision, project = self.eyes()
        h, w = vision.grid(height, width)
        projected = 2.0 * project.weight.numel() * h * w
        if training:
            return vision.training_flops(height, width) + 3.0 * projected
        return vision.flops(height, width) + projected

    # As a language model that others condition on, or start from

    def words(self) -> Words:
        return Words(self.trunk, self.text, self.embed, self.to_text)

    def read(
        self,
        prompts: Sequence[Text] | None,
        images: Sequence[Tensor] = (),
        length: int | None = None,
    ) -> Context:
        if prompts is None and not images:
            raise ValueError("read needs prompts, images, or both")
        sequence = TokenSequence(self.trunk.axes)
        for column in images:
            self.add_image(sequence, column.to(self.device))
        if prompts is not None:
            longest = length or int(self.text.encode(prompts, MAX_PROMPT)[1].sum(1).max())
            self.add_text(sequence, prompts, longest)
        cache = self.trunk.cache(sequence.length)
        hidden = sequence.run(self.trunk, cache)
        return Context(cache, hidden, sequence.mask().valid, sequence)

    def ask(self, context: Context, queries: Tensor) -> Tensor:
        # a branch and a view: the context can be asked again, and by several sets of queries
        sequence = context.state.branch()
        sequence.add(queries.expand(len(context.hidden), -1, -1))  # [N D] -> [B N D]
        return sequence.run(self.trunk, context.cache.view())

    def context_tokens(self, length: int, sizes: Sequence[tuple[int, int]] = ()) -> int:
        return length + sum(self._image_tokens(*size) for size in sizes)

    def flops_read(self, length: int, sizes: Sequence[tuple[int, int]] = ()) -> float:
        tokens = self.context_tokens(length, sizes)
        return self.flops_ask(0, tokens) + sum(self._flops_image(*size) for size in sizes)

    def flops_unlearned(self, context: int) -> float:
        width = self.trunk.heads * self.trunk.head_dim
        return after_keys(self.trunk.blocks[-1], context, causal(context), width)

    def flops_ask(self, context: int, queries: int) -> float:
        return self.trunk.flops(queries, causal(queries, context))


class LlamaVLM(VLM):
    """A VLM whose trunk, embedding, head and tokenizer are a pretrained language model's.

    `source` is a folder or a name on the Hugging Face hub, of a model of Llama, Qwen2 or Qwen3
    type; `sections` and `checkpoint` as in `Trunk`. Tokens that its tokenizer lacks (null, boi,
    eoi, perhaps bos and pad) get rows drawn like an average token's (`fill_rows`).
    """

    def __init__(
        self,
        source: str,
        vision: VisionEncoder | None = None,
        sections: list[Count] | None = None,
        checkpoint: bool = False,
        token_constant: Positive | None = None,
    ):
        trunk, text = LlamaTrunk(source, sections, checkpoint), PretrainedText(source)
        super().__init__(trunk, text, vision, token_constant)
        tables: list[Any] = [self.embed, self.to_text]
        for table, rows in zip(tables, trunk.take_words(), strict=True):
            fill_rows(table.weight, rows, text.own)
            mark_loaded(table, trunk.source_hash)
