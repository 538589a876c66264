"""A text's latent from frozen features of a language model (CrossFlow, arXiv:2412.15213, from T5).

    features = model(text)        the last layer after its norm, [B L D'], without gradient
    moments = encoder(features)   as `TextEncoder`, with a learned map D' -> D in place of its table

A language model is causal: a token's features know what stands before it. The encoder's own trunk
reads them all ways.

B rows, L text tokens, D width, D' of the language model.
"""

import torch
from torch import Tensor, nn

from unify.nn.flops import causal
from unify.nn.frozen import freeze
from unify.nn.language import LanguageModel
from unify.nn.layers import Linear
from unify.nn.provenance import provenance
from unify.nn.sequence import TokenSequence
from unify.nn.text_latent import Posterior, TextEncoder
from unify.nn.trunk import Backbone
from unify.nn.words import check_same_text, take_over, words_of
from unify.support.ranges import Count
from unify.tokenizer import TextTokenizer


class TextFeatures(nn.Module):
    """The frozen trunk and table of a language model: ids to its last hidden states."""

    def __init__(self, llm: LanguageModel):
        super().__init__()
        words = words_of("encoder", llm)
        self.trunk, self.embed = words.trunk, words.embed
        take_over(provenance(llm), self)
        freeze(self)

    @torch.no_grad()
    def forward(self, ids: Tensor, valid: Tensor) -> Tensor:
        """ids and valid [B L] -> [B L D']."""
        sequence = TokenSequence(self.trunk.axes)
        sequence.add(self.embed(ids), valid)
        return sequence.run(self.trunk)

    def flops(self, length: int) -> float:
        """FLOPs of one row."""
        return self.trunk.flops(length, causal(length))


class FeatureEncoder(TextEncoder):
    """Moments of a latent from a language model's frozen features.

    Args:
        llm: a language model that is trained; it stays as it is, and what it sees images with is
            not taken along. Its tokenizer must be that of the paradigm.
        trunk, posterior, channels, patch: as in `TextEncoder`.
    """

    def __init__(
        self,
        llm: LanguageModel,
        trunk: Backbone,
        posterior: Posterior,
        channels: Count,
        patch: Count = 2,
    ):
        text = words_of("encoder", llm).text
        super().__init__(trunk, posterior, text.vocab_size, channels, patch)
        self.own_text, self.features = text, TextFeatures(llm)
        self.embed = Linear(self.features.trunk.dim, trunk.dim)

    def inward(self, ids: Tensor, valid: Tensor) -> Tensor:
        return self.embed(self.features(ids, valid))

    def flops(self, length: int, grid: tuple[int, int]) -> float:
        read = self.features.flops(length)
        return read + self._embed_flops(length) + super().flops(length, grid)

    def training_flops(self, length: int, grid: tuple[int, int]) -> float:
        # features are only read; through the map no gradient goes back to them
        learned = 3.0 * super().flops(length, grid) + 2.0 * self._embed_flops(length)
        return self.features.flops(length) + learned

    def _embed_flops(self, length: int) -> float:
        return 2.0 * self.features.trunk.dim * self.trunk.dim * length


def check_own_text(name: str, encoder: TextEncoder, text: TextTokenizer) -> None:
    """ValueError for an encoder that reads the ids of one tokenizer only, and `text` is another."""
    if encoder.own_text is not None:
        check_same_text(f"{name}.llm", encoder.own_text, text)
