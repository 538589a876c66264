"""A study: its arms tuned, trained under every seed, scored and reported as one.

runs/<study>/{study.json, results.json, report.html, <arm>-s<seed>-<hash>/ ...}
"""

import datetime
import fnmatch
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unify.distributed.local_launch import spawns
from unify.distributed.process_pool import run_at_once
from unify.distributed.ranks import world
from unify.evaluation.score_run import Row
from unify.report.own_files import check_own_files
from unify.report.page import write_report
from unify.runs.folder import write_json
from unify.runs.lookup import find_finished, find_run_if_data
from unify.runs.stored_scores import content_hash, read_scores
from unify.schema.completed import Config
from unify.schema.study import Study
from unify.study.arms import resolve_arms, resolve_jobs
from unify.study.compared_with import keep_published, published_for, say_unlike
from unify.study.cooldowns import trained_by_others
from unify.study.jobs import Job, StudyRequest, check_seed
from unify.study.run_job import finish_job
from unify.study.study_json import write_study_json
from unify.study.tuning_trials import plan_trials, tuned_arms
from unify.support.folder_lock import only_writer
from unify.support.stop_protocol import STOPPED_BY, Stopped, name_of
from unify.support.terminal import echo
from unify.tracking.mlflow_process import NO_WAIT, delivery, ship_study, store_uri

Say = Callable[[str], None]


@dataclass
class Outcome:
    """The folder and the scores of a study, and the jobs that failed."""

    folder: Path
    rows: list[Row]
    failed: dict[str, str]  # name of a job -> message
    mlflow: str  # URI of the store of its runs


def run_study(request: StudyRequest, say: Say = echo) -> Outcome:
    """Tune, train, score and report what is missing. A job that fails does not lose the others.

    With `at_once` above 1, and where a run has several ranks, jobs are processes of their own;
    speed is then measured afterwards, one job after the other. Stopped if a signal ended a job:
    the same call goes on. ValueError if no arm is named by `only`, if another process writes the
    study, or if a file that would be replaced is not ours.
    """
    if world().size > 1:
        raise ValueError(
            "`unify study` is one process, which starts the ranks of each run: call it without "
            "srun and torchrun, or use `unify submit`"
        )
    with delivery():
        return _run_study(request, say)


def _run_study(request: StudyRequest, say: Say) -> Outcome:
    study, arms = resolve_arms(request)
    check_seed(request, study)
    wanted = _wanted_arms(request, list(arms))
    machine = next(iter(arms.values()))["machine"]
    folder = Path(machine["runs"]) / study.name
    with only_writer(folder, say):
        return _run(request, study, arms, wanted, folder, say)


def _run(
    request: StudyRequest,
    study: Study,
    arms: dict[str, Config],
    wanted: set[str],
    folder: Path,
    say: Say,
) -> Outcome:
    """`run_study` of resolved arms, in the folder that it alone writes."""
    check_own_files(folder)
    published = published_for(request, study, say)
    if published is not None:
        say_unlike(published, arms, say)
    machine = next(iter(arms.values()))["machine"]
    failed, tuned = {}, set(arms)
    if study.tune:
        failed = _tune(request, wanted, say)
        tuned = tuned_arms(request)
        study, arms = resolve_arms(request)  # at the best values
    against = keep_published(request, published, folder)
    write_study_json(study, arms, request, folder, tuned, against)
    jobs = resolve_jobs(request, study, arms)
    jobs = [job for job in jobs if study.tuning_of(job.arm, job.seed) in tuned]
    asked = [job for job in jobs if job.arm in wanted and request.seed in (None, job.seed)]
    failed |= _train_in_processes(asked, request, say)
    rows = _score(jobs, {job.name for job in asked}, failed, say)
    _save_results(folder, rows, jobs)
    write_report(folder)
    ship_study(folder, machine["tracker"], machine["runs"])
    return Outcome(folder, rows, failed, store_uri(machine["tracker"], machine["runs"]))


def _wanted_arms(request: StudyRequest, arms: list[str]) -> set[str]:
    """The arms to train and score; none to `gather`."""
    wanted = set(fnmatch.filter(arms, request.only))
    if not wanted:
        raise ValueError(
            f"{request.path} has no arm like {request.only!r}; it has {', '.join(arms)}"
        )
    return set() if request.gather else wanted


def _tune(request: StudyRequest, wanted: set[str], say: Say) -> dict[str, str]:
    """Run the missing trials and write down the best of each arm; returns what failed, and why.

    With `replicate: all`, of each arm under each seed.
    """
    trials = plan_trials(request, None if request.seed is None else {request.seed})
    missing = trials.missing(wanted)
    each = [job for jobs in missing.values() for job in jobs]
    failed = _train_in_processes(each, request, say, speed=False)  # it is no score of a trial
    untuned = {}
    for key, jobs in missing.items():
        rows: list[list[Row]] = []
        try:
            for job in jobs:
                rows.append([] if job.name in failed else _finish(job, failed, say))
                trials.check(rows[-1])
            trials.save(key, rows)
        except ValueError as error:
            untuned[f"{key}, tuning"] = str(error)
            say(f"{key} could not be tuned: {error}")
    return failed | untuned


def _score(jobs: Sequence[Job], wanted: set[str], failed: dict[str, str], say: Say) -> list[Row]:
    """The scores of all jobs; `wanted`, by name, are finished first, and may add to `failed`."""
    rows: list[Row] = []
    for job in jobs:
        if job.name not in wanted:
            rows += _stored_rows(job, failed, say)
        elif job.name not in failed:
            rows += _finish(job, failed, say)
    return rows


def _finish(job: Job, failed: dict[str, str], say: Say) -> list[Row]:
    """The scores of a job; none if it fails, which is then added to `failed`."""
    say(f"== {job.arm}, seed {job.seed}")
    try:
        return finish_job(job, say)
    except Stopped:
        raise
    except Exception as error:
        failed[job.name] = f"{type(error).__name__}: {error}"
        say(f"{job.arm}, seed {job.seed} failed: {error}")
        return []


def _stored_rows(job: Job, failed: dict[str, str], say: Say) -> list[Row]:
    """The scores that the run of a job has, whatever is asked of it now; edited ones fail."""
    try:
        run = find_finished(job.config)
        stored = read_scores(run.folder) if run else None
    except ValueError as error:
        failed[job.name] = str(error)
        say(f"{job.arm}, seed {job.seed}: {error}")
        return []
    return stored.rows if stored else []


def _save_results(folder: Path, rows: list[Row], jobs: Sequence[Job]) -> None:
    """Write results.json, and into study.json the time and the run folders of the study.

    These are the runs of the file as it is now: those of earlier settings stay on disk, and are
    not reported.
    """
    write_json(folder / "results.json", rows)
    runs = [run.folder.name for job in jobs if (run := find_run_if_data(job.config))]
    info = json.loads((folder / "study.json").read_text())
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    written = content_hash(json.loads((folder / "results.json").read_text()))
    facts = {"runs": runs, "results": written, "created": now}
    write_json(folder / "study.json", {**info, **facts})


def _train_in_processes(
    jobs: Sequence[Job], request: StudyRequest, say: Say, speed: bool = True
) -> dict[str, str]:
    """Train and score jobs that one process cannot: several at once, or of several ranks.

    Returns the last words of those that failed, by name. Speed is measured by jobs that have the
    machine to themselves: those of several ranks run again for it, unless `speed` is off.
    """
    ranks = bool(jobs) and spawns(jobs[0].config["machine"])
    if request.at_once == 1 and not ranks:
        return {}
    failed = _run_at_once(jobs, request, request.at_once, say)
    if speed and request.at_once > 1 and ranks:
        left = [job for job in jobs if job.name not in failed]
        failed |= _run_at_once(left, request, 1, say)
    return failed


def _run_at_once(
    jobs: Sequence[Job], request: StudyRequest, at_once: int, say: Say
) -> dict[str, str]:
    """Run `unify study --arm` for each job; the last words of those that failed, by name.

    Of jobs that train alike, all but the first wait and are only scored: two processes would both
    train; and so wait those that go on from one trunk. Stopped if a signal ended one.
    """
    untimed = ["--untimed"] if at_once > 1 else []
    command = [sys.executable, "-m", "unify.cli", "study", *request.words, *untimed]
    commands = {job.name: [*command, "--arm", job.arm, "--seed", str(job.seed)] for job in jobs}
    failed = run_at_once(commands, at_once, say, {NO_WAIT: "1"}, trained_by_others(jobs))
    for status, _ in failed.values():
        if number := STOPPED_BY.get(status):
            raise Stopped(
                f"stopped by {name_of(number)}; the lines above say what each run has saved, "
                "and the same command goes on",
                number,
            )
    return {name: last for name, (_, last) in failed.items()}
