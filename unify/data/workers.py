"""Loader processes: deaf to a scheduler's signals, and never waited for without end.

One process forks its own. Of several ranks each has threads that exchange, and what forks with
threads may stand still for ever: they fork from a process that is started anew.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
from functools import partial
from multiprocessing import resource_tracker
from typing import Any

import torch
from torch import multiprocessing
from torch.utils.data import DataLoader, Dataset

TOLD = {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}  # what a scheduler sends to a group


class Loader(DataLoader):
    """Its workers are born deaf to `TOLD`: a signal may come before `_outlive_signals` has run."""

    def __init__(self, dataset: Dataset, workers: int, ranks: int, timeout: float, **options: Any):
        """`timeout`: seconds in which a worker must have a batch."""
        super().__init__(
            Sent(dataset) if ranks > 1 and workers else dataset,
            num_workers=workers,
            timeout=timeout if workers else 0,
            multiprocessing_context=_anew() if ranks > 1 and workers else None,
            worker_init_fn=partial(_outlive_signals, os.getpid()),
            generator=torch.Generator(),  # else iterating would draw from the global generator
            **options,
        )

    def __iter__(self) -> Any:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _anew() -> Any:
    context = multiprocessing.get_context("forkserver")
    resource_tracker.ensure_running()  # it unblocks SIGTERM, which `Loader.__iter__` blocks later
    context.set_forkserver_preload(["unify.data.module"])
    return context


class Sent(Dataset):
    """A dataset that a new process can unpickle, even with classes of Python files in it."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __getitems__(self, draws: Any) -> Any:
        return self.dataset.__getitems__(draws)  # type: ignore[attr-defined]

    def __reduce__(self) -> Any:
        from unify.support.user_files import loaded_files

        return _received, (loaded_files(), pickle.dumps(self.dataset))


def _received(files: list[str], dataset: bytes) -> Sent:
    from unify.support.user_files import load_file

    for path in files:
        load_file(path)
    return Sent(pickle.loads(dataset))  # our own process has sent it


def _outlive_signals(trainer: int, worker: int) -> None:
    """A scheduler signals the whole group; the trainer still needs its workers to end the step.

    Only a SIGTERM from the trainer itself, which is how an abandoned loader ends, is obeyed.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)  # not inherited from a process that spawns
    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=_end_with, args=(trainer,), daemon=True).start()
    else:  # macOS has no way to know the sender
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _end_with(trainer: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)
