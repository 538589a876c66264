"""Sampling from next-token logits: keyed, batched, one code path for text and image tokens.

B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unify.distributed.ranks import any_rank_in_step


def filter_logits(logits: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Keep the `top_k` most likely tokens (0: all), then the smallest set of mass >= `top_p`.

    At least one token is always kept; the others get -inf (arXiv:1904.09751).
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
    """One token per row by inverting the distribution function at u [B] in [0, 1).

    logits [B V] -> ids [B]. Temperature 0 takes the most likely token. A uniform number per row,
    not a generator, so that a row's draw does not depend on its batch mates.
    """
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}; it must be 0 (most likely) or above")
    if temperature == 0:
        return logits.argmax(-1)
    kept = filter_logits(logits.double() / temperature, top_k, top_p)
    mass = kept.softmax(-1).cumsum(-1)  # [B V]
    point = u.to(mass)[:, None] * mass[:, -1:]
    ids = torch.searchsorted(mass, point, right=True).squeeze(-1)
    # rounding can place the point past the last possible token
    last = logits.shape[-1] - 1 - torch.isfinite(kept).flip(-1).int().argmax(-1)
    return torch.minimum(ids, last)


def decode_text(
    first: Tensor,
    advance: Callable[[Tensor, Tensor], Tensor],
    uniforms: Tensor,
    eos: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Tensor:
    """Decode until every row has said `eos` or the uniforms [B L] are used up.

    `first` [B V] are the logits of the first token; `advance(ids [B], alive [B])` feeds the tokens
    just drawn and returns the next logits. Rows that are done feed padding. Returns ids [B L'].
    """
    logits, drawn = first, []
    alive = torch.ones(len(first), dtype=torch.bool, device=first.device)
    for position in range(uniforms.shape[1]):
        ids = draw(logits, uniforms[:, position], temperature, top_k, top_p)
        drawn.append(torch.where(alive, ids, eos))
        alive = alive & (ids != eos)
        if position + 1 == uniforms.shape[1] or not any_rank_in_step(bool(alive.any())):
            break
        logits = advance(drawn[-1], alive)
    return torch.stack(drawn, dim=1)
