"""Replicates of one study that were trained at several places, as one study.

Each place trains seeds of its own and publishes them (`unify report --publish`); `pool` makes a
study's folder of these published ones, which a report is written from as from any other:

    study.json      as the places' own, with all seeds that any of them is to have; `pooled` names
                    the folders and their hashes
    results.json    the scores
    replicates/0/   published.json and outcomes.npz of the first folder; 1/, 2/ ...
    tuning.json     the trials of all seeds, where each seed had its own
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unify.answers.one_study import check_one_study, seeds_of
from unify.answers.published_arms import arms_of
from unify.runs.published_folder import PublishedFolder, copy_published, read_published
from unify.runs.stored_scores import content_hash
from unify.support.atomic_files import STAGING, write_atomically
from unify.support.strict_json import strict_json

REPLICATES = "replicates"


def pool(folders: Sequence[Path], out: Path) -> Path:
    """Write a study's folder of published ones, each with seeds of its own; returns `out`.

    ValueError, before anything is written, for folders that are not of one study, or that have a
    replicate in common; and for an `out` that holds something else, or one of the folders.
    """
    read = [read_published(folder) for folder in folders]
    rows = [row for f, each in zip(folders, read, strict=True) for row in arms_of(each, f).rows]
    check_one_study(folders, read)
    tuning = {key: entry for each in read for key, entry in each.content["tuning"].items()}
    scores = strict_json(rows)
    info = {**_info(read), "tuned": sorted(tuning), "results": content_hash(json.loads(scores))}
    _check_place(folders, out, str(info.get("name")))
    staging = out / f"{STAGING}{REPLICATES}"
    shutil.rmtree(staging, ignore_errors=True)
    for place, folder in enumerate(folders):
        copy_published(folder, staging / str(place))
    # without study.json it is no study: none is ever read whose parts are of two calls
    (out / "study.json").unlink(missing_ok=True)
    shutil.rmtree(out / REPLICATES, ignore_errors=True)
    os.replace(staging, out / REPLICATES)
    write_atomically(out / "tuning.json", strict_json(tuning))
    write_atomically(out / "results.json", scores)
    write_atomically(out / "study.json", strict_json(info))
    return out


def _info(read: Sequence[PublishedFolder]) -> dict[str, Any]:
    """study.json of all folders together, without what hangs on other files."""
    first = read[0].content
    keys = ("paradigm", "doc", "file", "needs")
    return {
        **first["asked"],
        "arms": {a: {key: e.get(key) for key in keys} for a, e in first["arms"].items()},
        "seeds": sorted({seed for each in read for seed in each.content["planned"]}),
        "created": max(str(each.content.get("created") or "") for each in read),
        "pooled": [
            {
                "folder": f"{REPLICATES}/{place}",
                "hash": each.hash,
                "seeds": seeds_of(each),
                "created": each.content.get("created"),
                "unify": each.content.get("unify"),
            }
            for place, each in enumerate(read)
        ],
    }


def _check_place(folders: Sequence[Path], out: Path, name: str) -> None:
    """ValueError where a pooled study would be written over, into or around something else."""
    place = out.resolve()
    for folder in folders:
        if place in (own := folder.resolve(), *own.parents) or own in place.parents:
            raise ValueError(f"{out} and {folder} lie in each other; name another folder for --out")
    if out.exists() and not (out.is_dir() and _is_own(out, name)):
        raise ValueError(f"{out} holds something else than this pooled study; name a new folder")


def _is_own(out: Path, name: str) -> bool:
    """True for an empty folder, an earlier pool of the study, or one that was not finished."""
    study = out / "study.json"
    if study.exists():
        try:
            info = json.loads(study.read_bytes())
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(info, dict) and bool(info.get("pooled")) and info.get("name") == name
    unfinished = {STAGING + REPLICATES, REPLICATES}
    return not any(out.iterdir()) or any((out / part).is_dir() for part in unfinished)
