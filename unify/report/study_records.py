"""Reads what a study left on disk: study.json, results.json and one folder per run.

Whatever a crashed run did not write is empty here; nothing that is missing stops a report.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from glob import escape
from itertools import combinations
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import yaml

from unify.report.words import plural

Row = dict[str, Any]  # {arm, paradigm, seed, metric, value, n, low, high, passport}
ALL_TASKS = "all tasks"
RUN_NAME = re.compile(r"(?P<arm>.+)-s(?P<seed>-?\d+)-(?P<hash>[0-9a-f]+)")


@dataclass
class RunRecord:
    """One arm under one seed."""

    folder: Path
    arm: str
    seed: int
    info: dict[str, Any]  # run.json
    config: dict[str, Any] = field(default_factory=dict)
    train: list[dict[str, Any]] = field(default_factory=list)  # journal records by kind
    health: list[dict[str, Any]] = field(default_factory=list)
    gradients: list[dict[str, Any]] = field(default_factory=list)

    @property
    def state(self) -> str:
        return str(self.info.get("state") or "unknown")

    @property
    def finished(self) -> bool:
        return self.state == "finished"

    @property
    def planned(self) -> int | None:
        return self.info.get("steps") or self.config.get("steps")

    @property
    def steps(self) -> int | None:
        """Optimizer steps done; of an unfinished run, those that the journal knows."""
        return self.planned if self.finished else max((r["step"] for r in self.train), default=None)

    @cached_property
    def rows_per_step(self) -> int | None:
        stated = self.info.get("rows_per_step")
        logged = [r["samples"] // r["step"] for r in self.train if r["step"] and r.get("samples")]
        return stated or (logged[-1] if logged else None)

    @property
    def samples(self) -> int | None:
        rows = self.rows_per_step
        return None if rows is None or self.steps is None else self.steps * rows

    @property
    def needed(self) -> list[dict[str, Any]]:
        """Runs trained before this one: {name, hash ...} each."""
        stated = self.info.get("needed") or []
        return list(stated.values() if isinstance(stated, dict) else stated)

    @property
    def flops(self) -> float | None:
        """Of the whole training; None where they were not counted."""
        each = self.info.get("flops_per_step")
        return each * self.steps if each and self.steps is not None else None

    def parameters(self, which: str) -> int | None:
        return (self.info.get("parameters") or {}).get(which)

    @property
    def environment(self) -> dict[str, Any]:
        return self.info.get("environment") or {}

    @cached_property
    def consumed(self) -> dict[str, dict[int, str]]:
        """By task: the hash of the samples read, by how many they were (unify/runs/journal.py)."""
        found: dict[str, dict[int, str]] = {}
        for record in self.train:
            said = record.get("data")
            if isinstance(said, str):  # as it was once written: of all tasks together
                said = {ALL_TASKS: {"samples": record.get("samples"), "hash": said}}
            for task, read in (said or {}).items():
                found.setdefault(task, {})[read["samples"]] = read["hash"]
        return found

    @cached_property
    def outcomes(self) -> dict[str, np.ndarray]:
        """Of every trial, by metric; empty where they were not kept or cannot be read."""
        try:
            with np.load(self.folder / "eval" / "outcomes.npz", allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except (OSError, ValueError, BadZipFile):
            return {}

    @cached_property
    def card(self) -> dict[str, Any]:
        """What its paradigm is (evaluation/paradigm_card.py); empty where that was not kept."""
        path = self.folder / "eval" / "card.json"
        return _json(path) if path.is_file() else {}

    def pictures(self, folder: str) -> list[Path]:
        return sorted((self.folder / folder).glob("*.png"), key=_natural)


@dataclass
class StudyRecord:
    """Arms in the order of study.json; `runs` in the order of arms, then seeds."""

    folder: Path
    info: dict[str, Any]
    rows: list[Row]
    runs: list[RunRecord]
    before: dict[str, RunRecord] = field(
        default_factory=dict
    )  # needed runs that were found, by hash

    @property
    def arms(self) -> list[str]:
        return list(self.info["arms"])

    @property
    def seeds(self) -> list[int]:
        return list(self.info.get("seeds") or sorted({r.seed for r in self.runs}))

    @property
    def primary(self) -> list[str]:
        return list(self.info.get("primary") or [])

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(A, B) of every comparison A - B: with the baseline, if there is one; no controls. In a
        grid, those that differ in the arm alone or in the point alone; with several budgets, in the
        arm alone."""
        controls = {control["arm"] for control in self.info.get("controls") or []}
        arms = [arm for arm in self.arms if arm not in controls]
        baseline = self.info.get("baseline")
        if baseline:
            return [(arm, baseline) for arm in arms if arm != baseline]
        places = self.factors
        alike = (1,) if self.info.get("budgets") else (0, 1)
        return [
            (a, b)
            for a, b in combinations(arms, 2)
            if any(places[a][i] == places[b][i] for i in alike)
        ]

    @property
    def factors(self) -> dict[str, tuple[str, str]]:
        """Of each arm: the arm that the study names, and the point of the grid that it is at."""
        if not self.info.get("grid"):
            return {arm: (arm, "") for arm in self.arms}
        split = {arm: arm.partition(",") for arm in self.arms}
        return {arm: (base, point) for arm, (base, _, point) in split.items()}

    @property
    def seeds_done(self) -> tuple[int, int]:
        """The fewest and the most finished runs of an arm that has any; the planned number where no
        run is left to tell."""
        done = [sum(run.finished for run in self.runs_of(arm)) for arm in self.arms]
        done = [count for count in done if count] or [0 if self.runs else len(self.seeds)]
        return min(done), max(done)

    @property
    def seeds_said(self) -> str:
        """`8 seeds`, `3 of 8 seeds`, `3 to 8 of 8 seeds`."""
        (low, high), planned = self.seeds_done, len(self.seeds)
        done = f"{low}" if low == high else f"{low} to {high}"
        return f"{'' if low == planned else f'{done} of '}{plural(planned, 'seed')}"

    def runs_of(self, arm: str) -> list[RunRecord]:
        return [run for run in self.runs if run.arm == arm]

    def error(self, arm: str, seed: int) -> str:
        """The last line of what stopped a run; empty if nothing is known."""
        path = self.folder / f"{arm}-s{seed}.error.txt"
        said = path.read_text("utf-8", "replace").strip() if path.is_file() else ""
        return said.rsplit("\n", 1)[-1]

    def paradigm(self, arm: str) -> str:
        return str(self.info["arms"][arm].get("paradigm") or "")


def load_study(folder: Path) -> StudyRecord:
    """ValueError where there is no study; everything else may be missing."""
    path = folder / "study.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a study: it has no study.json; run `unify study` first")
    info = _json(path)
    arms = list(info["arms"])
    newest: dict[tuple[str, int], RunRecord] = {}
    folders = [p for p in folder.iterdir() if p.is_dir() and RUN_NAME.fullmatch(p.name)]
    meant = info.get("runs", [p.name for p in folders])
    folders = [p for p in folders if p.name in meant]
    for run in map(load_run, sorted(folders, key=_age)):  # a later run of the same arm replaces
        if run.arm in arms:
            newest[run.arm, run.seed] = run
    runs = sorted(newest.values(), key=lambda r: (arms.index(r.arm), r.seed))
    rows = [row for row in _rows(folder, runs) if row["arm"] in arms]
    return StudyRecord(folder, info, rows, runs, _needed_runs(folder.parent, runs))


def _rows(folder: Path, runs: Sequence[RunRecord]) -> list[Row]:
    """results.json, or, where the study did not come to write it, the scores that its runs have."""
    if (folder / "results.json").is_file():
        return list(_json(folder / "results.json"))
    scores = [run.folder / "eval" / "scores.json" for run in runs]
    return [row for path in scores if path.is_file() for row in _json(path)["rows"]]


def _needed_runs(place: Path, runs: Sequence[RunRecord]) -> dict[str, RunRecord]:
    """Run folders, in any study beside this one, of the parts that the runs needed."""
    found = {}
    for part in (part for run in runs for part in run.needed):
        name = Path(part.get("folder") or "").name
        for folder in place.glob(f"*/{escape(name)}") if RUN_NAME.fullmatch(name) else ():
            found[part["hash"]] = load_run(folder)
    return found


def load_run(folder: Path) -> RunRecord:
    name = RUN_NAME.fullmatch(folder.name)
    assert name is not None, folder
    info = _json(folder / "run.json") if (folder / "run.json").is_file() else {}
    config = folder / "config.yaml"
    run = RunRecord(
        folder,
        arm=info.get("arm") or name["arm"],
        seed=int(info["seed"] if "seed" in info else name["seed"]),
        info=info,
        config=(yaml.safe_load(config.read_text()) or {}) if config.is_file() else {},
    )
    for record in _journal(folder / "journal.jsonl"):
        if record.get("kind") in ("train", "health", "gradients"):
            getattr(run, record["kind"]).append(record)
    return run


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _journal(path: Path) -> list[dict[str, Any]]:
    """Records up to the first that does not parse: a killed run may leave a torn last line."""
    records: list[dict[str, Any]] = []
    if not path.is_file():
        return records
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def _age(folder: Path) -> tuple[float, str]:
    journal = folder / "journal.jsonl"
    return (journal.stat().st_mtime if journal.is_file() else 0.0, folder.name)


def _natural(path: Path) -> list[Any]:
    """step-200 before step-1000."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]
