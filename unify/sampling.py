"""Sampling from next-token logits: keyed by row, batched, the same for text and image tokens.

B rows, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unify.support.ranges import Count, CountOrZero, NotNegative, ShareAbove0


@dataclass(frozen=True)
class AnswerLength:
    """Texts of at most `max_length` tokens; temperature 0 always takes the most likely one."""

    max_length: Count = 32
    temperature: NotNegative = 0.0


@dataclass(frozen=True)
class TextSampler(AnswerLength):
    """Settings of next-token decoding (`decode_text`), greedy by default: an answer is compared
    with the one that is right, so its best guess is asked for."""

    top_k: CountOrZero = 0
    top_p: ShareAbove0 = 1.0


def filter_logits(logits: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Keep the `top_k` most likely tokens, then the smallest set of mass >= `top_p`.

    Nucleus sampling, arXiv:1904.09751.

    Args:
        logits: [... V].
        top_k: how many to keep; 0 keeps all. Ties with the last one kept are kept too.
        top_p: in (0, 1], of the mass that `top_k` left; at least one token is kept.

    Returns:
        logits [... V], -inf where a token is dropped.
    """
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; it must be above 0 and at most 1")
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p < 1:
        ordered, index = logits.sort(dim=-1, descending=True)
        mass = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)  # mass before each token
        dropped = (mass >= top_p).scatter(-1, index, mass >= top_p)
        logits = logits.masked_fill(dropped, -torch.inf)
    return logits


def draw(
    logits: Tensor, u: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """Draw one token per row by inverting the distribution function.

    Args:
        logits: [B V].
        u: [B] in [0, 1): a number for each row and no generator, so that a row's draw does not
            depend on its batch mates.
        temperature: divides the logits; 0 takes the most likely token.
        top_k, top_p: see `filter_logits`.

    Returns:
        ids [B].
    """
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}; it must be 0 (most likely) or above")
    if temperature == 0:
        return logits.argmax(-1)
    # in float64, as a cumulative sum over a large vocabulary is not exact enough in float32
    kept = filter_logits(logits.double() / temperature, top_k, top_p)
    mass = kept.softmax(-1).cumsum(-1)  # [B V]
    point = u.to(mass)[:, None] * mass[:, -1:]
    ids = torch.searchsorted(mass, point, right=True).squeeze(-1)
    # rounding can place the point past the last possible token
    last = logits.shape[-1] - 1 - torch.isfinite(kept).flip(-1).int().argmax(-1)
    return torch.minimum(ids, last)


_goes_on: Callable[[bool], bool] = bool


def decode_while(test: Callable[[bool], bool]) -> None:
    """Let `test(any row here is unfinished)` decide for all of `decode_text` whether to go on.

    Without a call decoding goes on while a row is unfinished. Where several processes compute each
    step together none may stop alone: what cuts the model into shards hands in a test that asks
    them all (assembly/sharding.py), and models stay free of ranks.
    """
    global _goes_on
    _goes_on = test


def decode_text(
    first: Tensor,
    advance: Callable[[Tensor, Tensor], Tensor],
    uniforms: Tensor,
    eos: int,
    sampler: TextSampler,
) -> Tensor:
    """Decode until every row has drawn `eos`, or for as many tokens as there are uniforms.

    Args:
        first: [B V], logits of the first token.
        advance: `advance(ids [B], alive [B])` feeds the tokens just drawn and returns the logits
            [B V] of the next; rows that are not alive feed padding.
        uniforms: [B L] in [0, 1), one for each token.
        eos: ends a row, and pads what follows.
        sampler: its temperature, top_k and top_p, see `draw`.

    Returns:
        ids [B L'], L' <= L.
    """
    logits, drawn = first, []
    alive = torch.ones(len(first), dtype=torch.bool, device=first.device)
    for position in range(uniforms.shape[1]):
        ids = draw(logits, uniforms[:, position], sampler.temperature, sampler.top_k, sampler.top_p)
        drawn.append(torch.where(alive, ids, eos))
        alive = alive & (ids != eos)
        if position + 1 == uniforms.shape[1] or not _goes_on(bool(alive.any())):
            break
        logits = advance(drawn[-1], alive)
    return torch.stack(drawn, dim=1)
