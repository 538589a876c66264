"""A sequence that goes on from a language model: its trunk, its words, and rows for new tokens.

    trunk: {class: unify.nn.words.LanguageTrunk, llm: {weights: {run: vlm.yaml}}}

Whoever embeds and predicts asks `embedding` and `head` for its tables. With any other trunk they
are new ones; with this one the ids of text, boi and eoi have the language model's rows, and only
the other ids (codes, say) are drawn. So any paradigm in one sequence starts from a language model
that was trained here, or from one of Llama or Qwen type (`LlamaVLM`).

B rows, n tokens, D width, V ids of text.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unify.nn.attention import Cache
from unify.nn.language import LanguageModel, Words
from unify.nn.layers import Embedding, Linear
from unify.nn.provenance import Provenance, inherit_source, mark_loaded, provenance
from unify.nn.trunk import Backbone, Hidden, Tokens
from unify.paradigm import Fitted
from unify.tokenizer import TextTokenizer


class LanguageTrunk(Backbone):
    """The trunk of a language model, which learns on; its words go to `embedding` and `head`.

    Its encoder of images is not taken over: a paradigm sees images in its own way.
    """

    def __init__(self, llm: LanguageModel):
        super().__init__()
        words = words_of("trunk", llm)
        self.body = words.trunk
        self.dim, self.depth, self.axes = self.body.dim, self.body.depth, self.body.axes
        self.heads, self.head_dim = self.body.heads, self.body.head_dim
        # in a record, and so no sub-modules: the tables are the paradigm's, by names of its own
        self.words = words
        take_over(provenance(llm), self.body, words.embed, words.head)

    @property
    def blocks(self) -> nn.ModuleList:  # type: ignore[override]
        return self.body.blocks

    def forward(
        self, tokens: Tokens, cache: Cache | None = None, layers: Sequence[int] = ()
    ) -> Hidden:
        return self.body(tokens, cache, layers)

    def flops(self, tokens: int, pairs: int, images: int | None = None) -> float:
        return self.body.flops(tokens, pairs, images)

    def cache(self, capacity: int = 0) -> Cache:
        return self.body.cache(capacity)


def words_of(name: str, llm: LanguageModel) -> Words:
    """The language model's modules. ValueError, for the part `name`, if they are not to be had."""
    words = llm.words()
    if words is None:
        raise ValueError(
            f"{name}.llm: a {type(llm).__name__} has no trunk and tables of ours to go on from; "
            "use a VLM, or LlamaVLM for a model of Llama or Qwen type"
        )
    return words


def take_over(loaded: Provenance, *parts: nn.Module) -> None:
    """Record that parts of a language model have the weights that it has."""
    for part in parts:
        if loaded.pretrained:
            mark_loaded(part)
        inherit_source(part, loaded)


def embedding(trunk: Backbone, text: TextTokenizer, size: int, ends: tuple[int, int]) -> Table:
    """A table [size D] whose first ids are those of `text`; `ends` are the ids of boi and eoi."""
    words = _same_words(trunk, text)
    if words is None:
        return Embedding(size, trunk.dim)
    known = words.embed
    ids = [*range(text.vocab_size), *ends]
    return known if ids == list(range(size)) else GrownEmbedding(known, ids, size)


def head(trunk: Backbone, text: TextTokenizer, size: int) -> nn.Linear | GrownHead:
    """A map from hidden states to logits of `size` ids, those of `text` first."""
    words = _same_words(trunk, text)
    if words is None:
        return Linear(trunk.dim, size, bias=False)
    known = words.head
    return known if size == text.vocab_size else GrownHead(known, size)


def _same_words(trunk: Backbone, text: TextTokenizer) -> Words | None:
    """The words of a language model's trunk, or of one around it; None for other trunks."""
    words: Words | None = getattr(trunk, "words", None)
    if words is not None:
        check_same_text("trunk.llm", words.text, text)
    return words


def check_same_text(name: str, own: TextTokenizer, text: TextTokenizer) -> None:
    """ValueError unless `text`, a paradigm's tokenizer, gives the ids of a language model's `own`.

    Vocabularies that are not fitted yet are compared by their size.
    """
    same = own.vocab_size == text.vocab_size
    if all(not isinstance(part, Fitted) or part.fitted for part in (own, text)):
        same = own.content_hash() == text.content_hash()
    if not same:
        raise ValueError(
            f"{name} reads other tokens than `text`: its tokenizer has {own.vocab_size} ids, "
            f"`text` {text.vocab_size}, and they must agree id by id; give `text` the tokenizer "
            "that the language model was trained with"
        )


class GrownEmbedding(nn.Module):
    """The table `known`, whose rows are those of `ids`, with new rows for the other ids below
    `size`."""

    row: Tensor

    def __init__(self, known: nn.Embedding, ids: Sequence[int], size: int):
        super().__init__()
        self.num_embeddings, self.embedding_dim = size, known.embedding_dim
        self.known, self.new = known, Embedding(size - len(ids), known.embedding_dim)
        new = sorted(set(range(size)) - set(ids))
        row = torch.empty(size, dtype=torch.long)  # of an id, among the rows of both tables
        row[torch.tensor([*ids, *new])] = torch.arange(size)
        self.register_buffer("row", row, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [B n] -> [B n D]."""
        row, first = self.row[ids], self.known.num_embeddings
        # both are looked up and one is chosen: to join the tables would copy them at every step
        old, new = self.known(row.clamp(max=first - 1)), self.new((row - first).clamp(min=0))
        return torch.where((row < first)[..., None], old, new)


class GrownHead(nn.Module):
    """The map `known` to the first logits, and a new one to the others of `size`."""

    def __init__(self, known: nn.Linear, size: int):
        super().__init__()
        self.known = known
        self.new = Linear(known.in_features, size - known.out_features, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [... D] -> [... size]."""
        return torch.cat([self.known(hidden), self.new(hidden)], -1)


Table = nn.Embedding | GrownEmbedding
