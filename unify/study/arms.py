"""`unify plan F`: what a study or an experiment will train, what each part costs, what is there.

Nothing is trained. With a `budget` in the study, this is where steps are solved from it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from unify.config import LoadWeights, load_recipe, needed_key, needed_runs
from unify.costs.step_cost import Config, Cost, cost_of, steps_for
from unify.costs.step_time import measured, spent
from unify.paradigm import Fitted
from unify.report.budget_and_data import TOLERANCE, si
from unify.runs.equal_training import reusable, same_training, training
from unify.runs.folder import Run, load_export
from unify.schema.experiment import QUANTITIES, Study, Tune
from unify.study.tuning import DEFAULT, chosen, trained_by_trials
from unify.study.width_matching import study_and_arms
from unify.training.train_run import needed_configs, run_of, seeded


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
            seed: found(replicate(self.arms[arm], seed), reuse=True) for seed in self.study.seeds
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
        each = self.seconds.get(arm) or spent(run for run in runs if run)
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
    found = study_and_arms(path, overrides, tiny, chosen(study, arms))[1]
    if study.tune.defaults:
        for arm, config in arms.items():
            name = f"{arm},{DEFAULT}"
            found[name], study.arms[name] = {**config, "name": name}, study.arms[arm]
            if arm in study.budgets:
                study.budgets[name] = study.budgets[arm]
    return study, found


def plan(path: str, overrides: list[str], tiny: bool = False, measure: bool = False) -> Plan:
    """Of a study, or of an experiment as a study of one arm. `measure` times a few steps of every
    arm whose needed runs are there."""
    planned = _plan(path, overrides, tiny)
    for arm, config in planned.arms.items() if measure else ():
        needed = needed_by(config)
        if needed is not None:
            planned.seconds[arm] = measured(config, needed)
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
                there[path] = found(part, reuse=True)
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


def tuning(tune: Tune, cost: Cost) -> float:
    """FLOPs of all trials of an arm."""
    return tune.trials * max(1, round(cost.steps * tune.share)) * cost.training


def replicate(config: Config, seed: int) -> Config:
    """An arm under one of its study's seeds."""
    return {**seeded(config, seed), "replicate": seed}


def found(config: Config, reuse: bool = False) -> Run | None:
    """The run of a configuration, if its folder is there; nothing is trained.

    With `reuse`, else a finished one that would be used instead of training.
    """
    needed = needed_by(config)
    if needed is None:
        return None
    run = run_of(config, {path: part.info["weights"] for path, part in needed.items()})
    if (run.folder / "run.json").is_file():
        return run
    return same_training(run, config) if reuse else None


def needed_by(config: Config) -> dict[str, Run] | None:
    """The finished runs that a configuration starts from, by key; None if one is missing."""
    needed = {}
    for path, part in needed_configs(config).items():
        run = found(part, reuse=True)
        if run is None or not run.finished:
            return None
        needed[path] = run
    return needed


def as_data(planned: Plan) -> dict[str, Any]:
    """Plain data: every arm's totals, per task and per stage; what is there of its seeds."""
    return {
        "study": planned.study.name,
        "budget": planned.study.budget and vars(planned.study.budget),
        "budgets": {arm: vars(budget) for arm, budget in planned.study.budgets.items()},
        "arms": {
            arm: {**_entry(c), "runs": planned.states(arm), "seconds_left": planned.left(arm)}
            for arm, c in planned.costs.items()
        },
        "spread": {name: planned.spread(name) for name in QUANTITIES},
    }


def _entry(cost: Cost) -> dict[str, Any]:
    n = cost.steps
    return {
        "steps": n,
        "samples": n * cost.rows,
        "tokens": n * cost.tokens,
        "parameters": cost.parameters["total"],
        "trainable": cost.parameters["trainable"],
        "flops": {
            "training": n * cost.training,
            "computed": n * cost.computed,
            "useful": None if cost.useful is None else n * cost.useful,
            "encoding": n * cost.encoding,
            "trained before": cost.before,
        },
        "tasks": {
            task: {
                "samples": n * each.rows,
                "tokens": n * each.tokens,
                "training": n * each.training,
                "encoding": n * each.encoding,
            }
            for task, each in cost.tasks.items()
        },
        "needed": {
            name: run.steps * (run.training + run.encoding) for name, run in cost.needed.items()
        },
    }


LEDGER = {
    "training": "FLOPs, training",
    "computed": "  as dense attention computes",
    "useful": "  on what is no padding",
    "encoding": "FLOPs, encoding",
    "trained before": "FLOPs, trained before",
}


def lines(planned: Plan) -> list[str]:
    """The ledger in columns, arms across; then what is matched."""
    entries = as_data(planned)["arms"]
    rows = [["", *entries]]
    for name in ("steps", "samples", "tokens"):
        rows.append([name, *(f"{e[name]:,}" for e in entries.values())])
    for name, label in LEDGER.items():
        each = [e["flops"][name] for e in entries.values()]
        rows.append([label, *("n/a" if value is None else si(value) for value in each)])
    for task in dict.fromkeys(task for e in entries.values() for task in e["tasks"]):
        each = [e["tasks"].get(task) for e in entries.values()]
        shown = [f"{e['samples']:,} / {si(e['training'])}" if e else "n/a" for e in each]
        rows.append([f"  {task}, samples / FLOPs", *shown])
    for name in dict.fromkeys(name for e in entries.values() for name in e["needed"]):
        each = [e["needed"].get(name) for e in entries.values()]
        rows.append([f"  {name}, FLOPs", *("n/a" if e is None else si(e) for e in each)])
    for name in ("parameters", "trainable"):
        rows.append([name, *(si(e[name]) for e in entries.values())])
    if planned.study.tune:
        tune, tuned = planned.study.tune, trained_by_trials(planned.study, planned.arms)
        each = [si(tuning(tune, c)) if a in tuned else "n/a" for a, c in planned.costs.items()]
        rows.append(["FLOPs, tuning", *each])
    rows.append(["runs", *(_summed(e["runs"]) for e in entries.values())])
    left = "time left, after tuning" if planned.study.tune else "time left"
    rows.append([left, *(_clock(e["seconds_left"]) for e in entries.values())])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    columns = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    alone = len(planned.arms) == 1 or planned.study.budgets
    return [*columns, *([] if alone else _matching(planned)), _all_left(entries.values())]


def _all_left(entries: Collection[dict[str, Any]]) -> str:
    """How many runs there are to train, and how long one after another."""
    left = [e["seconds_left"] for e in entries]
    runs = sum(list(e["runs"].values()).count("missing") for e in entries)
    known = [seconds for seconds in left if seconds is not None]
    if len(known) < len(left):
        return f"runs missing: {runs}; --measure says how long they take on this machine"
    return f"runs missing: {runs}; {_clock(sum(known))} of training, one after another"


def _summed(states: dict[int, str]) -> str:
    """`3 finished, 5 missing`."""
    kinds = list(states.values())
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def _clock(seconds: float | None) -> str:
    return "unknown" if seconds is None else str(timedelta(seconds=round(seconds)))


def _matching(planned: Plan) -> list[str]:
    task = planned.study.budget.task if planned.study.budget else ""
    out = [f"of {task} alone:"] if task else []
    for name in QUANTITIES:
        spread = planned.spread(name)
        said = "matched, within" if spread <= TOLERANCE else "not matched, they differ by"
        out.append(f"{name}: {said} {spread:.1%}")
    return out
