"""The trunk of a run with a cool-down: one run at a constant rate, several budgets.

    trunk     0 ------------- 1200 ------------- 2400
    branches                     `-- 1600           `-- 3200

Up to the step at which its rate begins to fall, a run is bit by bit what a run of any length at
the constant rate is: weights, moments, averages, the place in the data, the keys of noise. So it
begins with a checkpoint of its trunk from that step or before, with the records of the journal up
to there, and ends as if it had been trained from its first step on. Its steps and FLOPs are those
of the whole way; of the trunk's time it counts the share of the steps that it took over.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unify.config.validation_metrics import scored_steps
from unify.distributed.ranks import barrier, broadcast_first, is_first
from unify.runs.checkpoint_folder import damage, step_of, steps
from unify.runs.equal_training import link_or_copy
from unify.runs.folder import Run, finished_or_stopped
from unify.runs.journal import FILE as JOURNAL
from unify.runs.journal import Journal
from unify.schema.completed import Config
from unify.support.atomic_files import write_atomically

# kinds of records that are written at an interval of `logging`, and at the last step, which a trunk
# has where its branches have none
INTERVALS = {"train": "metrics_every", "health": "metrics_every", "validation": "checkpoint_every"}


def trunk_of(config: Config) -> Config | None:
    """The configuration of the trunk that a run goes on from; None for a run without one."""
    cooldown = config.get("cooldown")
    if not cooldown or not cooldown["trunk"] or not cooldown["start"]:
        return None
    trunk, logging = cooldown["trunk"], dict(config["logging"])
    scores = logging.get("scores")
    if scores:
        at = [step / trunk["steps"] for step in trunk["scores_at"]]
        logging["scores"] = {**scores, "at": at} if at else None
    logging["keep_steps"] = list(trunk["keep"])
    named = {"name": trunk["name"], "steps": trunk["steps"], "cooldown": None}
    return {**config, **named, "logging": logging}


def has_begun(run: Run) -> bool:
    """True if a run has a checkpoint of its own to go on from, or has ended."""
    return run.folder.is_dir() and bool(steps(run.folder / "checkpoints"))


def trunk_to_begin_from(run: Run, config: Config, train: Callable[[Config], Run]) -> Run | None:
    """The trunk that a run goes on from, trained by `train` if it is not there; None for a run that
    has none, or that has begun. All ranks call."""
    trunk = trunk_of(config)
    if trunk is None or broadcast_first(is_first() and has_begun(run)):
        return None
    return finished_or_stopped(train(trunk))


def begin_from_trunk(
    run: Run, config: Config, trunk: Run | None, say: Callable[[str], None]
) -> None:
    """Put the trunk's newest whole checkpoint, up to the start of the cool-down, into the folder of
    a run that has none, with the journal up to there. All ranks call.

    Without one the run is trained from its first step on, which comes to the same.
    """
    if trunk is None:
        return
    if is_first() and not has_begun(run):
        start = config["cooldown"]["start"]
        found = _checkpoint(trunk, start)
        if found is None:
            say(f"{trunk.folder} has no checkpoint up to step {start}: training from step 0")
        else:
            _take_over(run, config, trunk, found)
            say(f"{run.folder}: goes on from {found}")
    barrier()


def _checkpoint(trunk: Run, start: int) -> Path | None:
    """The newest whole checkpoint up to a step, of the trunk or of the run whose weights it has."""
    same = trunk.info.get("same_as")
    folders = [trunk.folder, *([Path(same)] if same else [])]
    every = [path for folder in folders for path in steps(folder / "checkpoints")]
    usable = sorted((path for path in every if step_of(path) <= start), key=step_of)
    return next((path for path in reversed(usable) if damage(path) is None), None)


def _take_over(run: Run, config: Config, trunk: Run, checkpoint: Path) -> None:
    step, folder = step_of(checkpoint), run.folder / "checkpoints"
    records = Journal(trunk.folder).records()
    kept = [one for one in records if one["step"] <= step and is_own(one, config)]
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)
    write_atomically(run.folder / JOURNAL, text)
    facts, own = trunk.info, str(run.info.get("precision"))
    seconds = facts.get("train_seconds", 0) * step / facts["steps"]
    then = str(facts.get("precision", own))
    run.update(
        trunk={"folder": str(trunk.folder), "step": step},
        train_seconds=round(seconds, 2),
        precision=own if own.startswith(then) else f"{then}, then {own}",
    )
    staging = folder / f".tmp-{checkpoint.name}"
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(checkpoint, staging, copy_function=link_or_copy)
    os.rename(staging, folder / checkpoint.name)  # last: a run that has one has begun


def is_own(record: dict[str, Any], config: Config) -> bool:
    """True for a record of a trunk that the run of `config` would have written itself.

    Others are at the last step of the trunk, or scores that a branch of other steps asks for.
    """
    logging, step = config["logging"], record["step"]
    if record["kind"] == "curve":
        scores = logging.get("scores")
        return bool(scores) and step in scored_steps(scores["at"], config["steps"])
    if record["kind"] not in INTERVALS:
        return True
    every = logging[INTERVALS[record["kind"]]]
    return bool(every and step % every == 0)
