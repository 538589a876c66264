"""Per-row losses over tokens.

B rows, L tokens, V vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

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


class Mean(NamedTuple):
    """A mean that is still to be joined with those of other micro-steps or ranks."""

    total: Tensor | float
    rows: Tensor | float  # 0 in a time bin without one

    @classmethod
    def of(cls, values: Tensor) -> "Mean":
        """Of values [n], on their device: nothing waits for it."""
        return cls(values.sum(), values.new_tensor(len(values)))

    def __add__(self, other: "Mean") -> "Mean":  # type: ignore[override]
        return Mean(self.total + other.total, self.rows + other.rows)

    @property
    def value(self) -> Tensor:
        """NaN for none."""
        return torch.as_tensor(self.total) / torch.as_tensor(self.rows)


def weighted(
    rows: dict[str, list[Term]], weights: dict[str, float]
) -> tuple[Tensor, dict[str, Mean]]:
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
        metrics[f"loss/{name}"] = Mean.of(value.detach())
        if all(term.t is not None for term in terms):
            t = torch.cat([term.t.flatten() for term in terms if term.t is not None])
            each = [term.value if term.each is None else term.each.flatten() for term in terms]
            lost = torch.cat(each).detach()  # [rows], or one at each time of a row
            # floor, as -0.1 is no time, and rounding towards zero would make it one
            bins = (t * TIME_BINS).floor().long().clamp(max=TIME_BINS - 1)
            for one in range(TIME_BINS):
                inside = bins == one  # as `lost`
                total_inside = torch.where(inside, lost, 0).sum()
                metrics[f"loss/{name}/t{one}"] = Mean(total_inside, inside.sum())
    metrics["loss"] = Mean(total.detach(), 1)
    return total, metrics


def over_images(values: Sequence[Tensor], present: Sequence[Tensor]) -> Tensor:
    """Mean [B] over the images that a row has of a value [B] for each: never over the batch, since
    a row's loss is its own. `present` [B] (bool) are the rows that have the image."""
    sums = torch.stack([value * there for value, there in zip(values, present, strict=True)]).sum(0)
    return sums / torch.stack(list(present)).sum(0).clamp(min=1)
