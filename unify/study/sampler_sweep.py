"""Sampler settings by a sweep: tried on the weights of a trained run, and nothing is trained.

    sweep:
      metric: text_to_image/exact        # on the validation split; of a list, their mean
      settings: 12                       # of every run; the first is the arm's own
      evaluation: {prompts: 256, geneval: 0}     # arguments of the metrics that give the score
      space:
        image_sampling.guidance: [1, 1.5, 2, 3]
        image_sampling.temperature: {low: 0.5, high: 1.2}

Every arm under every seed chooses for itself, from its own weights: a replicate shares no choice
with another. Settings are drawn as trials are (study/tuning.py), each once; an arm whose space has
fewer tries all of them. A key that an arm lacks is not in its space. All settings of a run are
scored on the same prompts with the same noise, none of them of the final scores. The best one, the
first of equals, is what the run is then scored with. What was tried is kept in the run's folder
(runs/sampler_settings.py), setting by setting, so that a sweep that was stopped goes on.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from unify.assembly.assemble import open_run
from unify.config import build, locate_class
from unify.config.cross_checks import sampling_words
from unify.config.grid import as_overrides
from unify.config.tuning_space import SAMPLING, setting_at
from unify.config.validation_metrics import validation_metrics
from unify.data.module import Data
from unify.distributed.ranks import broadcast_first, in_step, is_first
from unify.evaluation.score_run import measure
from unify.evaluation.scores_identity import scores_identity
from unify.metrics.metric import available_records
from unify.runs.folder import Run
from unify.runs.sampler_settings import (
    TriedSetting,
    TriedSettings,
    read_settings,
    write_settings,
)
from unify.schema.completed import Config
from unify.schema.experiment import Recipe
from unify.schema.study import Study, Sweep
from unify.study.chosen_by import best_of, direction, mean_score, metric_name
from unify.study.jobs import Job, SamplerSweep
from unify.study.tuning import DEFAULT, Values, draw_value
from unify.support.stop_protocol import kept_if_interrupted

T = TypeVar("T")
MOST_DRAWS = 50  # for each setting that is asked for: then the space is taken as exhausted


def with_sweeps(study: Study, jobs: Sequence[Job]) -> list[Job]:
    """The jobs, each with the settings that are to be tried on its weights.

    Arms that stay as they are (`tune.defaults`) have none. ValueError for a sweep that could not be
    scored, before anything is trained.
    """
    sweep = study.sweep
    if sweep is None:
        return list(jobs)
    checked: dict[str, list[Config]] = {}
    planned = []
    for job in jobs:
        if job.arm.endswith(f",{DEFAULT}"):
            planned.append(job)
            continue
        if job.arm not in checked:
            checked[job.arm] = validation_metrics(job.config, sweep.metrics, sweep.evaluation)
            _check(job, sweep, checked[job.arm])
        own = job.config["seeds"]["init"] if study.whole else 0  # a replicate draws its own
        values = draw_settings(sweep, job.config, own)
        of_job = SamplerSweep(tuple(sweep.metrics), tuple(values), tuple(checked[job.arm]))
        planned.append(replace(job, sweep=of_job))
    return planned


def _check(job: Job, sweep: Sweep, metrics: Sequence[Config]) -> None:
    """ValueError where no metric gives the score, or there is nothing to score on."""
    if not metrics:
        raise ValueError(
            f"sweep: {job.arm} has no metric with a split that gives {' or '.join(sweep.metrics)}; "
            "see evaluation"
        )
    data = build(job.config["data"])
    assert isinstance(data, Data)
    for node in metrics:
        metric: Any = locate_class(node["class"], trusted=True)
        for task in sorted({*metric.tasks} & {*data.tasks}):
            try:
                available_records(data.source, task, "validation")
            except ValueError as error:
                raise ValueError(f"sweep: {job.arm}: {error}") from None


def draw_settings(sweep: Sweep, config: Config, added: int = 0) -> list[Values]:
    """The settings of an arm, each once; the first changes nothing.

    `added`: to the seed of the draws; arms for which it is the same draw the same values.
    ValueError for a value that a sampler does not take.
    """
    own = {
        key: setting_at(config, key)
        for key in sweep.space
        for kind, _, name in [key.partition(".")]
        if name in config.get(kind, {})
    }
    settings: list[Values] = [{}]
    seen = {_sampling(config)}
    for n in range(1, MOST_DRAWS * sweep.settings):
        if len(settings) == sweep.settings:
            break
        seed = sweep.seed + added
        values = {k: draw_value("sweep", sweep.space[k], seed, k, v, n) for k, v in own.items()}
        new = _sampling(at_setting(config, values))
        if new not in seen:
            seen.add(new)
            settings.append(values)
    return settings


def _sampling(config: Config) -> str:
    return json.dumps([config[kind] for kind in SAMPLING], sort_keys=True, default=str)


def at_setting(config: Config, values: Values) -> Config:
    """The configuration at these values of its samplers; ConfigError for one that is none."""
    changed = dict(config)
    model = locate_class(config["model"]["class"], trusted=True)
    for kind, sampler in SAMPLING.items():
        own = {k.partition(".")[2]: v for k, v in values.items() if k.startswith(f"{kind}.")}
        if own:
            words = sampling_words(as_overrides(own), model, sampler.removesuffix("_sampler"))
            changed[kind] = {**config[kind], **words}
    return changed


def best_config(run: Run, job: Job) -> Config | None:
    """The configuration that a run is scored by: at its best setting, or as it is without a sweep.

    None where settings have not been tried. ValueError where what was tried is damaged.
    """
    if job.sweep is None:
        return job.config
    tried = read_settings(run.folder)
    if tried is None or tried.best is None or tried.metric != metric_name(job.sweep.metrics):
        return None
    as_asked = [setting.asked for setting in tried.settings] == [
        scores_identity(run, config) for config in _configs(job)
    ]
    if not as_asked or not all(_precise(job, setting) for setting in tried.settings):
        return None
    return at_setting(job.config, job.sweep.values[tried.best])


def settled_config(run: Run, job: Job, say: Callable[[str], None]) -> Config:
    """`best_config`, whose settings are tried now as far as they were not. All ranks call.

    ValueError if none of them has a score.
    """
    config = _from_first(partial(best_config, run, job))
    if config is None:
        assert job.sweep is not None
        say(f"{run.folder}: trying {len(job.sweep.values)} settings of its samplers")
        kept = f"{run.folder} has the settings that were tried, and the same command goes on"
        with run.writing(wait=True), kept_if_interrupted(kept):
            _try_all(run, job)
        config = _from_first(partial(best_config, run, job))
    assert config is not None
    return config


def _from_first(read: Callable[[], T]) -> T:
    """What the first rank reads, on all ranks, or its ValueError on all."""
    found, problem = None, ""
    if is_first():
        try:
            found = read()
        except ValueError as error:
            problem = str(error)
    found, problem = broadcast_first((found, problem))
    if problem:
        raise ValueError(problem)
    return found  # type: ignore[return-value]


def _try_all(run: Run, job: Job) -> None:
    """Score each setting that has no score, and write down which is the best."""
    sweep = job.sweep
    assert sweep is not None
    name = metric_name(sweep.metrics)
    before = _from_first(partial(read_settings, run.folder)) or TriedSettings(name)
    usable = before.settings if before.metric == name else []
    known = {one.asked: one for one in usable if _precise(job, one)}
    tried = TriedSettings(name, before.better)
    opened: Recipe | None = None
    for values, config in zip(sweep.values, _configs(job), strict=True):
        setting = known.pop(asked := broadcast_first(scores_identity(run, config)), None)
        if setting is None:
            scoring = {"evaluation": list(sweep.evaluation)}
            opened = opened or open_run(run.folder, True, config["machine"], scoring)[2]
            setting, better = _try(run, opened, config, values, sweep.metrics, asked)
            tried.better = better or tried.better
        tried.settings.append(setting)
        if is_first():  # what is known of later ones stays
            write_settings(run.folder, replace(tried, settings=[*tried.settings, *known.values()]))
    tried.best = best_of([setting.score for setting in tried.settings], tried.better)
    if tried.best is None:
        errors = dict.fromkeys(s.error or "no value" for s in tried.settings)
        raise ValueError(f"sweep: no setting of {job.name} has a score: {'; '.join(errors)}")
    if is_first():
        write_settings(run.folder, tried)


def _configs(job: Job) -> Iterator[Config]:
    """The configuration by which each setting is scored."""
    assert job.sweep is not None
    evaluation = {"evaluation": list(job.sweep.evaluation)}
    yield from ({**at_setting(job.config, values), **evaluation} for values in job.sweep.values)


def _precise(job: Job, setting: TriedSetting) -> bool:
    """True if a setting was scored in the precision that is asked for; `auto` takes any."""
    asked = job.config["machine"]["precision"]
    return asked == "auto" or setting.precision in (None, asked)


def _try(
    run: Run, opened: Recipe, config: Config, values: Values, metrics: Sequence[str], asked: str
) -> tuple[TriedSetting, str]:
    """A setting and its score, and which scores are better; empty for a setting that failed."""
    start = time.monotonic()
    recipe = replace(opened, **{kind: config[kind] for kind in SAMPLING})
    facts: dict[str, Any] = broadcast_first(run.info)
    rows, error = [], ""
    try:
        with in_step():
            rows = [score.row() for score in measure(recipe, facts, recipe.evaluation)[0]]
    except ValueError as problem:  # of the sampler, which does not draw so
        error = str(problem)
    score = mean_score("sweep", metrics, rows)
    better = direction("sweep", metrics, [rows]) if rows else ""
    named = [row for row in rows if row["metric"] in metrics]
    setting = TriedSetting(
        values=values,
        score=score,
        scores={row["metric"]: row["value"] for row in named},
        n=max((int(row["n"] or 0) for row in named), default=0),
        seconds=round(time.monotonic() - start, 3),
        asked=asked,
        precision=next((row["passport"].get("precision") for row in named), None),
        error=error,
    )
    return setting, better
