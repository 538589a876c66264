"""Record of an optimizer step, which the callbacks read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unify.distributed.ranks import all_gather, ranks


@dataclass(frozen=True)
class StepRecord:
    """The last optimizer step; `TrainingModule.record` holds it before callbacks are called.

    Attributes:
        metrics: scalars by name, of this rank: `loss`, `loss/<term>`, `loss/<term>/t<bin>`, `lr`,
            `grad_norm`; NaN for a time bin without a row.
        sample_ids: keys of the rows that this rank consumed, by task.
        rows, tokens, flops: of one step on all ranks, constants of a run; 0 before the first.
    """

    metrics: Mapping[str, Tensor | float] = field(default_factory=dict)
    sample_ids: Mapping[str, list[str]] = field(default_factory=dict)
    rows: int = 0
    tokens: int = 0
    flops: float = 0.0

    def metrics_of_all_ranks(self) -> Mapping[str, Tensor | float]:
        """Means over the ranks that have a value; all ranks must ask. Their shares are equal."""
        if ranks() == 1:
            return self.metrics
        shares = all_gather({name: float(value) for name, value in self.metrics.items()})
        return {
            name: float(torch.tensor([share[name] for share in shares]).nanmean())
            for name in self.metrics
        }
