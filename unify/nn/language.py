"""A language model that others condition on: it reads once, and is then asked.

    context = model.read(prompts, images)    S tokens; their keys and values are kept
    answer = model.ask(context, queries)     N vectors after them, causal -> N hidden states

What was read never depends on what is asked (a token sees only what is before it), so `read` may
run without a gradient and once, while the gradient flows from the answer to the queries
(MetaQuery, arXiv:2504.06256).

B rows, S tokens of a context, N queries, D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from unify.batch import Text
from unify.nn.attention import Cache
from unify.nn.trunk import Backbone
from unify.paradigm import TextRequest
from unify.sampling import TextSampler
from unify.tokenizer import TextTokenizer


@dataclass
class Context:
    """A context that was read, and the state to continue from.

    `hidden` is the last layer after the final norm; `valid` is false where a row is padded.
    """

    cache: Cache
    hidden: Tensor  # [B S D]
    valid: Tensor  # [B S] bool
    state: Any  # the model's own: where the next token stands


@dataclass(frozen=True)
class Words:
    """The trunk of a language model, and what it reads and writes words with.

    `embed` has the V ids of `text`, then boi and eoi; `head` the V ids.
    """

    trunk: Backbone
    text: TextTokenizer
    embed: nn.Embedding  # [V+2 D]
    head: nn.Linear  # [V D]


class LanguageModel(nn.Module, ABC):
    """The (multimodal) language model that `queries_dit` asks."""

    dim: int
    sees: bool = True  # false if it reads no images

    @abstractmethod
    def read(
        self,
        prompts: Sequence[Text] | None,
        images: Sequence[Tensor] = (),
        length: int | None = None,
    ) -> Context:
        """Read B prompts (None among them: the unconditional one) after images, each [B 3 H W].

        A prompt is cut to `length` tokens, never what stands around it; without a `length` the
        longest decides. Gradients are the caller's choice: `torch.no_grad()` for a frozen model.
        """

    @abstractmethod
    def ask(self, context: Context, queries: Tensor) -> Tensor:
        """Queries [N D] (or [B N D]) after the context -> hidden states [B N D].

        A query sees the context and the queries before it. The context stays as it is: it can be
        asked any number of times.
        """

    @abstractmethod
    def sample_text(self, request: TextRequest, sampler: TextSampler) -> list[str]:
        """B texts, without gradient."""

    def words(self) -> Words | None:
        """Its own modules, for a paradigm that goes on from them (nn/words.py).

        None where they are not to be had one by one.
        """
        return None

    @abstractmethod
    def context_tokens(self, length: int, sizes: Sequence[tuple[int, int]] = ()) -> int:
        """Tokens of a row with a prompt of `length` tokens and images of sizes (H, W)."""

    @abstractmethod
    def flops_read(self, length: int, sizes: Sequence[tuple[int, int]] = ()) -> float:
        """FLOPs of the forward pass over such a row, its images' encoder included."""

    @abstractmethod
    def flops_unlearned(self, context: int) -> float:
        """FLOPs of `read` through which no gradient comes back where `ask` alone follows it.

        Those of the last layer after its keys and values.
        """

    @abstractmethod
    def flops_ask(self, context: int, queries: int) -> float:
        """FLOPs of the forward pass of `queries` after `context` tokens, in one row."""
