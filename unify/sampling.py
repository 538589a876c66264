"""Sampling from logits, keyed by row, batched, the same for text and image tokens.

    decode_text      next tokens, until each row has ended
    decode_parallel  hidden tokens in any order, several at a time, the surest first
    decode_blocks    the same block by block, from left to right

B rows, V vocabulary, N places, T passes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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


Schedule = Literal["cosine", "linear"]
Predict = Callable[[Tensor, Tensor], Tensor]  # (ids [B N], hidden [B N]) -> logits [B N V]


@dataclass(frozen=True)
class ParallelSampler:
    """Settings of `decode_parallel`.

    Args:
        steps: passes, of which each makes at least one token known.
        schedule: of the number of tokens that are left; linear makes equally many known in each.
        temperature, top_k, top_p: of each token, as in `draw`.
        choice_temperature: of the choice among places, at first; it falls to 0 over the passes.
            At 0 the places where the drawn token is likeliest become known.
    """

    steps: Count = 12
    schedule: Schedule = "cosine"
    temperature: NotNegative = 1.0
    top_k: CountOrZero = 0
    top_p: ShareAbove0 = 1.0
    choice_temperature: NotNegative = 1.0

    def passes(self, places: int) -> int:
        """T for N places: no more than there are places."""
        return min(self.steps, places)


@dataclass(frozen=True)
class BlockSampler(TextSampler):
    """Settings of `decode_blocks`: `block` places at a time, in `steps` passes each at most."""

    block: Count = 8
    steps: Count = 8
    choice_temperature: NotNegative = 0.0

    def within(self) -> ParallelSampler:
        """The settings of one block."""
        token = self.temperature, self.top_k, self.top_p
        return ParallelSampler(self.steps, "linear", *token, self.choice_temperature)


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
    total = mass[:, -1:].contiguous()
    ids = torch.searchsorted(mass, u.to(mass)[:, None] * total, right=True)
    # rounding can place the point past the last possible token, which is where the sum is whole
    last = torch.searchsorted(mass, total).clamp_(max=mass.shape[-1] - 1)  # of NaN it is past all
    return torch.minimum(ids, last).squeeze(-1)


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


def decode_parallel(
    predict: Predict,
    ids: Tensor,
    hidden: Tensor,
    draws: Tensor,
    choices: Tensor,
    sampler: ParallelSampler,
) -> Tensor:
    """Fill hidden places in T passes (MaskGIT, arXiv:2202.04200).

        x ~ P(. | what is known) at every hidden place
        hidden again: the places of least log P(x) + tau Gumbel, as many as the schedule leaves

    Args:
        predict: gives logits; it must not read hidden ids.
        ids: [B N]; those that are not hidden stay as they are.
        hidden: [B N] bool; rows may have unlike numbers of them.
        draws: [B T N] in [0, 1), for the tokens.
        choices: [B T N] in [0, 1), for the places.
        sampler: its `steps` are not read: T passes are made.

    Returns:
        ids [B N].
    """
    total, passes = hidden.sum(1, keepdim=True), draws.shape[1]  # [B 1]
    for done in range(1, passes + 1):
        logits = predict(ids, hidden)
        drawn = _draw_each(logits, draws[:, done - 1], sampler)
        ids = torch.where(hidden, drawn, ids)
        if done == passes:
            break
        sure = logits.double().log_softmax(-1).gather(-1, drawn[..., None]).squeeze(-1)  # [B N]
        tau = sampler.choice_temperature * (1 - done / passes)
        sure = sure + tau * gumbel(choices[:, done - 1])
        left = _left(sampler.schedule, total, done, passes)
        # one at least is left for each pass to come, and one at least becomes known
        left = torch.minimum(left.clamp(min=1), hidden.sum(1, keepdim=True) - 1)
        nth = sure.masked_fill(~hidden, torch.inf).argsort(dim=1, stable=True).argsort(1)
        hidden = hidden & (nth < left)
    return ids


def _draw_each(logits: Tensor, u: Tensor, sampler: ParallelSampler) -> Tensor:
    """A token for every place: logits [B N V], u [B N] -> [B N]."""
    token = sampler.temperature, sampler.top_k, sampler.top_p
    return draw(logits.flatten(0, 1), u.flatten(), *token).view_as(u)


def gumbel(u: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) -> Gumbel ones, float64."""
    # 0 is drawn once in 2^24: its -inf would be NaN times a temperature of 0
    return -(-u.double().clamp(min=2.0**-25).log()).log()


def _left(schedule: Schedule, total: Tensor, done: int, passes: int) -> Tensor:
    """How many of `total` places are hidden after so many passes, [B 1]."""
    if schedule == "linear":
        return total * (passes - done) // passes
    return (total * math.cos(math.pi / 2 * done / passes)).floor().long()


def decode_blocks(
    predict: Predict,
    draws: Tensor,
    choices: Tensor,
    eos: int,
    sampler: BlockSampler,
) -> Tensor:
    """Fill N hidden places block by block, until every row has an `eos` (LLaDA, arXiv:2502.09992).

    Args:
        predict: as in `decode_parallel`; the places of later blocks are hidden too.
        draws, choices: [B T N] in [0, 1); a block uses min(T, its places) of the passes.
        eos: ends a row, and stands wherever nothing was drawn.
        sampler: see there.

    Returns:
        ids [B N].
    """
    rows, passes, places = draws.shape
    ids = torch.full((rows, places), eos, device=draws.device)
    at = torch.arange(places, device=draws.device).expand(rows, -1)
    for start in range(0, places, sampler.block):
        end = min(start + sampler.block, places)

        def within(ids: Tensor, hidden: Tensor, end: int = end) -> Tensor:
            return predict(ids, hidden | (at >= end))

        used = slice(0, min(passes, end - start))
        block, token = (at >= start) & (at < end), sampler.within()
        ids = decode_parallel(within, ids, block, draws[:, used], choices[:, used], token)
        if not _goes_on(bool((ids[:, :end] != eos).all(1).any())):
            break
    return ids
