"""Private members and warnings of Lightning that a run replaces: all of them, each with its reason.

A version of Lightning that lacks a member is refused before the first step: without its patch a run
would train, and fail to stop or to resume.
"""

import logging
import operator
import warnings
from typing import Any

import lightning as L

from unify.support.stop_protocol import PlainError

TRIED = ("2.6.4", "2.6.6")  # the oldest and the newest version that the tests have passed with

WARNINGS = (  # regular expressions of what is no news in a run of ours
    ".*does not have many workers.*",  # machine.workers is the user's choice
    ".*`srun` command is available.*",  # one process in a SLURM job is legitimate
    ".*`isinstance.treespec.*",  # Lightning's own use of an interface that torch deprecates
    ".*in eval mode at the start.*",  # frozen parts are
    ".*your dataloader is not resumable.*",  # the step says which samples are next: data/module.py
)


def silence_lightning() -> None:
    """Hide Lightning's banners and the warnings that do not apply here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)


def keep_signals_ours(trainer: L.Trainer) -> None:
    """Let Lightning register no signal handler and exchange nothing about signals.

    Its handlers talk to other ranks from inside the handler, and its epoch loop asks them before
    each step in an exchange whose failure, and whatever else comes then, it swallows. Ours note the
    signal, and ranks agree at the end of a step (checkpointing.py).
    """
    _replace(trainer, "_signal_connector.register_signal_handlers", lambda: None)
    _replace(trainer, "fit_loop.epoch_loop._broadcast_sigterm_tensor", lambda: None)


def recount_micro_steps(trainer: L.Trainer) -> None:
    """Set the loop's counters of micro-steps to `global_step` optimizer steps of today's size.

    A checkpoint counts micro-steps, and `accumulate_grad_batches` may have changed since it was
    written: the counters decide when the next optimizer step is due.
    """
    counters = "fit_loop.epoch_loop.batch_progress.current"
    done = _member(trainer, f"{counters}.ready")
    shift = trainer.global_step * trainer.accumulate_grad_batches - done
    for name in ("ready", "started", "processed", "completed"):
        path = f"{counters}.{name}"
        _replace(trainer, path, _member(trainer, path) + shift)


def _member(trainer: L.Trainer, path: str) -> Any:
    """The member of a trainer at a dotted path; PlainError where this Lightning has none."""
    try:
        return operator.attrgetter(path)(trainer)
    except AttributeError as error:
        raise PlainError(
            f"Lightning {L.__version__} has no Trainer.{path}, which unify replaces; versions "
            f"{TRIED[0]} to {TRIED[1]} were tried: install one of them"
        ) from error


def _replace(trainer: L.Trainer, path: str, value: Any) -> None:
    _member(trainer, path)
    owner, _, name = path.rpartition(".")
    setattr(_member(trainer, owner), name, value)
