"""Guards that stop a run before an update by losses or gradients that are not finite.

B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unify.paradigm import Terms
from unify.support.stop_protocol import PlainError

NAMED = 8  # samples that an error message names


class NonFiniteError(PlainError, RuntimeError):
    """A loss or gradient is NaN or infinite; the weights are still those before the update."""


def check_terms(terms: Terms, keys: Sequence[str]) -> None:
    """Raise NonFiniteError, naming term and samples, unless all values [B] are finite.

    `keys`: of the B rows, in their order.
    """
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
