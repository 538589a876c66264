"""Equal tuning: for every arm as many trials of the same length, over one declared space.

    tune:
      metric: text_to_image/exact      # on the validation split; of a list, their mean
      trials: 8
      share: 0.25                      # of the arm's budget, for each trial
      space:
        optimizer.lr: {factor: 3}                    # around the arm's own, log-uniform
        model.time.mean: {low: -2, high: 0.5}        # uniform; with `log: true`, log-uniform
        image_sampling.guidance: [1, 1.5, 2.5]       # one of these

Trial 0 is the arm as it is. The others are drawn at random (Bergstra and Bengio, JMLR 2012), each
key from a stream of its own, so that arms which share a key try the same values of it; a key that
an arm lacks is not in its space. A setting of whole numbers gets whole numbers. All trials have
one seed, which is none of the study's. The arm is then trained with the values of its best trial;
an arm that a control expects to be the `same` as another has no trials, and takes over the values
of that one.

With `replicate: all`, all of this is done anew under each seed of the study: trials draw values of
their own, start from the tokenizers and language models of that seed, and choose for that seed
alone. Every arm then has trials, as a second draw of an arm is one of its tuning, too.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unify.config import OUTSIDE_HASH, trained_keys, user_files, weight_folders
from unify.config.grid import as_overrides
from unify.config.tuning_space import ends_of, is_whole, setting_at
from unify.data.world.streams import VERSION as WORLD_VERSION
from unify.data.world.templates import VERSION as CHECKER_VERSION
from unify.evaluation.scores_identity import SCORING, scoring_versions
from unify.noise import stable_seed
from unify.runs.folder import write_json
from unify.runs.lookup import data_fingerprint, needed_configs
from unify.runs.study_files import read_tuning
from unify.schema.completed import Config
from unify.schema.study import Study, Tune
from unify.study.chosen_by import best_of, metric_name
from unify.study.jobs import replicate_of

Values = dict[str, Any]  # dotted key of a configuration -> value
DEFAULT = "default"  # <arm>,default is trained as it is, beside the tuned <arm>


@dataclass
class Trial:
    """The outcome of one trial of an arm; `score` is None if it failed."""

    values: Values
    score: float | None
    steps: int
    flops: float
    seconds: float


def draw_values(tune: Tune, config: Config, trial: int, added: int = 0) -> Values:
    """The values of a trial; none for trial 0. ValueError if the arm has no key of the space.

    `added`: to the seed of the draws; arms for which it is the same try the same values.
    """
    settings = {key: setting_at(config, key) for key in tune.space}
    own = {key: setting for key, setting in settings.items() if setting[0] is not None}
    if not own:
        raise ValueError(
            f"tune.space: {config['name']} has none of {', '.join(tune.space)}; name a setting "
            "that it has"
        )
    seed = tune.seed + added
    return {
        key: draw_value("tune", tune.space[key], seed, key, setting, trial)
        for key, setting in (own.items() if trial else ())
    }


def draw_value(
    of: str, choice: Any, seed: int, key: str, setting: tuple[Any, Any], trial: int
) -> Any:
    """The value of one key by its choices in a space; equal for arms with an equal setting.

    `of`: the study's key that has the space, `tune` or `sweep`; `setting`: the arm's own value, and
    its annotation.
    """
    u = np.random.default_rng(stable_seed(of, seed, trial, key)).random()
    if isinstance(choice, list):
        return choice[int(u * len(choice))]
    own, hint = setting
    if "factor" in choice and (not isinstance(own, (int, float)) or own == 0):
        raise ValueError(f"{of}.space.{key}: there is no factor around {own!r}; give low and high")
    low, high = sorted(ends_of(choice, own))
    logarithmic = "factor" in choice or choice.get("log")
    value = low * (high / low) ** u if logarithmic else low + (high - low) * u
    if is_whole(hint) or all(isinstance(number, int) for number in (own, *choice.values())):
        return round(value)
    return min(max(float(f"{value:.{_digits(low, high)}g}"), low), high)


def _digits(low: float, high: float) -> int:
    """Three significant digits, as a person would write a value; more where they tell no two of a
    narrow range apart."""
    apart = max(abs(low), abs(high)) / (high - low) if high > low else 1.0
    return 3 + max(0, math.floor(math.log10(apart)))


def best_trial(trials: list[Trial], better: str) -> int:
    """The index of the best trial, the first of equals: an arm changes only for what is better."""
    best = best_of([trial.score for trial in trials], better)
    if best is None:
        raise ValueError("every trial failed, that of the arm as it is too")
    return best


def save_trials(
    folder: Path, study: Study, key: str, config: Config, trials: list[Trial], better: str
) -> None:
    """Write the trials of an arm into tuning.json of the study's folder.

    Args:
        key: `Study.tuning_of` the arm.
        config: the arm as it is; of trials for one seed of the study, under that seed.
        better: `higher` or `lower`, as the scores of the metric state it.
    """
    assert study.tune is not None
    entry = {
        "arm": config["name"],
        "seed": config.get("replicate"),
        "asked": _tuning_hash(study, config),
        "metric": metric_name(study.tune.metrics),
        "better": better,
        "best": best_trial(trials, better),
        "trials": [asdict(trial) for trial in trials],
    }
    write_json(folder / "tuning.json", {**read_tuning(folder), key: entry})


def chosen_overrides(
    study: Study, arms: dict[str, Config], seed: int | None = None
) -> dict[str, list[str]]:
    """The best values as overrides, by arm, of arms that have been tuned as the study now asks.

    `seed`: the seed of the study that the arms are to be trained under; None: its first.
    """
    if study.tune is None or not arms:
        return {}
    seed = study.seeds[0] if seed is None else seed
    stored = read_tuning(Path(next(iter(arms.values()))["machine"]["runs"]) / study.name)
    best = {}
    for arm, config in arms.items():
        entry = stored.get(study.tuning_of(arm, seed))
        if entry and entry.get("asked") == _tuning_hash(study, before_trials(study, config, seed)):
            best[arm] = as_overrides(entry["trials"][entry["best"]]["values"])
    return best | {arm: best[than] for arm, than in _twins(study).items() if than in best}


def before_trials(study: Study, config: Config, seed: int) -> Config:
    """The arm as it is before it is tuned: under the study's seed, if trials are for that alone."""
    return replicate_of(study, config, seed) if study.whole else config


def trained_by_trials(study: Study, arms: Iterable[str]) -> list[str]:
    """The arms that have trials: all but those that stay as they are or follow another arm."""
    return [a for a in arms if a not in _twins(study) and not a.endswith(f",{DEFAULT}")]


def _twins(study: Study) -> dict[str, str]:
    """The arms that take over another's values -> that arm."""
    return {c.arm: c.than for c in study.controls if c.expect == "same" and not study.whole}


def _tuning_hash(study: Study, config: Config) -> str:
    """The hash, 12 hex digits, of all that the outcome of tuning an arm depends on.

    That is the space, the budget, the arm as it is with its data, the runs and weights that it
    starts from, and how trials are scored.
    """
    budget = study.budget_of(config["name"])
    kept = trained_keys(config)
    if budget:
        del kept["steps"]  # which follow from it
    if study.cooldowns:  # which set both
        kept.pop("cooldown", None)
        schedule = {"optimizer": {k: v for k, v in kept["optimizer"].items() if k != "schedule"}}
        kept |= schedule | {"cooldowns": vars(study.cooldowns)}
    scoring = [config[key] for key in SCORING]
    needed = needed_configs(config).values()
    before = [
        {key: value for key, value in part.items() if key not in OUTSIDE_HASH} for part in needed
    ]
    read = [
        [data_fingerprint(part), weight_folders(trained_keys(part))] for part in (config, *needed)
    ]
    judged = [*scoring_versions(config), WORLD_VERSION, CHECKER_VERSION]
    settings = [study.tune and vars(study.tune), budget and vars(budget)]
    content = [settings, kept, scoring, before, read, judged]
    if code := user_files(content):
        content.append(code)
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
