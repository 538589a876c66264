"""Checkpoints that a crash cannot spoil: written beside their place, verified before they are used.

    checkpoints/.tmp-00000100/                 while it is being written
    checkpoints/step-00000100/state/           weights, optimizer, loops (training/strategies.py)
    checkpoints/step-00000100/manifest.json    step; size and sha256 of every other file

A checkpoint is renamed into place once all its bytes are on the disk, and an older one is removed
after that. It is only ever taken right after an optimizer step, so it holds no half-accumulated
gradient; it holds no generator state either, because all noise is keyed by step (noise.py).
"""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from unify.distributed.ranks import all_gather, all_or_error, thread_group
from unify.runs.checkpoint_folder import MANIFEST, STATE, step_of, steps
from unify.support.atomic_files import flush_to_disk, sha256, write_atomically
from unify.support.stop_protocol import stop_signals_to
from unify.training.callbacks import EachStep
from unify.training.lightning_patches import keep_signals_ours
from unify.training.step_record import NonFiniteError
from unify.training.strategies import own_files

PATIENCE = 3.0  # seconds that a rank which fails waits for the save under way
UNASKED = 600.0  # seconds between the saves of a run that was asked for none
STEP, SAVE, STOP = range(3)  # what ranks may do after a step: the most that one wants, all do


class Checkpoints(EachStep):
    """Saves every `every` optimizer steps (0: every UNASKED seconds), at the last, and on request.

    STOP_SIGNALS only set `requested`; at the end of the optimizer step all ranks agree, save and
    stop, and `stopped_by` is the same signal on all. Of a clock, only that of the first rank
    counts. It must be the last callback, because it saves the state of the others. The Trainer
    needs `enable_checkpointing=False` and a strategy of strategies.py.

    Args:
        folder: gets `step-<step>` folders.
        every: steps between saves.
        keep: how many of the newest are kept.
        beside: write and hash in a thread while training goes on. One save at most is under way;
            an error of it stops all ranks after the step at which it is noticed.
        best: `best(step)`, the step up to this one whose checkpoint is kept besides the newest.
        stay: steps whose checkpoints are saved and never removed.
    """

    def __init__(
        self,
        folder: Path | str,
        every: int = 0,
        keep: int = 2,
        beside: bool = False,
        best: Callable[[int], int | None] = lambda _: None,
        stay: Collection[int] = (),
    ):
        super().__init__()
        if keep < 1:
            raise ValueError(f"keep_checkpoints must be at least 1, not {keep}")
        self.folder, self.every, self.keep, self.beside = Path(folder), every, keep, beside
        self.best, self.stay = best, frozenset(stay)
        self.requested: signal.Signals | None = None
        self.stopped_by: signal.Signals | None = None  # as all ranks agreed
        self._saved_at = time.monotonic()
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._save: Future[None] | None = None  # the save under way
        self._group: Any = None  # in which the threads of the ranks exchange
        self._signals = ExitStack()  # gives the signals back to their former handlers

    def request(self, signum: int = signal.SIGUSR1, frame: Any = None) -> None:
        """Ask for a checkpoint and a stop at the end of the current optimizer step."""
        self.requested = self.requested or signal.Signals(signum)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        self._saved_at = time.monotonic()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        later = trainer.callbacks[trainer.callbacks.index(self) + 1 :]  # type: ignore[attr-defined]
        assert not any(isinstance(c, EachStep) for c in later), "Checkpoints must come last"
        self._group = thread_group() if self.beside else None
        trainer.strategy.deferred = self.beside  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._clear()
        keep_signals_ours(trainer)
        # Before the loader forks its workers: a scheduler signals every process of a job, and a
        # worker without a handler would die of it.
        self._signals.enter_context(stop_signals_to(self.request))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._thread.shutdown()
        self._signals.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: Any) -> None:
        """Finish the save under way, but do not wait long for ranks that may be gone."""
        all_alive = isinstance(exception, NonFiniteError)  # all ranks raise it at the same step
        wait([self._save] if self._save else [], None if all_alive else PATIENCE)
        self._thread.shutdown(wait=False)
        self._signals.close()

    def each_step(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        agreed = self._agreed(trainer)
        due = (self.every > 0 and step % self.every == 0) or step in self.stay
        last = step == trainer.max_steps
        if agreed > STEP or due or last:
            self.save(trainer, step)
        if agreed == STOP or last:
            self.finish()
        if agreed == STOP:
            self.stopped_by = next(filter(None, all_gather(self.requested)), None)
            trainer.should_stop = True

    def _agreed(self, trainer: Trainer) -> int:
        """STEP, SAVE or STOP: the most that any rank wants, in one exchange for each step."""
        failed = self._save is not None and self._save.done() and self._save.exception() is not None
        late = not self.every and time.monotonic() - self._saved_at >= UNASKED
        wanted = SAVE if late and trainer.is_global_zero else STEP
        wanted = STOP if self.requested is not None or failed else wanted
        decision = torch.tensor(wanted, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(decision, reduce_op="max"))

    def save(self, trainer: Trainer, step: int) -> None:
        """Write `step-<step>` and prune; on any error the older checkpoints are untouched.

        Raises the error of the save before, if that one ran beside training and failed.
        """
        self.finish()
        staging = self.folder / f".tmp-{step:08d}"
        try:
            all_or_error(lambda: staging.mkdir() if trainer.is_global_zero else None)
            trainer.save_checkpoint(staging / STATE, weights_only=False)
        except BaseException:
            if trainer.is_global_zero:
                self._clear()
            raise
        self._saved_at = time.monotonic()
        if self.beside:
            self._save = self._thread.submit(self._complete, trainer, staging, step)
        else:
            self._complete(trainer, staging, step)

    def finish(self) -> None:
        """Wait for the save under way, if there is one, and raise its error."""
        save, self._save = self._save, None
        if save is not None:
            save.result()

    def _complete(self, trainer: Trainer, staging: Path, step: int) -> None:
        """Flush and hash all bytes, then give the folder its name; each rank has its own files."""
        rank, first = trainer.global_rank, trainer.is_global_zero
        try:
            if self.beside:
                trainer.strategy.write(self._group)  # type: ignore[attr-defined]
            written = all_or_error(
                lambda: _hashed(staging, own_files(staging / STATE, rank)), self._group
            )
            all_or_error(
                lambda: self._place(staging, step, written) if first else None, self._group
            )
        finally:
            if first:
                self._clear()

    def _place(self, staging: Path, step: int, written: list[dict[str, Any]]) -> None:
        """Seal the folder, rename it into place, and only then remove what is old."""
        _seal(staging, step, {name: entry for own in written for name, entry in own.items()})
        target = self.folder / f"step-{step:08d}"
        if target.exists():  # it is damaged, or the run would have been resumed from it
            shutil.rmtree(target)
        os.rename(staging, target)
        flush_to_disk(self.folder)
        best = self.best(step)
        for path in [p for p in steps(self.folder) if step_of(p) <= step][: -self.keep]:
            if step_of(path) != best and step_of(path) not in self.stay:
                shutil.rmtree(path)

    def _clear(self) -> None:
        """Remove the unfinished folders that a crash or a full disk left behind."""
        for path in self.folder.glob(".tmp-*"):
            shutil.rmtree(path, ignore_errors=True)


def _hashed(folder: Path, files: list[Path]) -> dict[str, Any]:
    """Manifest entries of files, flushed to the disk first."""
    for path in files:
        flush_to_disk(path)
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in files
    }


def _seal(folder: Path, step: int, entries: dict[str, Any]) -> None:
    """Write the manifest; flush it and all folders to the disk."""
    write_atomically(folder / MANIFEST, json.dumps({"step": step, "files": entries}, indent=1))
    for path in [*(p for p in folder.rglob("*") if p.is_dir()), folder]:
        flush_to_disk(path)
