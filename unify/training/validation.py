"""Loss on held-back records at every checkpoint, and the checkpoint with the lowest."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from unify.data.module import Data
from unify.distributed.ranks import all_gather, in_step, ranks, world
from unify.noise import Noise
from unify.runs.checkpoint_folder import step_of, steps
from unify.runs.journal import Journal
from unify.training.callbacks import EachStep
from unify.training.lightning_module import TrainingModule


class Validation(EachStep):
    """Writes `validation` records: the mean of each term, and their weighted sum as `loss`.

    The noise is the same each time and for any number of ranks, so that losses can be compared.

    Args:
        journal: gets the records.
        every: steps between checkpoints; the last step is one, too.
        rows: validation records of every task, from the first on; 0 measures nothing.
        data: has the records.
        seed: keys the noise.
        weights: a context in which the model has the weights to measure, its average.
    """

    def __init__(
        self,
        journal: Journal,
        every: int,
        rows: int,
        data: Data,
        seed: int,
        weights: Callable[[], AbstractContextManager[Any]],
    ):
        self.journal, self.every, self.rows, self.data = journal, every, rows, data
        self.seed, self.weights = seed, weights

    def each_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        due = step == trainer.max_steps or (self.every and step % self.every == 0)
        if not self.rows or not due:
            return
        context = trainer.precision_plugin.forward_context()
        with self.weights(), in_step(), torch.no_grad(), context:
            values = self._terms(module)
        total = sum(module.loss_weights[name] * value for name, value in values.items())
        if trainer.is_global_zero:
            named = {f"loss/{name}": value for name, value in values.items()}
            self.journal.write(step, "validation", {"loss": total, **named})

    def _terms(self, module: TrainingModule) -> dict[str, float]:
        """Mean of each term over the rows of all ranks."""
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for task in sorted(self.data.tasks):
            for indices in self._shares(task, module.model.group):
                batch = self.data.batch(task, "validation", indices).to(module.device)
                noise = Noise([(self.seed, task, key) for key in batch.keys], module.device)
                for name, term in module.model.loss(batch, noise).items():
                    sums[name][0] += float(term.value.sum())
                    sums[name][1] += term.value.numel()
        everyone = all_gather(dict(sums))
        return {
            name: sum(each[name][0] for each in everyone) / sum(each[name][1] for each in everyone)
            for name in sums
        }

    def _shares(self, task: str, group: int) -> Iterator[range]:
        """Ranges of this rank's records, as many at once as in training; groups stay together."""
        available = min(self.rows, self.data.source.size(task, "validation"))
        each = available // (group * ranks()) * group
        if not each:
            raise ValueError(
                f"logging.validation_rows: {available} validation records of {task} do not make a "
                f"group of {group} for each of {ranks()} ranks; raise it or set it to 0"
            )
        first = world().rank * each if ranks() > 1 else 0
        size = max(1, self.data.tasks[task] // ranks() // group) * group
        for start in range(first, first + each, size):
            yield range(start, min(start + size, first + each))


def best_step(folder: Path, until: int | None = None) -> int | None:
    """Step of the checkpoint with the lowest validation loss; None if none was measured.

    Args:
        folder: of the run.
        until: ignore later steps, and count this one, whose checkpoint is being written.
    """
    saved = {step_of(path) for path in steps(folder / "checkpoints")}
    losses = {
        record["step"]: record["loss"]
        for record in Journal(folder).records("validation")
        if record["loss"] is not None
        and (record["step"] in saved or record["step"] == until)
        and (until is None or record["step"] <= until)
    }
    return min(losses, key=lambda step: losses[step]) if losses else None
