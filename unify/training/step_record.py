"""What an optimizer step did: its record, which callbacks read, and guards of its numbers.

B rows of a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unify.distributed.ranks import all_gather, ranks
from unify.nn.losses import Mean
from unify.paradigm import Terms
from unify.support.stop_protocol import PlainError


@dataclass(frozen=True)
class StepRecord:
    """The last optimizer step; `TrainingModule.record` holds it before callbacks are called.

    Attributes:
        means: scalars by name, of this rank: `loss`, `loss/<term>`, `loss/<term>/t<bin>`, `lr`,
            `grad_norm`.
        sample_ids: keys of the rows that this rank consumed, by task.
        noise: streams drawn so far in this process, by task (`unify.noise.Noise.drawn`).
        rows, tokens, flops: of one step on all ranks, constants of a run; 0 before the first.
    """

    means: Mapping[str, Mean] = field(default_factory=dict)
    sample_ids: Mapping[str, list[str]] = field(default_factory=dict)
    noise: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    rows: int = 0
    tokens: int = 0
    flops: float = 0.0

    @property
    def metrics(self) -> dict[str, Tensor]:
        """Values of the means of this rank; NaN for a time bin without a row."""
        return {name: mean.value for name, mean in self.means.items()}

    def metrics_of_all_ranks(self) -> dict[str, Tensor]:
        """Values of the means over the rows of all ranks; all must ask."""
        if ranks() == 1:
            return self.metrics
        mine = {name: (float(one.total), float(one.rows)) for name, one in self.means.items()}
        shares = all_gather(mine)
        return {
            name: Mean(*map(sum, zip(*(share[name] for share in shares), strict=True))).value
            for name in mine
        }


NAMED = 8  # samples that an error message names


class NonFiniteError(PlainError, RuntimeError):
    """A loss or gradient is NaN or infinite; the weights are still those before the update."""


def check_terms(terms: Terms, keys: Sequence[str]) -> None:
    """Raise NonFiniteError, naming term and samples, unless all values [B] are finite.

    `keys`: of the B rows, in their order. ValueError for values that are not one per row.
    """
    for name, term in terms.items():
        if term.value.shape != (len(keys),):
            raise ValueError(
                f"loss term {name!r} has the shape {list(term.value.shape)} for {len(keys)} rows; "
                "return one value per row, e.g. error.flatten(1).mean(1)"
            )
    finite = {name: torch.isfinite(term.value.detach()) for name, term in terms.items()}
    if torch.stack([good.all() for good in finite.values()]).all():  # one transfer from the device
        return
    for name, good in finite.items():
        bad = [row for row, fine in enumerate(good.tolist()) if not fine]
        if bad:
            values = terms[name].value.detach().tolist()
            shown = ", ".join(f"{keys[row]} ({values[row]})" for row in bad[:NAMED])
            more = ", ..." if len(bad) > NAMED else ""
            raise NonFiniteError(
                f"loss term {name!r} is not finite for {len(bad)} of {len(keys)} samples: "
                f"{shown}{more}; stopped before the update"
            )


def check_gradient(norm: Tensor | float, keys: Sequence[str] = ()) -> None:
    """Raise NonFiniteError, naming samples of the step, unless the gradient's norm is finite."""
    value = float(norm)
    if value - value != 0:  # NaN or infinite
        more = ", ..." if len(keys) > NAMED else ""
        raise NonFiniteError(
            f"the gradient norm is {value}; stopped before the update. Every loss was finite; "
            f"the samples of this step: {', '.join(keys[:NAMED])}{more}"
        )
