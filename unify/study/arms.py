"""`unify plan F`: what a study or an experiment will train, what each part costs, what is there.

Nothing is trained. With a `budget` in the study, this is where steps are solved from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unify.assembly.exported_weights import load_export
from unify.config import LoadWeights, load_recipe, needed_key, needed_runs
from unify.costs.step_cost import Cost, cost_of, steps_for
from unify.costs.step_time import mean_train_seconds, measured_seconds
from unify.paradigm import Fitted
from unify.runs.equal_training import reusable, training
from unify.runs.folder import Run
from unify.runs.lookup import find_needed, find_run, needed_configs, replicate
from unify.schema.completed import Config
from unify.schema.study import Study
from unify.study.tuning import DEFAULT, chosen_overrides
from unify.study.width_matching import study_and_arms


@dataclass
class Plan:
    """Arms with their widths and steps solved, and what each costs."""

    study: Study
    arms: dict[str, Config]
    costs: dict[str, Cost]
    seconds: dict[str, float] = field(default_factory=dict)  # of a run, by arm, as measured now

    def spread(self, quantity: str) -> float:
        """By how much of the largest the arms differ, counted as their budget says."""
        each = [cost.total(quantity, self.study.budget_of(arm)) for arm, cost in self.costs.items()]
        return (max(each) - min(each)) / max(each) if max(each) else 0.0

    def runs(self, arm: str) -> dict[int, Run | None]:
        """What is there, by seed, perhaps in another study."""
        return {
            seed: find_run(replicate(self.arms[arm], seed), reuse=True) for seed in self.study.seeds
        }

    def states(self, arm: str) -> dict[int, str]:
        """By seed: `finished`, `stopped` ..., `missing`, or `with` an arm that is trained alike."""
        twin = self.twin(arm)
        absent = f"with {twin}" if twin else "missing"
        return {s: run.info["state"] if run else absent for s, run in self.runs(arm).items()}

    def twin(self, arm: str) -> str | None:
        """An arm before it that is trained alike, and so for both."""
        if not reusable(self.arms[arm]):
            return None
        before = list(self.arms)[: list(self.arms).index(arm)]
        wanted = training(self.arms[arm])
        return next((one for one in before if training(self.arms[one]) == wanted), None)

    def left(self, arm: str) -> float | None:
        """Seconds of training that its unfinished runs take from their start, one after the other
        on this machine; None where nothing is known of it."""
        runs = list(self.runs(arm).values())
        missing = sum(run is None or not run.finished for run in runs)
        missing = 0 if self.twin(arm) else missing
        each = self.seconds.get(arm) or mean_train_seconds(run for run in runs if run)
        return 0.0 if not missing else None if each is None else missing * each


def budgeted(
    path: str,
    overrides: list[str],
    tiny: bool = False,
    one_arm: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Study, dict[str, Config]]:
    """A study's arms with the steps that its budget buys; what is without one is not measured.

    Arms that have been tuned are at their best values, unless `one_arm` says which overrides each
    is to have.
    """
    study, arms = _tuned(path, overrides, tiny, one_arm)
    free = study.budget is None and not study.budgets
    return study, arms if free else _planned(study, arms).arms


def _tuned(
    path: str,
    overrides: list[str],
    tiny: bool,
    one_arm: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Study, dict[str, Config]]:
    study, arms = study_and_arms(path, overrides, tiny, one_arm)
    if study.tune is None or one_arm is not None:
        return study, arms
    tuned = study_and_arms(path, overrides, tiny, chosen_overrides(study, arms))[1]
    if study.tune.defaults:
        for arm, config in arms.items():
            name = f"{arm},{DEFAULT}"
            tuned[name], study.arms[name] = {**config, "name": name}, study.arms[arm]
            if arm in study.budgets:
                study.budgets[name] = study.budgets[arm]
    return study, tuned


def plan(path: str, overrides: list[str], tiny: bool = False, measure: bool = False) -> Plan:
    """Of a study, or of an experiment as a study of one arm. `measure` times a few steps of every
    arm whose needed runs are there."""
    planned = _plan(path, overrides, tiny)
    for arm, config in planned.arms.items() if measure else ():
        needed = find_needed(config)
        if needed is not None:
            planned.seconds[arm] = measured_seconds(config, needed)
    return planned


def _plan(path: str, overrides: list[str], tiny: bool) -> Plan:
    from unify.config.loading import load

    if "arms" in load(path, overrides, tiny).root.value:
        return _planned(*_tuned(path, overrides, tiny))
    config = load_recipe(path, overrides, tiny)
    name = config["name"]
    return _planned(Study(config["study"], {name: path}), {name: config})


def _planned(study: Study, arms: dict[str, Config]) -> Plan:
    known: dict[str, Cost] = {}  # of needed runs, by key: arms share them
    there: dict[str, Run | None] = {}
    costs, solved = {}, {}
    for arm, config in arms.items():
        parts = needed_configs(config)
        for path, part in parts.items():
            if path not in known:
                known[path] = cost_of(part, load_weights=_vocabularies(there))
                there[path] = find_run(part, reuse=True)
        asked = needed_runs(config)
        needed = {_label(part, asked[key].seed): known[key] for key, part in parts.items()}
        cost = cost_of(config, needed, _vocabularies(there))
        budget = study.budget_of(arm)
        if budget is not None:
            try:
                cost.steps = steps_for(budget, cost)
            except ValueError as error:
                raise ValueError(f"{arm}: {error}") from error
        costs[arm], solved[arm] = cost, {**config, "steps": cost.steps}
    return Plan(study, solved, costs)


def _label(part: Config, seed: int) -> str:
    """What a needed run is called: its experiment, and the seed that it is asked with."""
    return part["name"] + (f", seed {seed}" if seed else "")


def _vocabularies(there: Mapping[str, Run | None]) -> LoadWeights:
    """Loads what was fitted, where it was: no other weights change what a run costs."""

    def load(part: Any, weights: Any) -> None:
        if not isinstance(part, Fitted):
            return
        run = there.get(needed_key(weights)) if isinstance(weights, dict) else None
        if not isinstance(weights, dict):
            load_export(part, Path(weights))
        elif run is not None and run.finished:
            load_export(part, run.folder / "export")

    return load
