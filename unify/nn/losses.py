"""Per-row losses over tokens.

B rows, L tokens, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from unify.paradigm import Term


def token_nll(logits: Tensor, ids: Tensor) -> Tensor:
    """Negative log-likelihood of ids [B L] under logits [B L V], in nats, fp32 [B L]."""
    # a log-sum-exp over a large vocabulary needs fp32
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


TIME_BINS = 4  # loss by flow time: t in [0, 1/4), [1/4, 1/2), ...


def weighted(
    rows: dict[str, list[Term]], weights: dict[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Terms of all tasks -> the weighted loss, and detached metrics with loss by time bin."""
    total, metrics = torch.zeros(()), {}
    for name, terms in rows.items():
        if name not in weights:
            raise ValueError(
                f"loss_weights has no {name!r}, which the model's loss returns; it has "
                f"{', '.join(weights)}: name a new term in the class's `terms` and in loss_weights"
            )
        value = torch.cat([term.value for term in terms])  # [rows]
        total = total.to(value.device) + weights[name] * value.mean()
        metrics[f"loss/{name}"] = value.detach().mean()
        if all(term.t is not None for term in terms):
            t = torch.cat([term.t for term in terms if term.t is not None])
            bins = (t * TIME_BINS).long().clamp(max=TIME_BINS - 1)
            for one in range(TIME_BINS):
                metrics[f"loss/{name}/t{one}"] = value.detach()[bins == one].mean()
    metrics["loss"] = total.detach()
    return total, metrics
