"""Records of one run, read from its folder: run.json, config.yaml, journal.jsonl, eval/."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from unify.config import needed_runs
from unify.runs.folder import run_facts
from unify.runs.journal import Journal
from unify.runs.sampler_settings import TriedSettings, read_settings
from unify.runs.saved_config import plain_config
from unify.runs.stored_scores import Outcomes, StoredScores, read_outcomes, read_scores
from unify.support.strict_json import NUMBER, Types, read_mapping, wrong_type

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
    curve: list[dict[str, Any]] = field(default_factory=list)  # scores on validation data

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
        """Runs that this one was trained from: {name, hash ...} each.

        Without those that only score it: a network that reads its pictures is no part of an arm.
        """
        stated = self.info.get("needed") or []
        parts = stated.values() if isinstance(stated, dict) else stated
        return [part for part in parts if not part.get("scores")]

    @property
    def started_from(self) -> list[dict[str, Any]]:
        """`needed` without what only the evaluation reads, as far as the configuration says so."""
        stated = self.info.get("needed")
        if not isinstance(stated, dict):
            return self.needed
        try:
            reads = needed_runs(self.config)
        except (KeyError, TypeError):  # of a damaged config.yaml
            return self.needed
        return [part for key, part in stated.items() if key not in reads or reads[key].trains]

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
    def tried_settings(self) -> TriedSettings | None:
        """What was tried of its samplers; None where nothing was, or it is damaged."""
        try:
            return read_settings(self.folder)
        except ValueError as error:
            warnings.warn(f"{error}; it is left out", stacklevel=2)
            return None

    @cached_property
    def card(self) -> dict[str, Any]:
        """The paradigm's card (evaluation/paradigm_card.py); empty where it was not kept."""
        path = self.folder / "eval" / "card.json"
        try:
            keys: Types = dict.fromkeys(("parts", "tasks", "loss_weights", "tokenizers"), dict)
            card = read_mapping(path, "scoring writes it again", keys) if path.is_file() else {}
        except ValueError as error:
            warnings.warn(f"{error}; it is left out", stacklevel=2)
            return {}
        return card if card.keys() >= {"parts", "tasks", "loss_weights"} else {}

    def pictures(self, folder: str) -> list[Path]:
        """PNG files of `samples` or `eval`, in the order of the numbers in their names."""
        return sorted((self.folder / folder).glob("*.png"), key=_natural)


def load_run(folder: Path, refused: list[str]) -> RunRecord:
    """Read a run folder, whose name must be `<arm>-s<seed>-<hash>`.

    What is damaged is left out, and added to `refused` by name.
    """
    name = RUN_NAME.fullmatch(folder.name)
    assert name is not None, folder
    info = _or_empty(run_facts, folder / "run.json", refused)
    run = RunRecord(
        folder,
        arm=info.get("arm") or name["arm"],
        seed=int(name["seed"] if info.get("seed") is None else info["seed"]),
        info=info,
        config=_or_empty(plain_config, folder / "config.yaml", refused),
    )
    journal = Journal(folder)
    try:
        records = journal.records()
    except ValueError as error:
        refused.append(f"{error}; the report has what is before it")
        records = journal.records(lenient=True)
    for record in records:
        if record["kind"] in ("train", "health", "gradients", "curve"):
            if wrong := wrong_type(record, dict.fromkeys(record.keys() - NO_NUMBERS, NUMBER)):
                refused.append(f"{journal.path} is damaged ({wrong}); what follows is left out")
                break
            getattr(run, record["kind"]).append(record)
    return run


NO_NUMBERS = {"kind", "data"}  # keys of a record; all others have numbers


def _or_empty(
    read: Callable[[Path], dict[str, Any]], path: Path, refused: list[str]
) -> dict[str, Any]:
    """What `read` has of a file; nothing where there is none, or it is damaged."""
    try:
        return read(path) if path.is_file() else {}
    except ValueError as error:
        refused.append(str(error))
        return {}


def _natural(path: Path) -> list[Any]:
    """Key to sort by: step-200 before step-1000."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]
