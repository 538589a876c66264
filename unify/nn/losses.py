"""Per-row losses over tokens.

B rows, L tokens, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unify.paradigm import Term


def token_nll(logits: Tensor, ids: Tensor) -> Tensor:
    """Negative log-likelihood of ids [B L] under logits [B L V], in nats, fp32 [B L]."""
    nll = F.cross_entropy(logits.flatten(0, 1).float(), ids.flatten(), reduction="none")
    return nll.view_as(ids)


def per_row(values: Tensor, valid: Tensor, constant: float | None = None) -> Tensor:
    """[B L] -> [B]: a row's mean over its own valid tokens, or its sum over a constant.

    Never over the batch's token count: then micro-batches, ranks and packing change nothing.
    An empty row is exactly 0.
    """
    total = (values * valid).sum(1)
    return total / (valid.sum(1).clamp(min=1) if constant is None else constant)


def likelihood(nll: Tensor, learned: Tensor, constant: float | None = None) -> Term:
    """Per-token nll [B L] -> the term of a row's `learned` [B L] tokens."""
    total, count = (nll * learned).sum(1), learned.sum(1)
    return Term(per_row(nll, learned, constant), total=total.detach(), count=count)


def log_partition_squared(logits: Tensor) -> Tensor:
    """z-loss log^2 Z [B L] (arXiv:2204.02311): keeps the softmax's normaliser near 1."""
    return torch.logsumexp(logits.float(), dim=-1).square()
