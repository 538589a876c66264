"""Run folders: the files of a run, its facts, and the lock of its writer.

runs/<study>/<name>-s<seed>-<hash>/
    config.yaml     the completed configuration
    run.json        what, when, where, state: running | finished | failed
    journal.jsonl   metrics by step
    code/           the user's Python files that it was trained with
    checkpoints/    to resume from
    samples/ eval/  pictures and scores
    export/         config.json (class, arguments) and weights (safetensors)
"""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from unify.distributed.ranks import broadcast_first, is_first
from unify.paradigm import Paradigm
from unify.support.atomic_files import write_atomically
from unify.support.folder_lock import BUSY, lock_folder
from unify.support.stop_protocol import Stopped, name_of
from unify.support.strict_json import (
    NUMBER,
    Types,
    damaged,
    read_mapping,
    strict_json,
    wrong_type,
)


class Run:
    """A run folder and its `run.json`.

    `weights`: the hash that another run has recorded of this one's weights when it used them.
    """

    def __init__(self, folder: Path, weights: str = ""):
        self.folder = Path(folder)
        self._recorded = weights

    @property
    def info(self) -> dict[str, Any]:
        """The facts in run.json, read anew; ValueError if the folder has none, or damaged ones."""
        path = self.folder / "run.json"
        if not path.exists():
            raise ValueError(
                f"{self.folder} is not a run folder: it has no run.json; give the folder that "
                "`unify train` printed"
            )
        return run_facts(path)

    @property
    def finished(self) -> bool:
        """True if the run is trained and its weights are exported. ValueError as `info`."""
        return (self.folder / "run.json").exists() and self.info.get("state") == "finished"

    @property
    def weights(self) -> str:
        """The hash that its exported weights must have, as who uses them recorded or run.json."""
        return self._recorded or str(self.info.get("weights"))

    @property
    def hash(self) -> str:
        """The digits that end the folder's name: what is trained (config.config_hash)."""
        return self.folder.name.rsplit("-", 1)[1]

    def update(self, **facts: Any) -> None:
        """Merge facts into run.json, atomically; the first rank writes."""
        if not is_first():
            return
        before = self.info if (self.folder / "run.json").exists() else {}
        write_json(self.folder / "run.json", {**before, **facts})

    @contextmanager
    def writing(self, wait: bool = False) -> Iterator[None]:
        """Hold the lock of the folder, which the system releases however this process ends.

        The first rank locks for all. ValueError if another process writes, unless `wait` waits
        for it, or if the folder cannot be written or locked.
        """
        with ExitStack() as stack:
            while refused := broadcast_first(lock_folder(self.folder, stack) if is_first() else ""):
                if not (wait and BUSY in refused):
                    raise ValueError(refused)
                time.sleep(0.2)  # all ranks ask again: none waits for another for long
            yield


def run_facts(path: Path) -> dict[str, Any]:
    """The content of a run.json. ValueError for one that is damaged."""
    remedy = "remove it, and the command that trained the run goes on from its newest checkpoint"
    facts = read_mapping(path, remedy, FACTS)
    needed = facts.get("needed") or {}
    parts = list(needed.values() if isinstance(needed, dict) else needed)
    wrong = [wrong_type(part, NEEDED) for part in parts]
    wrong += [wrong_type(facts.get("parameters") or {}, dict.fromkeys(COUNTS, int))]
    wrong += [wrong_type(facts.get("environment") or {}, ENVIRONMENT)]
    if reason := next(filter(None, wrong), ""):
        raise ValueError(damaged(path, reason, remedy))
    return facts


COUNTS = ("total", "trainable", "frozen_tokenizers")
NEEDED: Types = {"name": str, "folder": str, "hash": str}
ENVIRONMENT: Types = {"git": dict, "accelerators": list, "packages": dict, "variables": dict}
FACTS: Types = {
    **dict.fromkeys(("name", "study", "arm", "paradigm", "hash", "state", "weights"), str),
    **dict.fromkeys(("config", "data", "precision", "started", "ended", "same_as"), str),
    **dict.fromkeys(("seed", "steps", "rows_per_step", "texts_cut", "texts_read"), int),
    **dict.fromkeys(("texts_since", "texts_cut_in_scoring"), int),
    **dict.fromkeys(("train_seconds", "flops_per_step", "tokens_per_step"), NUMBER),
    "encoding_flops_per_step": NUMBER,
    **dict.fromkeys(("parameters", "environment", "exports", "code", "stopped"), dict),
    **dict.fromkeys(("written", "trunk"), dict),
    "needed": (dict, list),
}


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically: readers see the old file or the new one. NaN is null."""
    write_atomically(path, strict_json(content))


def parameter_counts(model: Any) -> dict[str, int]:
    """Numbers of parameters: all and the trainable ones of the model; those of its tokenizers."""
    if not isinstance(model, nn.Module):
        return {"total": 0, "trainable": 0, "frozen_tokenizers": 0}
    tokenizers = model.tokenizers().values() if isinstance(model, Paradigm) else ()
    return {
        "total": sum(p.numel() for p in model.parameters()),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "frozen_tokenizers": sum(
            p.numel() for t in tokenizers if isinstance(t, nn.Module) for p in t.parameters()
        ),
    }


def is_finished(run: Run) -> bool:
    """True if a run is finished, as the first rank reads run.json, which it writes. Collective."""
    return broadcast_first(is_first() and run.finished)


def finished_or_stopped(run: Run) -> Run:
    """The run, if it is finished; raises Stopped for one that a signal ended. Collective."""
    if is_finished(run):
        return run
    facts = broadcast_first(run.info if is_first() else {})
    stopped, steps = facts.get("stopped") or {}, facts.get("steps")
    number = signal.Signals[stopped.get("signal", "SIGTERM")]
    raise Stopped(
        f"{run.folder}: stopped by {name_of(number)} after step {stopped.get('step')} of {steps}, "
        "which is saved; the same command goes on from there",
        number,
    )


def stop_facts(number: int | None, step: int) -> dict[str, Any]:
    """The entry `stopped` of run.json: which signal ended a run, and the step that it has saved."""
    return {"signal": signal.Signals(number or signal.SIGTERM).name, "step": step}
