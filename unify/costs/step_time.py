"""Time of a run on this machine: that of finished runs of its arm, or a few steps timed.

Timed steps are forward and backward passes on the run's own first rows.
"""

import statistics
import time
from collections.abc import Iterable
from typing import Any

import torch

from unify.assembly.assemble import assemble
from unify.costs.step_cost import first_rows
from unify.nn.init import initialise
from unify.nn.losses import weighted
from unify.noise import Noise
from unify.paradigm import Term, Trainable
from unify.runs.folder import Run
from unify.schema.experiment import Recipe
from unify.support.precision import autocast

REPEATS = 3  # timed steps, after one that is not


def mean_train_seconds(runs: Iterable[Run]) -> float | None:
    """Mean seconds of training of the runs that are finished; None without any."""
    seconds = [run.info["train_seconds"] for run in runs if run.finished]
    return statistics.mean(seconds) if seconds else None


def measured_seconds(config: dict[str, Any], needed: dict[str, Run]) -> float:
    """Seconds of a whole run, from a few steps of its untrained model on its own first rows."""
    recipe = assemble(config, needed)
    model = recipe.model
    if not isinstance(model, Trainable):
        return 0.0
    if recipe.machine.threads:
        torch.set_num_threads(recipe.machine.threads)
    initialise(model, recipe.seeds.init)
    model.to("cuda" if torch.cuda.is_available() else "cpu").train()
    each = [_step(recipe, model) for _ in range(1 + REPEATS)]
    return statistics.median(each[1:]) * recipe.steps


def _step(recipe: Recipe, model: Trainable) -> float:
    """Seconds of one step: batches of every task, losses and gradients; no optimizer."""
    start, rows = time.perf_counter(), dict[str, list[Term]]()
    device = next(model.parameters()).device
    with autocast(recipe.machine.precision, device):
        for task, n in recipe.data.tasks.items():
            batch = first_rows(recipe, task, n)
            noise = Noise.for_batch(recipe.seeds.noise, 0, batch, device)
            for name, term in model.loss(batch, noise).items():
                rows.setdefault(name, []).append(term)
        total, _ = weighted(rows, recipe.loss_weights)
    total.backward()
    model.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
