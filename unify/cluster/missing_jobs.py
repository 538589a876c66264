"""The jobs that a study still needs on a cluster, in levels of which each starts after the last.

needed runs (tokenizers, language models)   a level for each: what the next starts from
trials of the arms that are to be tuned     one level, if there are any
the choice of the best trials               one job, when the trials have ended, well or not
arms and seeds                              one level; with cool-downs, those that train a trunk
                                            first, and then those that go on from it
the report                                  one job, when the arms have ended, well or not
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unify.evaluation.score_run import stored_scores
from unify.runs.lookup import find_finished, find_scored
from unify.schema.completed import Config
from unify.schema.study import Study
from unify.study.arms import resolve_jobs
from unify.study.cooldowns import one_of_each_trunk
from unify.study.jobs import Job, StudyRequest
from unify.study.needed_runs import NeededRun, needed_of
from unify.study.sampler_sweep import best_config
from unify.study.tuning_trials import plan_trials, tuned_arms


@dataclass(frozen=True)
class ClusterJob:
    """A command for SLURM."""

    name: str
    words: tuple[str, ...]  # after `unify`
    level: int  # it starts when the jobs of the level below have ended
    config: Config | None = None  # what it trains; None: it reads what others did, on one rank
    whatever: bool = False  # whether it starts even if the jobs below have failed


def missing_jobs(request: StudyRequest, study: Study, arms: dict[str, Config]) -> list[ClusterJob]:
    """The jobs that are left of a study, in order of their levels; none if all is trained and
    scored. Without a cluster they can be run one after the other.

    Args:
        request: what each job's command repeats.
        study: the study, and its `arms` completed.
    """
    plans = plan_trials(request) if study.tune else None
    untuned = plans.missing({*plans.arms}) if plans else {}
    tuned = tuned_arms(request) if study.tune else {*arms}
    trials = [job for jobs in untuned.values() for job in jobs if not _is_scored(job)]
    runs = [
        job
        for job in resolve_jobs(request, study, arms)
        if study.tuning_of(job.arm, job.seed) not in tuned or not _is_scored(job)
    ]
    if not runs:
        return []
    needed = needed_of([*trials, *runs])
    level = max([run.level + 1 for run in needed], default=0)
    missing = [run for run in needed if find_finished(run.config, reuse=True) is None]
    jobs = _distinct_names([_needed_job(run) for run in missing])
    if trials:
        jobs += [_job(request, job, level) for job in trials]
        level += 1
    if untuned:
        words = ("study", *request.words, "--choose")
        jobs.append(ClusterJob("choice", words, level, whatever=bool(trials)))
        level += 1
    # of an arm that could not be tuned, the run itself says so; the others need not wait for it
    first = one_of_each_trunk(runs)
    jobs += [replace(_job(request, job, level), whatever=bool(untuned)) for job in first]
    if later := [job for job in runs if job not in first]:
        level += 1
        jobs += [replace(_job(request, job, level), whatever=True) for job in later]
    against = ("--against", request.against) if request.against else ()
    gather = ("study", *request.words, "--gather", *against)
    return [*jobs, ClusterJob("report", gather, level + 1, whatever=True)]


def levels(jobs: Sequence[ClusterJob]) -> list[list[ClusterJob]]:
    """The jobs of each level, from the first to the last; none is empty."""
    by_level: dict[int, list[ClusterJob]] = {}
    for job in jobs:
        by_level.setdefault(job.level, []).append(job)
    return [by_level[level] for level in sorted(by_level)]


def _job(request: StudyRequest, job: Job, level: int) -> ClusterJob:
    own = ("--arm", job.arm, "--seed", str(job.seed), "--untimed")
    words = ("study", *request.words, *own)
    return ClusterJob(f"{job.arm}-s{job.seed}", words, level, job.config)


def _is_scored(job: Job) -> bool:
    """True if a run is finished and has its scores, except perhaps of its speed."""
    run = find_scored(job.config)
    config = best_config(run, job) if run is not None else None
    return bool(run and config and stored_scores(run, config, untimed=True) is not None)


def _distinct_names(jobs: Sequence[ClusterJob]) -> list[ClusterJob]:
    """The jobs, those after the first of a name numbered: seeds of data or noise are in no name."""
    names = [job.name for job in jobs]
    before = [names[:place].count(name) for place, name in enumerate(names)]
    return [
        replace(job, name=f"{job.name}.{n + 1}") if n else job
        for job, n in zip(jobs, before, strict=True)
    ]


def _needed_job(run: NeededRun) -> ClusterJob:
    """What trains a run that others start from."""
    part = run.config
    seeds = [f"seeds.{name}={value}" for name, value in part["seeds"].items()]
    added = part["needed_seeds"] if run.level else None  # it matters to what it starts from alone
    seeds += [f"needed_seeds.{name}={value}" for name, value in (added or {}).items()]
    machine = [f"machine.{k}={json.dumps(v)}" for k, v in part["machine"].items()]
    tiny = ["--tiny"] if run.tiny else []
    words = ("train", "-c", run.path, *tiny, *seeds, *machine)
    return ClusterJob(f"{part['name']}-s{part['seeds']['init']}", words, run.level, part)
