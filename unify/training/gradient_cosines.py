"""Cosines between the gradients of two losses, block by block, while a run trains.

    cos(a, b) = <g_a, g_b> / (|g_a| |g_b|)      g: gradient of a term, weighted as it is trained

Below zero an update for one term undoes the other's (gradient surgery, arXiv:2001.06782); near zero
they use a block side by side. Measured before the update, on the rows of the step's first
micro-batch; keyed noise makes the training step see the same numbers again.
"""

import re
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from unify.runs.journal import Journal

BLOCK = re.compile(r"(.*?\.\d+)\.")  # trunk.blocks.3.attention.q.weight -> trunk.blocks.3


class Gradients(Callback):
    """Writes `gradients` records: `cosine/<term>|<term>/<block>`, every `every` steps (0: never).

    A record carries the number of the step that it precedes.
    """

    def __init__(self, journal: Journal, every: int):
        self.journal, self.every, self._last = journal, every, -1

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self.every and trainer.world_size > 1:
            raise ValueError("logging.gradients_every works on one device; set it to 0")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if not self.every or step % self.every or step == self._last:
            return
        self._last = step
        with trainer.precision_plugin.train_step_context():
            losses = pl_module.losses(batch)
        self.journal.write(step + 1, "gradients", cosines(pl_module.model, losses))


def cosines(model: nn.Module, losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Cosine of every two losses in every block that both reach, as `cosine/<a>|<b>/<block>`."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    parts = [block_of(name) for name, _ in named]
    gradients: dict[str, dict[str, Tensor]] = {}
    for term, loss in losses.items():
        if not loss.requires_grad:
            continue
        each = torch.autograd.grad(
            loss, [p for _, p in named], retain_graph=True, allow_unused=True
        )
        gradients[term] = _flat(parts, [p for _, p in named], each)
    values: dict[str, float] = {}
    for a, b in combinations(sorted(gradients), 2):
        for block in dict.fromkeys(parts):
            one, other = gradients[a][block], gradients[b][block]
            size = float(one.norm() * other.norm())
            if size:
                values[f"cosine/{a}|{b}/{block}"] = float(one @ other) / size
    return values


def block_of(parameter: str) -> str:
    """Block that a parameter belongs to; outside of blocks, the first part of its name."""
    match = BLOCK.match(parameter)
    return match[1] if match else parameter.partition(".")[0]


def _flat(
    parts: list[str], parameters: list[nn.Parameter], gradients: tuple[Tensor | None, ...]
) -> dict[str, Tensor]:
    """One vector for each block, in float64; zeros where a loss does not reach."""
    pieces: dict[str, list[Tensor]] = {}
    for part, parameter, gradient in zip(parts, parameters, gradients, strict=True):
        shown = torch.zeros_like(parameter) if gradient is None else gradient
        pieces.setdefault(part, []).append(shown.detach().flatten().double())
    return {part: torch.cat(some) for part, some in pieces.items()}
