"""Masked prediction of image codes and of text (MMaDA arXiv:2505.15809, Muddit arXiv:2505.23606).

    L = CE(hidden tokens | known tokens, image) + w CE(hidden codes | known codes, prompt)

    row = boi codes eoi | bos question eos | bos text eos .. eos       W places after the last bos

Images are as in paradigms/masked.py. A text is written block by block (LLaDA, arXiv:2502.09992),
and its likelihood is a bound. Other than the papers: one window for all texts, padding is never
read, guidance leads away from the null text and not from a hidden one, no time embedding
(docs/definitions.md).
B rows, W places of a text, D width.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from unify.batch import Batch, Segment, Text
from unify.nn.losses import token_nll
from unify.nn.masking import Masking
from unify.nn.sequence import References, TokenSequence
from unify.nn.trunk import Backbone
from unify.nn.vision import VisionEncoder
from unify.noise import Noise
from unify.paradigm import Term, TextRequest
from unify.paradigms.masked import Masked
from unify.sampling import BlockSampler, decode_blocks
from unify.support.ranges import Count, Share
from unify.tokenizer import DiscreteTokenizer, TextTokenizer


class MaskedText(Masked):
    """Masked image codes and masked text over one vocabulary.

    Args:
        masking, text_masking: of images that are drawn and of texts that are written.
        window: W, places of a text that is written. All of them are predicted, or their number
            would give away a text's length, and eos stands where a text leaves room. It is one
            for all tasks, in training and after.
        attention: `full`: all that a row has reads all. `causal_text`: prompts are causal; an image
            is one bidirectional block, and a text that is written another.
        size, dropout, understand: as in `ArVQ`; with the last one the mask still hides letters and
            codes alike.
        references: where images lie that another is drawn from (nn/sequence.py).
    """

    cached = causal_text = False
    likelihood = "bound"
    text_sampler = BlockSampler

    def __init__(
        self,
        trunk: Backbone,
        text: TextTokenizer,
        image: DiscreteTokenizer,
        masking: Masking,
        text_masking: Masking,
        window: Count,
        attention: Literal["causal_text", "full"] = "full",
        size: Count = 32,
        dropout: Share = 0.1,
        understand: VisionEncoder | None = None,
        references: References = "order",
    ):
        super().__init__(
            *(trunk, text, image, masking, attention, size, dropout),
            understand=understand,
            references=references,
        )
        self.text_masking, self.window, self.causal_text = text_masking, window, False

    def text_target(self, sequence: TokenSequence, target: Segment, at: int, noise: Noise) -> Term:
        """Loss on the hidden tokens of the texts; the total is over their letters and one eos."""
        ids, count = self.text_ids(target.texts, target.length)
        hidden = self.text_masking.draw(noise, at, self.window)
        self.token(sequence, self.text.bos, len(ids))
        where = self.add_letters(sequence, ids, hidden.places)
        logits = self.learned_logits(sequence.run(self.trunk)[:, where])
        nll = token_nll(logits, ids)  # [B W]
        return self.text_masking.term(nll, hidden, count)

    def text_ids(self, texts: Sequence[Text], length: int) -> tuple[Tensor, Tensor]:
        """Ids [B W] after bos, eos in all that is left, and how many are the text's own [B].

        ValueError if a column is longer than the window.
        """
        if length > self.window + 1:
            raise ValueError(
                f"a text of {length} tokens does not fit {self.window} places after bos; set "
                f"model.window to {length - 1} or more"
            )
        ids, valid = (part[:, 1:].to(self.device) for part in self.text.encode(texts, length))
        ids = ids.masked_fill(~valid, self.text.eos)
        room = self.window - ids.shape[1]
        return F.pad(ids, (0, room), value=self.text.eos), valid.sum(1)

    def add_letters(self, sequence: TokenSequence, ids: Tensor, hidden: Tensor) -> slice:
        """Append ids [B W], hidden where `hidden` [B W]."""
        return sequence.add(self.embed(ids.masked_fill(hidden, self.mask)), block=True)

    def tokens(self, batch: Batch) -> int:
        target = batch.segments[-1]
        more = self.window + 1 - target.length if target.kind == "text" else 0
        return super().tokens(batch) + len(batch) * more

    def predicted(self, target: Segment) -> int:
        return self.window if target.kind == "text" else super().predicted(target)

    def blocks(self, batch: Batch) -> list[int]:
        if self.full:
            return [self.tokens(batch) // len(batch)]
        return super().blocks(batch) + [self.window] * (batch.segments[-1].kind == "text")

    def sample_text(self, request: TextRequest, sampler: Any) -> list[str]:
        """Answer (or caption, without prompts) after reading the image, by a `BlockSampler`."""
        images = [] if request.images is None else [request.images]
        prefix = self.prefix([(request.prompts, images)], answers=True)
        prefix.joined = self.full
        self.token(prefix, self.text.bos, len(request))
        read = prefix.reader(self.trunk)
        # they never stand inside an answer
        specials = torch.tensor([self.text.bos, self.text.pad, self.text.null], device=self.device)

        def predict(ids: Tensor, hidden: Tensor) -> Tensor:
            states = read(lambda branch: self.add_letters(branch, ids, hidden))
            logits = self.text_logits(states).float()  # [B W text]
            return logits.index_fill(-1, specials, -torch.inf)

        noise, passes = request.noise(self.device), min(sampler.steps, sampler.block, self.window)
        shape = (passes, self.window)
        uniforms = noise.uniform("text", shape), noise.uniform("choices", shape)
        ids = decode_blocks(predict, *uniforms, self.text.eos, sampler)
        return self.text.decode(ids[:, : sampler.max_length])
