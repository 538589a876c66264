"""The same training under another name is done once.

An ablation's default is an arm of many studies, and arms that differ only in how they sample or are
scored are one training: a finished run with the same hash and settings, wherever it lies under
`machine.runs`, gives its weights and journal.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unify.config import OUTSIDE_HASH, read, save
from unify.files import write_atomically
from unify.journal import FILE as JOURNAL
from unify.journal import Journal
from unify.runs import Run

Config = dict[str, Any]
BESIDE = ("machine", "logging")  # outside the hash, and yet a training under others is another
PLACES = ("runs", "tracker")  # of `machine`


def same_training(run: Run, config: Config) -> Run | None:
    """A finished run of another study or arm that was trained as `config` says."""
    digest = run.folder.name.rsplit("-", 1)[1]
    for folder in sorted(run.folder.parents[1].glob(f"*/*-{digest}")):
        other = Run(folder)
        if folder == run.folder or not other.finished:
            continue
        if _beside(read(folder / "config.yaml", trusted=True)) == _beside(config):
            return other
    return None


def training(config: Config) -> Config:
    """What of a configuration says how it is trained."""
    hashed = {key: value for key, value in config.items() if key not in OUTSIDE_HASH}
    return hashed | _beside(config)


def _beside(config: Config) -> Config:
    machine = {key: value for key, value in config["machine"].items() if key not in PLACES}
    return {key: config[key] for key in BESIDE} | {"machine": machine}


def distinct(jobs: Iterable[tuple[str, int, Config]]) -> list[tuple[str, int, Config]]:
    """Of (arm, seed, configuration), the first of each training."""
    kept: list[tuple[str, int, Config]] = []
    for job in jobs:
        if all(training(job[2]) != training(config) for _, _, config in kept):
            kept.append(job)
    return kept


def adopt(run: Run, other: Run, config: Config) -> None:
    """Make `run` what it would be had it been trained; `same_as` in its run.json says that it was
    not. What was drawn while training is left behind."""
    save(config, run.folder / "config.yaml")
    shutil.copy(other.folder / "git.diff", run.folder / "git.diff")
    shutil.copytree(
        other.folder / "export", run.folder / "export", copy_function=_link, dirs_exist_ok=True
    )
    write_atomically(run.folder / JOURNAL, _journal(other))
    run.update(**{**other.info, **names(run, config), "same_as": str(other.folder)})


def names(run: Run, config: Config) -> dict[str, Any]:
    """What a run's facts say of the study and arm that it belongs to."""
    replicate = config["replicate"]
    return {
        "name": run.folder.name,
        "study": config["study"],
        "arm": config["name"],
        "seed": config["seeds"]["init"] if replicate is None else replicate,
    }


def _journal(other: Run) -> str:
    """What was recorded while training."""
    records = [r for r in Journal(other.folder).records() if r["kind"] != "eval"]
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _link(source: str, target: str) -> None:
    """Weights are never written twice, and may be large: one file under two names, where it can."""
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
