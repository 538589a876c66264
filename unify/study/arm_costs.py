"""The cost of each arm of a study, and the steps that its budget buys; nothing is trained."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unify.assembly.exported_weights import load_export
from unify.config import LoadWeights, needed_key, needed_runs, trained_code
from unify.costs.step_cost import Cost, cost_of, steps_for
from unify.paradigm import Fitted
from unify.runs.folder import Run
from unify.runs.lookup import find_run, needed_configs
from unify.schema.completed import Config
from unify.schema.study import Study
from unify.study.jobs import replicate_of


def arm_costs(study: Study, arms: dict[str, Config]) -> dict[str, Cost]:
    """The cost of every arm, its `steps` solved from the study's budget where there is one.

    ValueError names an arm whose budget does not reach.
    """
    costs: dict[str, Cost] = {}
    for arm, config in arms.items():
        found: dict[str, Run | None] = {}
        needed: dict[str, Cost] = {}
        # what only scores an arm is no part of its cost
        own_seeds = {key: n.seed for key, n in needed_runs(config).items() if n.trains}
        # of the first seed, where each has its own: another vocabulary changes no step
        for key, part in needed_configs(replicate_of(study, config, study.seeds[0])).items():
            if key in own_seeds:
                needed[_label(part, own_seeds[key])] = _cost(part, {}, found)
                found[key] = find_run(part, reuse=True)
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


def _label(part: Config, seed: int) -> str:
    """The name of a needed run in tables: its experiment, and its seed unless that is 0."""
    return part["name"] + (f", seed {seed}" if seed else "")


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
