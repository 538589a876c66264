"""A LightningModule of five parameters with the `record` that callbacks read.

Its data, noise and learning rate depend on the step alone, as those of TrainingModule do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from unify.nn.losses import Mean
from unify.paradigm import Term
from unify.runs.checkpoint_folder import STATE, latest_valid
from unify.runs.journal import Journal
from unify.training.callbacks import EachStep, Recorder
from unify.training.checkpointing import Checkpoints
from unify.training.step_record import StepRecord, check_terms
from unify.training.strategies import Single

ROWS = 4


class TinyModule(LightningModule):
    """Fits a line; `poison` makes one sample of that micro-batch NaN."""

    def __init__(self, steps: int, poison: int = -1):
        super().__init__()
        self.layer, self.steps, self.poison = nn.Linear(4, 1), steps, poison
        generator = torch.Generator().manual_seed(0)
        nn.init.normal_(self.layer.weight, generator=generator)
        nn.init.zeros_(self.layer.bias)
        self.record = StepRecord(rows=ROWS, tokens=10 * ROWS)
        self._ids: list[str] = []

    def train_dataloader(self) -> DataLoader:
        done = self.trainer.global_step * self.trainer.accumulate_grad_batches
        total = self.steps * self.trainer.accumulate_grad_batches
        return DataLoader(range(total), batch_size=None, sampler=_From(done, total))  # type: ignore

    def training_step(self, index: int, _: int) -> torch.Tensor:
        rows = max(1, ROWS // self.trainer.accumulate_grad_batches)
        generator = torch.Generator().manual_seed(int(index))
        inputs = torch.randn(rows, 4, generator=generator)
        if index == self.poison:
            inputs[-1] = torch.nan
        keys = [f"sample{int(index) * rows + row}" for row in range(rows)]
        self._ids += keys
        values = (self.layer(inputs)[:, 0] - inputs.sum(1)).square()
        check_terms({"line": Term(values)}, keys)
        self._loss = values.mean()
        return self._loss

    def optimizer_step(self, *args, **kwargs) -> None:
        super().optimizer_step(*args, **kwargs)
        rate = self.optimizers(use_pl_optimizer=False).param_groups[0]["lr"]
        loss = self._loss.detach()
        metrics = {"loss": loss, "loss/line": loss, "lr": rate, "grad_norm": loss.sqrt()}
        means = {name: Mean(value, 1) for name, value in metrics.items()}
        self.record = replace(self.record, means=means, sample_ids={"line": self._ids})
        self._ids = []

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        optimizer.register_step_post_hook(_average)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1 - s / (2 * self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _From:
    """Starts where the checkpoint was taken, but has the length of the whole run."""

    def __init__(self, start: int, total: int):
        self.start, self.total = start, total

    def __len__(self) -> int:
        return self.total

    def __iter__(self):
        return iter(range(self.start, self.total))


def _average(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """A tensor of our own in the optimizer's state, as the averaged weights are."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            state["ema"] = state.get("ema", parameter.detach().clone()).lerp(
                parameter.detach(), 0.5
            )


def make_trainer(steps: int, callbacks: list, accumulation: int = 1) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        accumulate_grad_batches=accumulation,
        callbacks=callbacks,
        strategy=Single(torch.device("cpu")),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def run(
    folder: Path,
    steps: int,
    until: int | None = None,
    every: int = 1,
    keep: int = 100,
    accumulation: int = 1,
    extra: tuple = (),
    beside: bool = False,
) -> tuple[TinyModule, Trainer]:
    """Train in `folder`, from the newest valid checkpoint; `until` stops as a signal would."""
    module = TinyModule(steps)
    checkpoints = Checkpoints(folder / "checkpoints", every, keep, beside)
    callbacks = [*extra, Recorder(Journal(folder), 2)]
    if until is not None:
        callbacks.append(_Stop(checkpoints, until))
    trainer = make_trainer(steps, [*callbacks, checkpoints], accumulation)
    resume = latest_valid(folder / "checkpoints")
    trainer.fit(module, ckpt_path=resume and resume / STATE, weights_only=True)
    return module, trainer


class _Stop(EachStep):
    def __init__(self, checkpoints: Checkpoints, step: int):
        self.checkpoints, self.step = checkpoints, step

    def each_step(self, trainer, module, step) -> None:
        if step == self.step:
            self.checkpoints.request()
