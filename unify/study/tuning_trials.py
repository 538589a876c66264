"""The trials of a study that tunes its arms (study/tuning.py): which runs they are, how they ended.

They are runs like any other, in a folder of their own: runs/<study>-tuning/<arm>,trial=3-s1000-...
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unify.config.grid import as_overrides
from unify.evaluation.score_run import Row
from unify.runs.lookup import find_run, replicate
from unify.schema.completed import Config
from unify.schema.study import Tune
from unify.study.arms import budgeted
from unify.study.tuning import (
    DEFAULT,
    Trial,
    chosen_overrides,
    draw_values,
    save_trials,
    trained_by_trials,
)

Finish = Callable[[str, int, Config], list[Row]]  # (arm, seed, config) -> scores; none if it failed


class Trials:
    """Of every arm of a study, at the budget of a trial."""

    def __init__(self, path: str, overrides: list[str], tiny: bool = False):
        self.study, self.arms = budgeted(path, overrides, tiny, {})
        assert self.study.tune is not None
        self.tune: Tune = self.study.tune
        self.values: dict[str, list[dict[str, Any]]] = {
            arm: [draw_values(self.tune, config, n) for n in range(self.tune.trials)]
            for arm, config in self.arms.items()
        }
        unknown = [k for k in self.tune.space if not any(k in v[1] for v in self.values.values())]
        if unknown:
            raise ValueError(
                f"tune.space: no arm has {', '.join(unknown)}; give the whole path, as in "
                "model.trunk.dim"
            )
        self.trained = set(trained_by_trials(self.study, self.arms))
        always = as_overrides(self.tune.set)
        self.configs: dict[str, Config] = {}  # by "<arm>,trial=<n>"
        for n in range(self.tune.trials):
            tried = {arm: [*as_overrides(each[n]), *always] for arm, each in self.values.items()}
            for arm, config in budgeted(path, overrides, tiny, tried)[1].items():
                self.configs[f"{arm},trial={n}"] = self._trial(f"{arm},trial={n}", config)

    def _trial(self, name: str, config: Config) -> Config:
        """An arm's configuration as that of a trial: shorter, elsewhere, scored on validation.

        Held-out pairs are the test's alone.
        """
        scored = [
            {**metric, "split": "validation", **({"heldout": 0} if "heldout" in metric else {})}
            for metric in config["evaluation"]
            if "split" in metric
        ]
        if not scored:
            raise ValueError(
                f"tune: {name} has no metric that is measured on a split; see evaluation"
            )
        steps = max(1, round(config["steps"] * self.tune.share))
        place = {"name": name, "study": f"{self.study.name}-tuning"}
        return replicate({**config, **place, "steps": steps, "evaluation": scored}, self.tune.seed)

    def missing(self, only: set[str]) -> list[tuple[str, int, Config]]:
        """The runs of those arms that have not been tuned as the study now asks."""
        done = chosen_overrides(self.study, self.arms)
        return [
            (name, self.tune.seed, config)
            for name, config in self.configs.items()
            if name.rpartition(",trial=")[0] in only & self.trained - done.keys()
        ]

    def tuned(self) -> set[str]:
        """The arms that have been tuned as the study now asks, and those that are as they are."""
        plain = self.arms if self.tune.defaults else ()
        return {*chosen_overrides(self.study, self.arms), *(f"{arm},{DEFAULT}" for arm in plain)}

    def run(self, only: set[str], finish: Finish) -> dict[str, str]:
        """Finish what is missing, and write down of each arm what was best; why not, by arm."""
        runs: dict[str, list[tuple[str, int, Config]]] = {}
        for name, seed, config in self.missing(only):
            runs.setdefault(name.rpartition(",trial=")[0], []).append((name, seed, config))
        failed = {}
        for arm, its in runs.items():
            try:
                trials = [
                    _outcome(self.tune, config, values, finish(name, seed, config))
                    for (name, seed, config), values in zip(its, self.values[arm], strict=True)
                ]
                folder = Path(self.arms[arm]["machine"]["runs"]) / self.study.name
                save_trials(folder, self.study, arm, self.arms[arm], trials)
            except ValueError as error:
                failed[arm] = str(error)
        return failed


def _outcome(tune: Tune, config: Config, values: dict[str, Any], rows: list[Row]) -> Trial:
    run = find_run(config)
    facts = run.info if run else {}
    flops = facts.get("flops_per_step", 0.0) * config["steps"]
    return Trial(values, _score(tune, rows), config["steps"], flops, facts.get("train_seconds", 0))


def _score(tune: Tune, rows: list[Row]) -> float | None:
    """None of a run that failed. ValueError if the metric is not among what was scored."""
    if not rows:
        return None
    scores = {row["metric"]: row["value"] for row in rows}
    if tune.metric not in scores:
        raise ValueError(
            f"tune.metric: {tune.metric} is not scored on validation; there are "
            f"{', '.join(sorted(scores))}"
        )
    return scores[tune.metric] if math.isfinite(scores[tune.metric]) else None
