"""Replicates of one study that were trained at several places, as one study.

Each place trains seeds of its own and publishes them (`unify report --publish`); `pool` makes a
study's folder of these published ones, which a report is written from as from any other:

    study.json      as the places' own, with all seeds that any of them is to have; `pooled` names
                    the folders and their hashes
    replicates/0/   published.json and outcomes.npz of the first folder; 1/, 2/ ...
    tuning.json     the trials of all seeds, where each seed had its own
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unify.answers.published_arms import arms_of
from unify.answers.words import seeds_text, sentence
from unify.runs.published_folder import PublishedFolder, copy_published, read_published
from unify.runs.stored_scores import content_hash
from unify.support.atomic_files import write_atomically
from unify.support.strict_json import strict_json

REPLICATES = "replicates"
# keys of a configuration that a seed decides
OF_SEED = ("seeds", "needed_seeds", "replicate")


def pool(folders: Sequence[Path], out: Path) -> Path:
    """Write a study's folder of published ones, each with seeds of its own; returns `out`.

    ValueError, before anything is written, for folders that are not of one study as it was asked,
    that share a seed, or whose arms were configured differently; and for an `out` that holds
    something else.
    """
    read = [read_published(folder) for folder in folders]
    _check_own(out)
    _check_seeds(folders, read)
    for folder, other in zip(folders[1:], read[1:], strict=True):
        if unlike := _unlike(read[0], other):
            raise ValueError(f"{folders[0]} and {folder} are not of one study: {unlike}")
    rows = [row for f, each in zip(folders, read, strict=True) for row in arms_of(each, f).rows]
    for place, folder in enumerate(folders):
        copy_published(folder, out / REPLICATES / str(place))
    tuning = {key: entry for each in read for key, entry in each.content["tuning"].items()}
    if tuning:
        write_atomically(out / "tuning.json", strict_json(tuning))
    write_atomically(out / "results.json", strict_json(rows))
    written = content_hash(json.loads((out / "results.json").read_text()))
    info = {**_info(read), "tuned": sorted(tuning), "results": written}
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
        "created": max(str(each.content["created"]) for each in read),
        "pooled": [
            {
                "folder": f"{REPLICATES}/{place}",
                "hash": each.hash,
                "seeds": _seeds(each),
                "created": each.content["created"],
                "unify": each.content["unify"],
            }
            for place, each in enumerate(read)
        ],
    }


def _seeds(read: PublishedFolder) -> list[int]:
    runs = [facts for arm in read.content["arms"].values() for facts in arm["runs"]]
    return sorted({int(facts["seed"]) for facts in runs})


def _check_own(out: Path) -> None:
    """ValueError where a pooled study would be written over something else."""
    if not out.exists():
        return
    study = out / "study.json"
    ours = study.is_file() and bool(json.loads(study.read_text("utf-8")).get("pooled"))
    if not out.is_dir() or not (ours or not any(out.iterdir())):
        raise ValueError(f"{out} holds something else than a pooled study; name a new folder")


def _check_seeds(folders: Sequence[Path], read: Sequence[PublishedFolder]) -> None:
    """ValueError for a seed that is in two folders: replicates count once."""
    whose: dict[int, Path] = {}
    for folder, each in zip(folders, read, strict=True):
        if both := [seed for seed in _seeds(each) if seed in whose]:
            raise ValueError(
                f"{whose[both[0]]} and {folder} both have {seeds_text(both)}: a replicate counts "
                "once, so give each place seeds of its own"
            )
        whose |= dict.fromkeys(_seeds(each), folder)


def _unlike(first: PublishedFolder, other: PublishedFolder) -> str:
    """Why two folders are not replicates of one study; an empty text if they are."""
    one, two = first.content, other.content
    if "asked" not in one or "asked" not in two:
        return "one was published by a unify that did not keep what was asked; publish it again"
    keys = one["asked"].keys() | two["asked"].keys()
    differ = sorted(k for k in keys if one["asked"].get(k) != two["asked"].get(k))
    if differ:
        return f"they differ in {sentence(differ)} of the study"
    if one["arms"].keys() != two["arms"].keys():
        return (
            f"their arms are {sentence(sorted(one['arms']))}, and {sentence(sorted(two['arms']))}"
        )
    if one["asked"].get("tune") and one["asked"].get("replicate") != "all":
        return "its trials are shared by all seeds, and each place had its own; use replicate: all"
    free = (one["asked"].get("tune") or {}).get("space") or {}
    for arm, entry in one["arms"].items():
        a, b = (_settings(e["config"], free) for e in (entry, two["arms"][arm]))
        if differ := sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key)):
            return f"{arm} differs in {sentence(differ[:5])}"
    return ""


def _settings(config: Mapping[str, Any], free: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an arm by dotted key, without those that a seed decides or that are tuned."""
    flat = _flat({key: value for key, value in config.items() if key not in OF_SEED})
    return {key: value for key, value in flat.items() if key not in free}


def _flat(node: Any, at: str = "") -> dict[str, Any]:
    if isinstance(node, Mapping) and node:
        return {
            key: value
            for name, part in node.items()
            for key, value in _flat(part, f"{at}.{name}" if at else str(name)).items()
        }
    return {at: node}
