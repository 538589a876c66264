"""One job of a study, in this process: trained if needed, then scored.

What `unify study` does with each job when it runs them one after the other, and what each of its
processes, and each job on a cluster, does with its own.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from unify.assembly.assemble import open_run
from unify.distributed.local_launch import spawn, spawns
from unify.distributed.ranks import is_first
from unify.evaluation.score_run import Row, evaluate, stored_scores
from unify.evaluation.scores_identity import SCORING
from unify.runs.folder import Run, finished_or_stopped
from unify.runs.lookup import set_scoring_runs
from unify.runs.saved_config import put_back_config, replace_config, saved_config
from unify.schema.completed import Config
from unify.study.arms import resolve_arms, resolve_jobs
from unify.study.jobs import Job, StudyRequest, error_file
from unify.study.sampler_sweep import settled_config
from unify.study.tuning_trials import plan_trials, tuned_arms
from unify.support.atomic_files import write_atomically
from unify.support.stop_protocol import Stopped
from unify.support.terminal import echo
from unify.tracking.mlflow_process import delivery, ship_scores
from unify.training.train_run import train

Say = Callable[[str], None]


def finish_job(job: Job, say: Say = echo) -> list[Row]:
    """Train and score a job as far as it is not, and send the scores to MLflow; returns them.

    Stopped if a signal ended the training; the same call resumes it. The traceback of any other
    error is left in the study's folder.
    """
    with error_in_study_folder(job):
        run = finished_or_stopped(train(job.config, say, scored=True))
        rows = score(run, job, say)
        ship_scores(run.folder, job.config["machine"]["tracker"], job.config["machine"]["runs"])
        return rows


def run_arm(request: StudyRequest, arm: str, seed: int | None, say: Say, untimed: bool) -> int:
    """Train and score the jobs of one arm, or of one trial of it; nothing is reported.

    Args:
        request: the study; its `only`, `at_once` and `gather` are not read.
        arm: the name of an arm, or `<arm>,trial=<n>`.
        seed: one of the study's seeds; None for all of them.
        untimed: leave out metrics of speed, which need a quiet machine.

    Returns the exit status: that of the ranks where this process starts several.
    """
    jobs = _jobs_of_arm(request, arm, seed)
    machine = jobs[0].config["machine"]
    if spawns(machine):
        return spawn(machine["devices"], say)
    runs = []
    with delivery():
        for job in jobs:
            with error_in_study_folder(job):
                runs.append(finished_or_stopped(train(job.config, say, scored=True)))
        for job, run in zip(jobs, runs, strict=True):
            with error_in_study_folder(job):
                score(run, job, say, untimed)
                if is_first():
                    ship_scores(run.folder, machine["tracker"], machine["runs"])
            say(f"run: {run.folder}")
    return 0


def _jobs_of_arm(request: StudyRequest, arm: str, seed: int | None) -> list[Job]:
    """At least one job; ValueError names the arms and seeds that there are."""
    study, arms = resolve_arms(request)
    if study.tune and ",trial=" in arm:
        followed = [one for one, trial in study.trial_seeds.items() if seed in (None, trial)]
        trials = plan_trials(request, followed if study.whole else None).jobs.values()
        jobs = [job for each in trials for job in each if job.arm == arm]
    else:
        jobs = [job for job in resolve_jobs(request, study, arms, seed) if job.arm == arm]
    if not jobs:
        raise ValueError(
            f"{request.path} has no arm {arm!r} with seed {seed}; it has arms {', '.join(arms)} "
            f"with seeds {', '.join(map(str, study.seeds))}"
        )
    tuned = tuned_arms(request) if study.tune and ",trial=" not in arm else None
    if tuned is not None and not tuned >= {study.tuning_of(job.arm, job.seed) for job in jobs}:
        raise ValueError(
            f"{arm} is not tuned yet, as {request.path} asks: `unify study` runs its trials first, "
            "and so does `unify submit`"
        )
    return jobs


def score(run: Run, job: Job, say: Say, untimed: bool = False) -> list[Row]:
    """The scores that a job asks of its finished run; measured if they are not stored. All ranks.

    A run that existed keeps what it was trained with, and is scored as is asked now: with the best
    of the settings of its samplers, where the job has some to try.
    """
    config = settled_config(run, job, say)
    if is_first():
        _set_scoring(run, config)
    stored = stored_scores(run, config, untimed)
    if stored is not None:
        return stored
    _, _, recipe = open_run(run.folder, trusted_files=True, machine=config["machine"])
    say(f"{run.folder}: evaluating")
    return evaluate(run, recipe, config, untimed=untimed)


def _set_scoring(run: Run, config: Config) -> None:
    """Write the settings of samplers and metrics into the run's configuration."""
    put_back_config(run, config)
    trained = saved_config(run, trusted_files=True)
    wanted = {**trained, **{key: config[key] for key in SCORING}}
    if wanted != trained:
        replace_config(run, wanted)
    set_scoring_runs(run, config)


@contextmanager
def error_in_study_folder(job: Job) -> Iterator[None]:
    """Leaves the traceback of what fails in the study's folder, where the report finds it."""
    path = error_file(job)
    try:
        yield
    except Stopped:
        raise
    except Exception:
        with suppress(OSError):  # the disk is full, and the error says so
            write_atomically(path, traceback.format_exc())
        raise
    with suppress(OSError):
        path.unlink(missing_ok=True)  # of an attempt before
