"""One run, several budgets: arms that differ in their steps alone share a run at a constant rate.

    cooldowns: {share: 0.2, shape: linear}
    grid: {budget.steps: [800, 1600, 3200]}

Each arm becomes a run whose rate falls over the last share of its steps, and goes on from a
checkpoint of its trunk (training/trunk.py): one run a seed, as long as the latest of those starts.
"""

import json
from collections.abc import Iterable, Sequence

from unify.config import OUTSIDE_HASH
from unify.config.validation_metrics import scored_steps
from unify.runs.equal_training import trains_like
from unify.schema.completed import Config
from unify.schema.study import Study
from unify.study.jobs import Job, distinct
from unify.training.trunk import trunk_of

END_OF_TRUNK = ",trunk"  # ends the name of a trunk, after that of the first arm without its point


def with_cooldowns(study: Study, arms: dict[str, Config]) -> dict[str, Config]:
    """The arms with the cool-down that the study asks for, and the trunk that they share."""
    if study.cooldowns is None:
        return arms
    cooled = {arm: cooled_down(study, config) for arm, config in arms.items()}
    groups: dict[str, list[str]] = {}
    for arm, config in cooled.items():
        if config["cooldown"]["start"]:
            groups.setdefault(_alike(config), []).append(arm)
    for names in groups.values():
        starts = sorted({cooled[arm]["cooldown"]["start"] for arm in names})
        trunk = {
            "name": names[0].partition(",")[0] + END_OF_TRUNK,
            "steps": starts[-1],
            "keep": starts,
            "scores_at": _scored_at([cooled[arm] for arm in names], starts[-1]),
        }
        for arm in names:
            cooldown = {**cooled[arm]["cooldown"], "trunk": trunk}
            cooled[arm] = {**cooled[arm], "cooldown": cooldown}
    return cooled


def cooled_down(study: Study, config: Config) -> Config:
    """A run of its own steps with the study's cool-down, trained from its first step on."""
    if study.cooldowns is None:
        return config
    steps = config["steps"]
    start = steps - max(1, round(study.cooldowns.share * steps))
    cooldown = {"start": start, "shape": study.cooldowns.shape, "trunk": None}
    optimizer = {**config["optimizer"], "schedule": "constant"}
    return {**config, "optimizer": optimizer, "cooldown": cooldown}


def _alike(config: Config) -> str:
    """Equal for arms that are one run up to where the rate falls."""
    outside = {*OUTSIDE_HASH, "steps", "cooldown"} - {"needed_seeds"}
    kept = {key: value for key, value in config.items() if key not in outside}
    return json.dumps([kept, config["machine"], config["logging"]], sort_keys=True, default=str)


def _scored_at(configs: Iterable[Config], last: int) -> list[int]:
    """The steps of a trunk at which one of its branches is to be scored."""
    at: set[int] = set()
    for config in configs:
        scores = config["logging"]["scores"]
        at |= scored_steps(scores["at"], config["steps"]) if scores else set()
    return sorted(step for step in at if step <= last)


def trunk_key(job: Job) -> str | None:
    """Equal for jobs that go on from one trunk; None for a job without one."""
    trunk = trunk_of(job.config)
    if trunk is None:
        return None
    named = {key: trunk[key] for key in ("name", "study", "seeds", "needed_seeds", "steps")}
    return json.dumps([_alike(trunk), named], sort_keys=True)


def one_of_each_trunk(jobs: Iterable[Job]) -> list[Job]:
    """The jobs, of those that go on from one trunk the first alone: it trains what the others need
    as well, so that none waits for it."""
    seen: set[str] = set()
    kept = []
    for job in jobs:
        key = trunk_key(job)
        if key is None or key not in seen:
            kept.append(job)
        seen |= {key} if key else set()
    return kept


def trained_by_others(jobs: Sequence[Job]) -> dict[str, str]:
    """Names of jobs that wait, and of the job that trains for them: what they train themselves, or
    the trunk that they go on from."""
    first, after = one_of_each_trunk(distinct(jobs)), {}
    for place, job in enumerate(jobs):
        alike = [other for other in jobs[:place] if trains_like(job.config, other.config)]
        key = trunk_key(job)
        of_trunk = [other for other in first if key is not None and trunk_key(other) == key]
        if job not in first and (trainer := next(iter([*alike, *of_trunk]), None)):
            after[job.name] = trainer.name
    return after
