"""Loader processes that survive signals to their group and are never waited for without end.

A single process forks its workers. A rank of several has threads that exchange with other ranks,
and a fork of a process with threads may deadlock: its workers fork from a fresh server process.
"""

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

from unify.support.stop_protocol import GROUP_SIGNALS
from unify.support.user_files import contents, load_files, loaded_files


class Loader(DataLoader):
    """A DataLoader whose workers start with GROUP_SIGNALS blocked.

    A signal may come before a worker has run `_outlive_signals`.

    Args:
        dataset: its `__getitems__` makes a batch.
        workers: processes that load; 0 loads in this one.
        ranks: how many train together; with several, workers do not fork from this process.
        timeout: seconds that a worker has for a batch.
        options: further arguments of DataLoader.
    """

    def __init__(self, dataset: Dataset, workers: int, ranks: int, timeout: float, **options: Any):
        super().__init__(
            Picklable(dataset) if ranks > 1 and workers else dataset,
            num_workers=workers,
            timeout=timeout if workers else 0,
            multiprocessing_context=_fresh_server() if ranks > 1 and workers else None,
            worker_init_fn=partial(_outlive_signals, os.getpid()),
            generator=torch.Generator(),  # else iterating would draw from the global generator
            **options,
        )

    def __iter__(self) -> Any:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _fresh_server() -> Any:
    """The context whose workers fork from a server process that has no threads."""
    context = multiprocessing.get_context("forkserver")
    # it unblocks SIGTERM and SIGINT, which `Loader.__iter__` blocks later, and would die of SIGHUP
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    context.set_forkserver_preload(["unify.data.module"])
    return context


class Picklable(Dataset):
    """A dataset that a new process can unpickle, even where classes come from users' files."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __getitems__(self, draws: Any) -> Any:
        return self.dataset.__getitems__(draws)  # type: ignore[attr-defined]

    def __reduce__(self) -> Any:
        return _unpickled, (loaded_files(), contents(), pickle.dumps(self.dataset))


def _unpickled(files: list[str], known: dict[str, bytes], dataset: bytes) -> Picklable:
    load_files(files, known)
    return Picklable(pickle.loads(dataset))  # written by our own trainer process


def _outlive_signals(trainer: int, worker: int) -> None:
    """Ignore what comes to the whole process group: the trainer must end its step.

    A SIGTERM from the process `trainer` is obeyed: an abandoned loader ends its workers by one.
    """
    signal.pthread_sigmask(
        signal.SIG_BLOCK, GROUP_SIGNALS
    )  # not inherited from a process that spawns
    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=_end_with, args=(trainer,), daemon=True).start()
    else:  # macOS has no way to know the sender
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _end_with(trainer: int) -> None:
    """Wait for a SIGTERM of the trainer's, and end without teardown."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)
