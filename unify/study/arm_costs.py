"""The cost of each arm of a study, and the steps that its budget buys; nothing is trained."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unify.assembly.exported_weights import load_export
from unify.config import LoadWeights, needed_key, trained_code
from unify.costs.step_cost import Cost, cost_of, steps_for
from unify.paradigm import Fitted
from unify.runs.folder import Run
from unify.runs.lookup import find_run
from unify.schema.completed import Config
from unify.schema.study import Study
from unify.study.jobs import Job, replicate_of
from unify.study.needed_runs import NeededRun, needed_of


def arm_costs(study: Study, arms: dict[str, Config]) -> dict[str, Cost]:
    """The cost of every arm, its `steps` solved from the study's budget where there is one.

    What an arm starts from, and what that starts from, counts once each; what only scores it does
    not.

    ValueError names an arm whose budget does not reach.
    """
    costs: dict[str, Cost] = {}
    for arm, config in arms.items():
        found: dict[str, Run | None] = {}
        needed: dict[str, Cost] = {}
        # of the first seed, where each has its own: another vocabulary changes no step
        job = Job(arm, study.seeds[0], replicate_of(study, config, study.seeds[0]))
        for run in needed_of([job], of_scoring=False):
            needed[_label(run, needed)] = _cost(run.config, {}, found)
            found[run.key] = find_run(run.config, reuse=True)
        cost = _cost(config, needed, found)
        budget = study.budget_of(arm)
        if budget is not None:
            try:
                cost.steps = steps_for(budget, cost)
            except ValueError as error:
                raise ValueError(f"{arm}: {error}") from error
        costs[arm] = cost
    return costs


def _cost(config: Config, needed: Mapping[str, Cost], found: Mapping[str, Run | None]) -> Cost:
    """`cost_of`, counted once for configurations that differ in what no cost depends on: trials of
    another learning rate, the same tokenizer under another seed."""
    kept = {key: config[key] for key in ("model", "data", "loss_weights", "steps")}
    runs = {key: run.weights for key, run in found.items() if run is not None and run.finished}
    same = json.dumps([kept, runs, trained_code(config)], sort_keys=True, default=str)
    if same not in COUNTED:
        COUNTED[same] = cost_of(config, load_weights=_load_fitted(found))
    return replace(COUNTED[same], needed=dict(needed))


COUNTED: dict[str, Cost] = {}  # in this process


def with_steps(arms: dict[str, Config], costs: dict[str, Cost]) -> dict[str, Config]:
    """The arms at the number of steps that their costs were solved for."""
    return {arm: {**config, "steps": costs[arm].steps} for arm, config in arms.items()}


def _label(run: NeededRun, taken: Collection[str]) -> str:
    """The name of a needed run in tables: its experiment, and the `seed` of its weights if any.

    With its path where another experiment has that name: each is charged.
    """
    label = run.config["name"] + run.key.removeprefix(run.path).replace(" seed", ", seed")
    return label if label not in taken else f"{label} ({run.path})"


def _load_fitted(found: Mapping[str, Run | None]) -> LoadWeights:
    """Loads fitted parts (vocabularies) alone, from `found` by key: no other weights change costs.

    A vocabulary that is not fitted yet is left empty.
    """

    def load(part: Any, weights: Any) -> None:
        if not isinstance(part, Fitted):
            return
        if not isinstance(weights, dict):
            load_export(part, Path(weights))
            return
        run = found.get(needed_key(weights))
        if run is not None and run.finished:
            load_export(part, run.folder / "export", recorded=run.weights)

    return load
