"""Records of a study and of its runs, read from its folder: study.json, results.json, run folders.

A study that MLflow holds is read in the same way: study/mlflow_study.py fetches its folder.
What a crashed run did not write is empty here: nothing that is missing stops a report.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from glob import escape
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from unify.answers.study_rows import study_rows
from unify.answers.words import plural
from unify.runs.journal import Journal
from unify.runs.stored_scores import (
    Outcomes,
    StoredScores,
    read_outcomes,
    read_scores,
)
from unify.runs.study_files import Row
from unify.support.strict_json import read_strict_json

ALL_TASKS = "all tasks"  # key of journals that hashed the samples of all tasks together
RUN_NAME = re.compile(r"(?P<arm>.+)-s(?P<seed>-?\d+)-(?P<hash>[0-9a-f]+)")


@dataclass
class RunRecord:
    """One run: an arm trained under one seed, as its folder tells."""

    folder: Path
    arm: str
    seed: int
    info: dict[str, Any]  # run.json
    config: dict[str, Any] = field(default_factory=dict)
    train: list[dict[str, Any]] = field(default_factory=list)  # journal records, by their kind
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
        """Optimizer steps that the run was to do."""
        return self.info.get("steps") or self.config.get("steps")

    @property
    def steps(self) -> int | None:
        """Optimizer steps done; those that the journal has where the run did not finish."""
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
        """FLOPs of the whole training; None where they were not counted."""
        per_step = self.info.get("flops_per_step")
        return per_step * self.steps if per_step and self.steps is not None else None

    def parameters(self, which: str) -> int | None:
        """Number of parameters; `which`: total, trainable or frozen_tokenizers."""
        return (self.info.get("parameters") or {}).get(which)

    @property
    def environment(self) -> dict[str, Any]:
        return self.info.get("environment") or {}

    @cached_property
    def consumed(self) -> dict[str, dict[int, str]]:
        """{task: {number of samples read: their hash}}; see `unify.runs.journal.Consumed`."""
        hashes: dict[str, dict[int, str]] = {}
        for record in self.train:
            data = record.get("data")
            if isinstance(data, str):  # older journals: one hash over all tasks
                data = {ALL_TASKS: {"samples": record.get("samples"), "hash": data}}
            for task, read in (data or {}).items():
                hashes.setdefault(task, {})[read["samples"]] = read["hash"]
        return hashes

    @cached_property
    def scores(self) -> StoredScores | str | None:
        """Its scores; None where it has none; the reason why they are not used, if so."""
        try:
            return read_scores(self.folder)
        except ValueError as error:
            return str(error)

    @cached_property
    def outcomes(self) -> Outcomes:
        """Outcome of every trial [n], by metric; empty where not kept or not used."""
        if isinstance(self.scores, str):
            return {}
        try:
            return read_outcomes(self.folder)
        except ValueError as error:  # of a run that has no scores.json
            warnings.warn(f"{self.folder / 'eval'}: {error}; it is left out", stacklevel=2)
            return {}

    @cached_property
    def card(self) -> dict[str, Any]:
        """The paradigm's card (evaluation/paradigm_card.py); empty where it was not kept."""
        path = self.folder / "eval" / "card.json"
        return _json(path) if path.is_file() else {}

    def pictures(self, folder: str) -> list[Path]:
        """PNG files of `samples` or `eval`, in the order of the numbers in their names."""
        return sorted((self.folder / folder).glob("*.png"), key=_natural)


@dataclass
class StudyRecord:
    """A study: study.json (`info`), rows of results, and its runs in order of arms, then seeds.

    `before` has the runs that these started from and that were found, by the hash of their weights.
    """

    folder: Path
    info: dict[str, Any]
    rows: list[Row]
    runs: list[RunRecord]
    before: dict[str, RunRecord] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)  # scores that are not used, and why
    trusted_files: bool = False  # whether Python files that study.json names may be loaded

    @property
    def arms(self) -> list[str]:
        """The arms in the order of the study; those of controls last."""
        return sorted(self.info["arms"], key=lambda arm: arm in self.control_arms)

    @property
    def control_arms(self) -> set[str]:
        """Arms that are there to be told from others, and are compared with those alone."""
        return {control["arm"] for control in self.info.get("controls") or []}

    @property
    def seeds(self) -> list[int]:
        return list(self.info.get("seeds") or sorted({r.seed for r in self.runs}))

    @property
    def primary(self) -> list[str]:
        return list(self.info.get("primary") or [])

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(A, B) of every comparison A - B, controls left out.

        With a baseline, each arm against it. In a grid, arms that differ in the base arm alone or
        in the grid point alone; with several budgets, in the base arm alone.
        """
        arms = [arm for arm in self.arms if arm not in self.control_arms]
        baseline = self.info.get("baseline")
        if baseline:
            return [(arm, baseline) for arm in arms if arm != baseline]
        factors = self.factors
        shared = (1,) if self.info.get("budgets") else (0, 1)  # the factor that two arms share
        return [
            (a, b)
            for a, b in combinations(arms, 2)
            if any(factors[a][i] == factors[b][i] for i in shared)
        ]

    @property
    def factors(self) -> dict[str, tuple[str, str]]:
        """{arm: (base arm as the study names it, point of the grid; empty without a grid)}."""
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
    def seeds_in_words(self) -> str:
        """`8 seeds`, `3 of 8 seeds`, `3 to 8 of 8 seeds`."""
        (low, high), planned = self.seeds_done, len(self.seeds)
        done = f"{low}" if low == high else f"{low} to {high}"
        return f"{'' if low == planned else f'{done} of '}{plural(planned, 'seed')}"

    def runs_of(self, arm: str) -> list[RunRecord]:
        """The runs of an arm, by seed."""
        return [run for run in self.runs if run.arm == arm]

    def error(self, arm: str, seed: int) -> str:
        """The last line of the traceback that stopped a run; empty if none was written."""
        path = self.folder / f"{arm}-s{seed}.error.txt"
        text = path.read_text("utf-8", "replace").strip() if path.is_file() else ""
        return text.rsplit("\n", 1)[-1]

    def paradigm(self, arm: str) -> str:
        """Name of the class that an arm trains; empty if not recorded."""
        return str(self.info["arms"][arm].get("paradigm") or "")


def load_study(folder: Path, trusted_files: bool = False) -> StudyRecord:
    """Read a study's folder. Raises ValueError without study.json; all else may be missing."""
    path = folder / "study.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a study: it has no study.json; run `unify study` first")
    info = _json(path)
    arms = list(info["arms"])
    newest: dict[tuple[str, int], RunRecord] = {}
    folders = [p for p in folder.iterdir() if p.is_dir() and RUN_NAME.fullmatch(p.name)]
    current = info.get("runs", [p.name for p in folders])  # others are of earlier settings
    folders = [p for p in folders if p.name in current]
    for run in map(load_run, sorted(folders, key=_age)):  # a later run of the same arm replaces
        if run.arm in arms:
            newest[run.arm, run.seed] = run
    runs = sorted(newest.values(), key=lambda r: (arms.index(r.arm), r.seed))
    refused = [run.scores for run in runs if isinstance(run.scores, str)]
    own = {(run.arm, run.seed): run.scores for run in runs if run.scores is not None}
    rows = [row for row in study_rows(folder, info, own, refused) if row["arm"] in arms]
    for reason in refused:
        warnings.warn(reason, stacklevel=2)
    needed = _needed_runs(folder.parent, runs)
    return StudyRecord(folder, info, rows, runs, needed, refused, trusted_files)


def _needed_runs(all_studies: Path, runs: Sequence[RunRecord]) -> dict[str, RunRecord]:
    """Runs that these started from, looked for in every study beside theirs; by weights' hash."""
    needed = {}
    for part in (part for run in runs for part in run.needed):
        name = Path(part.get("folder") or "").name
        for folder in all_studies.glob(f"*/{escape(name)}") if RUN_NAME.fullmatch(name) else ():
            needed[part["hash"]] = load_run(folder)
    return needed


def load_run(folder: Path) -> RunRecord:
    """Read a run folder, whose name must be `<arm>-s<seed>-<hash>`."""
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
    for record in Journal(folder).records(lenient=True):
        if record["kind"] in ("train", "health", "gradients"):
            getattr(run, record["kind"]).append(record)
    return run


def _json(path: Path) -> Any:
    return read_strict_json(path.read_text(encoding="utf-8"))


def _age(folder: Path) -> tuple[float, str]:
    """Key to sort run folders by: when the journal was last written, then the name."""
    journal = folder / "journal.jsonl"
    return (journal.stat().st_mtime if journal.is_file() else 0.0, folder.name)


def _natural(path: Path) -> list[Any]:
    """Key to sort by: step-200 before step-1000."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]
