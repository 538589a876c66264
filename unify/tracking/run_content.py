"""What of a run folder MLflow gets, in MLflow's terms: metrics, files, tags, parameters."""

import getpass
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ARTIFACTS = ("config.yaml", "run.json", "git.diff", "samples", "eval")
AT_THE_END = ("journal.jsonl",)  # grows with every record: sent when the run has ended
SUFFIXES = {".yaml", ".json", ".jsonl", ".npz", ".diff", ".png"}


def unsent(
    records: list[dict[str, Any]], marks: Mapping[str, list[int]]
) -> Iterator[tuple[dict[str, Any], list[int], float]]:
    """Journal records after the marks, each with its own mark and a time in seconds.

    A mark is (step, how many records of this kind at this step), per kind: so neither a resumed
    run, which cuts the journal and writes the same steps again, nor a second evaluation of the same
    step sends anything twice or too little. The time is that of the health record before.
    """
    seen: Counter[tuple[str, int]] = Counter()
    seconds = 0.0
    for record in records:
        kind, step = record["kind"], record["step"]
        seconds = record.get("time", seconds)
        seen[kind, step] += 1
        mark = [step, seen[kind, step]]
        if mark > list(marks.get(kind, [-1, 0])):
            yield record, mark, seconds


def metrics_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record by MLflow name, with the kind in front where kinds share names."""
    prefix = f"{record['kind']}/" if record["kind"] in ("health", "validation", "curve") else ""
    return {
        mlflow_name(prefix + name): float(value)
        for name, value in record.items()
        if name not in ("step", "time") and isinstance(value, int | float)
    }


def new_files(folder: Path, ended: bool, sent: Mapping[str, Any]) -> dict[Path, list[int]]:
    """[size, time] of each artifact that differs in them from what was sent, by relative path."""
    facts = {
        path.relative_to(folder): [path.stat().st_size, path.stat().st_mtime_ns]
        for path in artifacts(folder, ended)
    }
    return {path: fact for path, fact in facts.items() if sent.get(str(path)) != fact}


def artifacts(folder: Path, ended: bool = False) -> list[Path]:
    """The files of a run folder that MLflow gets: settings, environment, samples and scores.

    Once the run has `ended`, its journal too: a report can then be made from MLflow alone.
    """
    tops = [folder / name for name in ARTIFACTS + (AT_THE_END if ended else ())]
    files = [file for top in tops for file in ([top] if top.is_file() else sorted(top.rglob("*")))]
    return [f for f in files if f.is_file() and f.suffix in SUFFIXES and f.name[0] != "."]


def tags_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Tags by which runs are searched in MLflow, from the facts of run.json.

    Those of MLflow's own names are what its pages show as user, source and version.
    """
    environment = facts.get("environment") or {}
    git, command = environment.get("git") or {}, environment.get("command") or []
    named = {name: facts.get(name) for name in ("study", "arm", "paradigm", "seed", "data")}
    named |= {"config_hash": facts.get("hash"), "git_sha": git.get("sha")}
    file = next((word for word in command if word.endswith((".yaml", ".yml"))), None)
    named |= {
        "mlflow.user": _user(),
        "mlflow.source.name": file or "unify",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git.get("sha"),
        "mlflow.source.git.dirty": git.get("dirty"),
    }
    return {name: str(value) for name, value in named.items() if value is not None}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def flatten(values: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """`{"a": {"b": 1}}` -> ("a.b", "1"); lists stay whole."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from flatten(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, str(values)


def mlflow_name(name: str) -> str:
    """The name with what MLflow does not accept replaced by _, at most 250 characters."""
    return re.sub(r"[^\w\-. /]", "_", name)[:250]
