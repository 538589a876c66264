"""Equal trainings under different names are done once.

An ablation's default is an arm of many studies, and arms that differ only in how they sample or are
scored are one training: a finished run with the same hash and the same settings of machine and
logging, wherever it lies under `machine.runs`, gives its weights and journal.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from unify.config import OUTSIDE_HASH, needed_runs, trained_code, weight_folders
from unify.runs.export_folder import DESCRIPTION, hash_of_unchanged, stamps
from unify.runs.folder import Run
from unify.runs.journal import FILE as JOURNAL
from unify.runs.journal import Journal
from unify.runs.kept_code import keep_code
from unify.runs.saved_config import write_config
from unify.schema.completed import Config
from unify.support.atomic_files import write_atomically
from unify.support.environment import git_diff, git_state

# Keys of `machine` that change neither numbers nor records. All others, and `logging`, are outside
# the hash, too, so that a run can be resumed under others; but numbers and records depend on these,
# so a training under others is not taken for an equal one.
PLACE_KEYS = ("runs", "tracker", "reuse", "timeout", "save_beside")


def reusable(config: Config) -> bool:
    """True if `machine.reuse` is on: the hash covers all that is trained, users' files too."""
    return config["machine"]["reuse"]


def trains_like(config: Config, other: Config) -> bool:
    """True if `config` may take over the weights of a run that was trained by `other`."""
    before = config.get("needed_seeds"), other.get("needed_seeds")
    alike = before[0] == before[1] and training_settings(config) == training_settings(other)
    return reusable(config) and alike


def training_settings(config: Config) -> Config:
    """The part of a configuration that determines the training and its records."""
    hashed = {key: value for key, value in config.items() if key not in OUTSIDE_HASH}
    return hashed | unhashed_settings(config)


def unhashed_settings(config: Config) -> Config:
    """The part of `training_settings` that a run's hash does not cover."""
    machine = {k: v for k, v in config.get("machine", {}).items() if k not in PLACE_KEYS}
    logging = dict(config.get("logging") or {})
    for key in ("scores", "keep_steps"):  # runs from before there were these keys have none
        if not logging.get(key):
            logging.pop(key, None)
    return {"machine": machine, "logging": logging}


def adopt(run: Run, other: Run, config: Config, needed: dict[str, Run]) -> str:
    """Fill the folder of `run` from `other`, which was trained alike; returns a message.

    `same_as` in run.json names the source. Pictures drawn while training are not taken over.
    """
    digest = write_config(run, config)
    keep_code(run, config)
    if (other.folder / "git.diff").is_file():
        write_atomically(run.folder / "git.diff", (other.folder / "git.diff").read_bytes())
    export = other.folder / "export", run.folder / "export"
    shutil.copytree(*export, copy_function=link_or_copy, dirs_exist_ok=True)
    write_atomically(run.folder / JOURNAL, _training_journal(other))
    own = study_facts(run, config, needed)
    own |= {"config": digest, "written": stamps(run.folder / "export")}
    run.update(**{**other.info, **own, "same_as": str(other.folder)})
    return f"{run.folder}: trained already, as {other.folder}{other_code(run)}"


def damage(run: Run) -> str | None:
    """The reason why a finished run cannot give its weights and journal; None if it can."""
    found, wanted = hash_of_unchanged(run.folder / "export"), run.info.get("weights")
    if found != wanted:
        return f"its weights have the hash {found}, and run.json says {wanted}"
    if not (run.folder / "export" / DESCRIPTION).is_file():
        return f"its export has no {DESCRIPTION}"
    try:
        _training_journal(run)
    except ValueError as error:
        return str(error)
    return None


def other_code(run: Run) -> str:
    """A phrase for a finished run that was trained by another commit than is here now."""
    then, now = _commit(run.info.get("environment", {}).get("git")), _commit(git_state())
    if then != now:
        return f" (by code {then}, which is now {now})"
    diff = run.folder / "git.diff"
    same = not diff.is_file() or diff.read_text() == git_diff()
    return "" if same else f" (by code {then}, which are others now)"


def _commit(git: dict[str, Any] | None) -> str:
    """The commit, and whether files differed from it."""
    if not git:
        return "outside git"
    return f"{str(git.get('sha'))[:12]}{' with changes' if git.get('dirty') else ''}"


def study_facts(run: Run, config: Config, needed: dict[str, Run]) -> dict[str, Any]:
    """The entries of run.json that name study, arm and seed, and the runs that it starts from."""
    replicate = config["replicate"]
    return {
        "name": run.folder.name,
        "study": config["study"],
        "arm": config["name"],
        "seed": config["seeds"]["init"] if replicate is None else replicate,
        "code": trained_code(config),
        "exports": weight_folders(training_settings(config)),
        "needed": needed_facts(config, needed),
    }


def needed_facts(config: Config, needed: dict[str, Run]) -> dict[str, dict[str, Any]]:
    """The entry `needed` of run.json; `scores` marks what the evaluation alone starts from."""
    runs = needed_runs(config)
    facts: dict[str, dict[str, Any]] = {}
    for key, part in needed.items():
        facts[key] = {"name": part.info["arm"], "folder": str(part.folder), "hash": part.weights}
        if key in runs and not runs[key].trains:
            facts[key]["scores"] = True
    return facts


def record_scoring_parts(run: Run, config: Config, needed: dict[str, Run]) -> None:
    """Write into run.json the needed runs of a finished run that are others now: those by which it
    is scored, as its hash covers those that it was trained with."""
    before = run.info.get("needed")
    now = study_facts(run, config, needed)["needed"]
    if isinstance(before, dict) and _hashes(before) != _hashes({**before, **now}):
        run.update(needed={**before, **now})


def _hashes(needed: dict[str, Any]) -> dict[str, Any]:
    return {key: part.get("hash") for key, part in needed.items()}


def _training_journal(run: Run) -> str:
    """The journal without scores: each run is scored as its own configuration asks."""
    records = [r for r in Journal(run.folder).records() if r["kind"] != "eval"]
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def link_or_copy(source: str, target: str) -> None:
    """Hard-link where the file system can, else copy: weights are large and never rewritten."""
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
