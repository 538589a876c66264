"""The same training under another name is done once.

An ablation's default is an arm of many studies, and arms that differ only in how they sample or are
scored are one training: a finished run with the same hash and the same settings of machine and
logging, wherever it lies under `machine.runs`, gives its weights and journal.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from unify.config import OUTSIDE_HASH, save
from unify.runs.folder import Run
from unify.runs.journal import FILE as JOURNAL
from unify.runs.journal import Journal
from unify.schema.completed import Config
from unify.support.atomic_files import write_atomically
from unify.support.environment import git_state

BESIDE = ("machine", "logging")  # outside the hash, and yet a training under others is another
ANYWHERE = (
    "runs",
    "tracker",
    "reuse",
    "timeout",
    "save_beside",
)  # of `machine`, what makes no other training


def same_training(run: Run, config: Config) -> Run | None:
    """A finished run of another study or arm that was trained as `config` says.

    None where `machine.reuse` is off, or a class comes from a Python file: its code is not hashed.
    """
    if not reusable(config):
        return None
    digest = run.folder.name.rsplit("-", 1)[1]
    for folder in sorted(run.folder.parents[1].glob(f"*/*-{digest}")):
        other = Run(folder)
        whole = other.finished and (folder / "export" / "config.json").is_file()
        if folder != run.folder and whole and _beside(_stored(folder)) == _beside(config):
            return other
    return None


def reusable(config: Config) -> bool:
    """Whether its hash says all that is trained."""
    return config["machine"]["reuse"] and not _of_files(config)


def _of_files(value: Any) -> bool:
    """Whether a class below comes from a Python file."""
    if isinstance(value, dict):
        own = ".py:" in str(value.get("class", ""))
        return own or any(map(_of_files, value.values()))
    return isinstance(value, list) and any(map(_of_files, value))


def _stored(folder: Path) -> Config:
    """Plain data: whatever it names is neither checked nor imported."""
    try:
        return yaml.safe_load((folder / "config.yaml").read_text()) or {}
    except (OSError, yaml.YAMLError):
        return {}


def training(config: Config) -> Config:
    """What of a configuration says how it is trained."""
    hashed = {key: value for key, value in config.items() if key not in OUTSIDE_HASH}
    return hashed | _beside(config)


def _beside(config: Config) -> Config:
    machine = {k: v for k, v in config.get("machine", {}).items() if k not in ANYWHERE}
    return {key: config.get(key) for key in BESIDE} | {"machine": machine}


def distinct(jobs: Iterable[tuple[str, int, Config]]) -> list[tuple[str, int, Config]]:
    """Of (arm, seed, configuration), the first of each training, and all that share none."""
    kept: list[tuple[str, int, Config]] = []
    for job in jobs:
        alike = (training(job[2]) == training(config) for _, _, config in kept)
        if not (reusable(job[2]) and any(alike)):
            kept.append(job)
    return kept


def adopt(run: Run, other: Run, config: Config, needed: dict[str, Run]) -> str:
    """Make `run` what it would be had it been trained; `same_as` in its run.json says that it was
    not. What was drawn while training is left behind. Returns what is to be said of it."""
    save(config, run.folder / "config.yaml")
    shutil.copy(other.folder / "git.diff", run.folder / "git.diff")
    shutil.copytree(
        other.folder / "export", run.folder / "export", copy_function=_link, dirs_exist_ok=True
    )
    write_atomically(run.folder / JOURNAL, _journal(other))
    own = belongs(run, config, needed)
    run.update(**{**other.info, **own, "same_as": str(other.folder)})
    then, now = _code(other.info["environment"].get("git")), _code(git_state())
    code = f" (by code {then}, which is now {now})" if then != now else ""
    return f"{run.folder}: trained already, as {other.folder}{code}"


def _code(git: dict[str, Any] | None) -> str:
    return str((git or {}).get("sha"))[:12]


def belongs(run: Run, config: Config, needed: dict[str, Run]) -> dict[str, Any]:
    """What a run's facts say of its study and arm, and of the runs that it starts from."""
    replicate = config["replicate"]
    return {
        "name": run.folder.name,
        "study": config["study"],
        "arm": config["name"],
        "seed": config["seeds"]["init"] if replicate is None else replicate,
        "needed": {
            key: {"name": one.info["arm"], "folder": str(one.folder), "hash": one.info["weights"]}
            for key, one in needed.items()
        },
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
