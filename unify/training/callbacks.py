"""Callbacks that record a run after each optimizer step: journal, health line, sample grids.

    EachStep       the base: called once per optimizer step, however many micro-batches that took
    Health         writes `health` records and the line or bar that a user watches
    Recorder       writes `train` records
    SampleGrids    saves pictures drawn with the averaged weights

The order in a Trainer is Health, Recorder, SampleGrids, Checkpoints: a train record takes its time
from the health record before it, and Checkpoints saves the state of the others. They read
`TrainingModule.record` (step_record.py), and none changes a weight or draws a random number.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from unify.distributed.ranks import all_gather, in_step
from unify.evaluation.image_grids import save_grid
from unify.metrics.metric import Grid
from unify.runs.journal import Consumed, Journal
from unify.support.terminal import echo
from unify.training.lightning_module import TrainingModule
from unify.training.step_record import StepRecord


class EachStep(Callback, ABC):
    """Base of callbacks that act right after every optimizer step."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            self.each_step(trainer, pl_module, self._step)

    @abstractmethod
    def each_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        """Act after optimizer step number `step`, counted from 1 at the start of the run."""


class Recorder(EachStep):
    """Writes `train` records of what the seeds determine: losses, rate, gradient norm, data hash.

    Every `every` steps and at the last one (0: never). A resumed run first cuts from the journal
    what was written after its checkpoint.
    """

    def __init__(self, journal: Journal, every: int):
        self.journal, self.every = journal, every
        self.data = Consumed()  # by all ranks since step 0; saved with checkpoints
        self._mine = Consumed()  # by this rank, since `data` was last joined

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero:
            self.journal.cut(trainer.global_step)

    def each_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        for task, keys in module.record.sample_ids.items():
            self._mine.add(task, keys)
        if not _due(step, self.every, trainer.max_steps):
            return
        self._join_ranks()
        means = module.record.metrics_of_all_ranks()
        if trainer.is_global_zero:
            seen = {"samples": step * module.record.rows, "tokens": step * module.record.tokens}
            self.journal.write(step, "train", {**means, **seen, "data": self.data.state()})

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        self.journal.flush()  # a checkpoint never knows more than the journal on the disk

    def _join_ranks(self) -> None:
        """Add what each rank consumed to `data`; all ranks call it at the same step."""
        for share in all_gather(self._mine.state()):
            self.data.join(share)
        self._mine = Consumed()

    def state_dict(self) -> dict[str, Any]:
        self._join_ranks()
        return {"data": self.data.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if isinstance(state_dict["data"], str):
            raise ValueError(
                "this checkpoint was written by an older version, which kept another record of "
                "the data; finish the run with that version, or remove its folder"
            )
        self.data = Consumed()
        self.data.join(state_dict["data"])


class Health(EachStep):
    """Reports losses, rates and remaining time every `every` steps, to the journal and the user.

    On a terminal the user sees a progress bar, elsewhere a line given to `say`. Records of times
    stay apart from `train` records, which a resumed run must repeat exactly.
    """

    def __init__(
        self,
        journal: Journal,
        every: int,
        say: Callable[[str], None] = echo,
        console: Console | None = None,
    ):
        self.journal, self.every, self.say = journal, every, say
        self.console = console or Console(stderr=True)
        self.bar: Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        self._mark = (trainer.global_step, time.perf_counter())
        if self.console.is_terminal and trainer.is_global_zero:
            columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"))
            self.bar = Progress(*columns, console=self.console)
            self.bar.start()
            self.bar.add_task("", total=trainer.max_steps, completed=trainer.global_step)

    def each_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        if not trainer.is_global_zero:
            return
        text = None
        if _due(step, self.every, trainer.max_steps):
            values = self._measure(trainer, module.record, step)
            self.journal.write(step, "health", values)
            text = health_line(module.record.metrics, values)
        if self.bar is not None:
            described = {} if text is None else {"description": text}
            self.bar.update(self.bar.task_ids[0], completed=step, **described)  # type: ignore[arg-type]
        elif text is not None:
            self.say(f"step {step}/{trainer.max_steps}  {text}")

    def _measure(self, trainer: Trainer, record: StepRecord, step: int) -> dict[str, float]:
        """Rates since the last measurement, and the seconds left at that rate."""
        (last_step, last_time), now = self._mark, time.perf_counter()
        self._mark = (step, now)
        seconds = (now - last_time) / (step - last_step)
        values = {
            "time": time.time(),
            "seconds_per_step": seconds,
            "samples_per_s": record.rows / seconds,
            "tokens_per_s": record.tokens / seconds,
            "eta_s": (trainer.max_steps - step) * seconds,
        }
        if trainer.strategy.root_device.type == "cuda":
            values["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return values

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.bar is not None:
            self.bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)


def health_line(metrics: Mapping[str, Any], rates: Mapping[str, float]) -> str:
    """Format as `loss 1.25  text 0.5  lr 1.0e-03  grad 0.83  512 samples/s ...  left 0:01:10`."""
    parts = [f"loss {float(metrics['loss']):.4g}"]
    terms = [name for name in metrics if name.startswith("loss/") and name.count("/") == 1]
    parts += [f"{name.removeprefix('loss/')} {float(metrics[name]):.4g}" for name in terms]
    parts += [f"lr {float(metrics['lr']):.1e}", f"grad {float(metrics['grad_norm']):.3g}"]
    parts += [f"{rates['samples_per_s']:,.0f} samples/s", f"{rates['tokens_per_s']:,.0f} tokens/s"]
    return "  ".join([*parts, f"left {timedelta(seconds=round(rates['eta_s']))}"])


class SampleGrids(EachStep):
    """Saves grids of pictures every `every` steps (0: never) and at the last.

    All ranks sample, as weights in shards need them to; the first one saves.

    Args:
        folder: gets `step-<step>-<grid>.png`.
        every: steps between grids.
        make: draws the grids at a step.
        weights: a context in which the model is in eval mode with averaged weights, and after
            which it is as it was.
    """

    def __init__(
        self,
        folder: Path | str,
        every: int,
        make: Callable[[int], Sequence[Grid]],
        weights: Callable[[], AbstractContextManager[Any]],
    ):
        self.folder, self.every, self.make, self.weights = Path(folder), every, make, weights

    def each_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        if not _due(step, self.every, trainer.max_steps):
            return
        with self.weights(), in_step(), torch.no_grad():
            grids = self.make(step)
        if trainer.is_global_zero:
            for grid in grids:
                save_grid(grid, self.folder / f"step-{step:08d}-{grid.name.replace('/', '-')}.png")


def _due(step: int, every: int, last: int) -> bool:
    """True every `every` steps (0: never) and at the last."""
    return every > 0 and (step % every == 0 or step == last)
