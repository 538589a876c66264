"""Equal tuning: for every arm as many trials of the same length, over one declared space.

    tune:
      metric: text_to_image/exact      # on the validation split
      trials: 8
      share: 0.25                      # of the arm's budget, for each trial
      space:
        optimizer.lr: {factor: 3}                    # around the arm's own, log-uniform
        model.time.mean: {low: -2, high: 0.5}        # uniform; with `log: true`, log-uniform
        image_sampling.guidance: [1, 1.5, 2.5]       # one of these

Trial 0 is the arm as it is. The others are drawn at random, each key from a stream of its own, so
that arms which share a key try it alike; a key that an arm has not is none of its space. A range of
whole numbers around a whole number gives whole numbers. All trials have one seed that is none of
the study's. The best one's values are what the arm is trained with; what is to be the `same` as
another arm has that arm's values, and no trials.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unify.config import OUTSIDE_HASH
from unify.config.grid import as_overrides
from unify.evaluation.score_run import SCORING
from unify.noise import stable_seed
from unify.runs.folder import write_json
from unify.runs.lookup import needed_configs
from unify.runs.study_files import read_tuning
from unify.schema.completed import Config
from unify.schema.study import Study, Tune

Values = dict[str, Any]  # dotted key -> value
DEFAULT = "default"  # of an arm that is trained as it is, beside the tuned one


@dataclass
class Trial:
    """What a trial of an arm came to. `score` is None where it failed."""

    values: Values
    score: float | None
    steps: int
    flops: float
    seconds: float


def draw_values(tune: Tune, config: Config, trial: int) -> Values:
    """The values of a trial, 0 being the arm as it is. ValueError if no key of the space is its."""
    there = {key: value for key in tune.space if (value := _at(config, key)) is not None}
    if not there:
        raise ValueError(
            f"tune.space: {config['name']} has none of {', '.join(tune.space)}; name a setting "
            "that it has"
        )
    return {} if trial == 0 else {k: _draw(tune, k, own, trial) for k, own in there.items()}


def _at(config: Config, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _draw(tune: Tune, key: str, own: Any, trial: int) -> Any:
    u = np.random.default_rng(stable_seed("tune", tune.seed, trial, key)).random()
    said = tune.space[key]
    if isinstance(said, list):
        return said[int(u * len(said))]
    if "factor" in said and (not isinstance(own, (int, float)) or own == 0):
        raise ValueError(f"tune.space.{key}: there is no factor around {own!r}; give low and high")
    value = _inside(said, own, u)
    whole = isinstance(own, int) and all(isinstance(end, int) for end in said.values())
    return round(value) if whole else _rounded(value)


def _inside(said: dict[str, Any], own: Any, u: float) -> float:
    if "factor" in said:
        return own * said["factor"] ** (2 * u - 1)
    low, high = said["low"], said["high"]
    return low * (high / low) ** u if said.get("log") else low + (high - low) * u


def _rounded(value: float) -> float:
    """Three significant digits: what a person would write down."""
    return float(f"{value:.3g}")


def best_trial(tune: Tune, trials: list[Trial]) -> int:
    """The first of the best, so that an arm stays as it is unless that is better."""
    scores = [-math.inf if t.score is None else t.score * (-1 if tune.lower else 1) for t in trials]
    if max(scores) == -math.inf:
        raise ValueError("every trial failed, that of the arm as it is too")
    return scores.index(max(scores))


def save_trials(folder: Path, study: Study, arm: str, config: Config, trials: list[Trial]) -> None:
    """Write down the trials of an arm."""
    assert study.tune is not None
    entry = {
        "asked": _asked(study, config),
        "metric": study.tune.metric,
        "lower": study.tune.lower,
        "best": best_trial(study.tune, trials),
        "trials": [asdict(trial) for trial in trials],
    }
    write_json(folder / "tuning.json", {**read_tuning(folder), arm: entry})


def chosen_overrides(study: Study, arms: dict[str, Config]) -> dict[str, list[str]]:
    """The best values as overrides, of the arms that have been tuned as the study now asks."""
    if study.tune is None or not arms:
        return {}
    known = read_tuning(Path(next(iter(arms.values()))["machine"]["runs"]) / study.name)
    found = {
        arm: as_overrides(known[arm]["trials"][known[arm]["best"]]["values"])
        for arm, config in arms.items()
        if arm in known and known[arm]["asked"] == _asked(study, config)
    }
    return found | {arm: found[than] for arm, than in _twins(study).items() if than in found}


def trained_by_trials(study: Study, arms: Iterable[str]) -> list[str]:
    """The arms that have trials: neither those as they are, nor those that are another's twin."""
    return [a for a in arms if a not in _twins(study) and not a.endswith(f",{DEFAULT}")]


def _twins(study: Study) -> dict[str, str]:
    return {c.arm: c.than for c in study.controls if c.expect == "same"}


def _asked(study: Study, config: Config) -> str:
    """What the outcome of tuning depends on: the space, the budget, the arm as it is, and what it
    starts from."""
    budget = study.budget_of(config["name"])
    outside = {*OUTSIDE_HASH, *(["steps"] if budget else [])}  # steps follow from a budget
    kept = {key: value for key, value in config.items() if key not in outside}
    scoring = [config[key] for key in SCORING]
    before = [
        {key: value for key, value in part.items() if key not in OUTSIDE_HASH}
        for part in needed_configs(config).values()
    ]
    settings = [study.tune and vars(study.tune), budget and vars(budget)]
    text = json.dumps([settings, kept, scoring, before], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
