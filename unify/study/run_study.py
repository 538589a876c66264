"""A study: arms and seeds, trained, evaluated, compared and reported as one.

runs/<study>/{study.json, results.json, report.html, <arm>-s<seed>-<hash>/ ...}
"""

from __future__ import annotations

import datetime
import fnmatch
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unify.assembly.assemble import open_run
from unify.config import dump, read
from unify.distributed.local_launch import spawn, spawns
from unify.distributed.process_pool import run_at_once
from unify.distributed.ranks import broadcast_first, is_first, world
from unify.evaluation.score_run import SCORING, Row, evaluate, stored_scores
from unify.runs.equal_training import distinct
from unify.runs.folder import Run, finished_or_stopped, write_json
from unify.runs.lookup import find_run_if_data, replicate
from unify.schema.completed import Config
from unify.schema.study import Study
from unify.study.arms import budgeted
from unify.study.study_json import describe
from unify.study.tuning_trials import Trials
from unify.support.atomic_files import write_atomically
from unify.support.stop_protocol import Stopped
from unify.tracking.mlflow_process import ship_scores, store_uri
from unify.training.train_run import train

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What a study left: its folder, rows of results, and the arms that failed."""

    folder: Path
    rows: list[Row]
    failed: dict[str, str]  # "arm seed" -> message
    mlflow: str  # where its runs are


def run_study(
    path: str,
    overrides: list[str],
    say: Say = print,
    tiny: bool = False,
    at_once: int = 1,
    only: str = "*",
    gather: bool = False,
) -> Outcome:
    """Train what is missing, evaluate, report. An arm that fails does not lose the others.

    Runs are trained and scored `at_once` in processes of their own, but for their speed. Arms that
    `only` (a pattern of the shell) does not name stay as they are; the scores they have count. With
    `gather`, all stay as they are.
    """
    from unify.report.page import write_report
    from unify.study.mlflow_study import ship_study

    if world().size > 1:
        raise ValueError(
            "`unify study` is one process, which starts the ranks of each run: call it without "
            "srun and torchrun, or use `unify submit`"
        )
    study, arms = budgeted(path, overrides, tiny)
    machine = next(iter(arms.values()))["machine"]
    folder = Path(machine["runs"]) / study.name
    wanted = set(fnmatch.filter(arms, only))
    if not wanted:
        raise ValueError(f"{path} has no arm like {only!r}; it has {', '.join(arms)}")
    wanted = set() if gather else wanted
    words = [*overrides, *(["--tiny"] if tiny else [])]
    options = [path, *words]
    failed: dict[str, str] = {}
    tuned = set(arms)
    if study.tune:
        trials = Trials(path, overrides, tiny)
        failed = _tune(trials, wanted, options, say, at_once)
        study, arms = budgeted(path, overrides, tiny)
        tuned = trials.tuned()
    describe(study, arms, options, folder, tuned)
    (folder / "results.json").unlink(missing_ok=True)  # until there is another: what the runs have
    planned = [job for job in jobs(study, arms) if job[0] in tuned]
    chosen = [job for job in planned if job[0] in wanted]
    if at_once > 1 or spawns(machine):
        failed |= _run_at_once(chosen, options, say, at_once)
    if at_once > 1 and spawns(machine):  # their speed, one after the other
        left = [job for job in chosen if f"{job[0]} seed {job[1]}" not in failed]
        failed |= _run_at_once(left, options, say, 1)
    rows: list[Row] = []
    for arm, seed, config in planned:
        if arm not in wanted:
            rows += _stored(config)
        elif f"{arm} seed {seed}" not in failed:
            rows += _scored(arm, seed, config, failed, say)
    _complete(folder, rows, [config for _, _, config in planned])
    write_report(folder)
    ship_study(folder, machine["tracker"], machine["runs"])
    return Outcome(folder, rows, failed, store_uri(machine["tracker"], machine["runs"]))


def _tune(
    trials: Trials, wanted: set[str], options: list[str], say: Say, at_once: int
) -> dict[str, str]:
    """Run the trials that are missing and write down the best of each arm; what failed, and why."""
    broken: dict[str, str] = {}
    if at_once > 1 or spawns(next(iter(trials.configs.values()))["machine"]):
        broken = _run_at_once(trials.missing(wanted), options, say, at_once)

    def finish(name: str, seed: int, config: Config) -> list[Row]:
        return [] if f"{name} seed {seed}" in broken else _scored(name, seed, config, broken, say)

    untuned = trials.run(wanted, finish)
    for arm, why in untuned.items():
        say(f"{arm} could not be tuned: {why}")
    return broken | {f"{arm}, tuning": why for arm, why in untuned.items()}


def _scored(arm: str, seed: int, config: Config, failed: dict[str, str], say: Say) -> list[Row]:
    """The scores of one run, trained if needed; none if it failed, which is written down."""
    say(f"== {arm}, seed {seed}")
    try:
        with _recorded(config, arm, seed):
            return finish_run(config, say)
    except Stopped:
        raise
    except Exception as error:
        failed[f"{arm} seed {seed}"] = f"{type(error).__name__}: {error}"
        say(f"{arm}, seed {seed} failed: {error}")
        return []


def _stored(config: Config) -> list[Row]:
    """The scores that a run has."""
    run = find_run_if_data(config)
    path = run.folder / "eval" / "scores.json" if run and run.finished else None
    return json.loads(path.read_text())["rows"] if path and path.is_file() else []


def _complete(folder: Path, rows: list[Row], configs: Sequence[Config]) -> None:
    """results.json, and in study.json when that was and which run folders are the study's as its
    file is now: those of earlier settings stay on disk, and are not reported."""
    write_json(folder / "results.json", rows)
    runs = [run.folder.name for config in configs if (run := find_run_if_data(config))]
    info = json.loads((folder / "study.json").read_text())
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_json(folder / "study.json", {**info, "runs": runs, "created": now})


@contextmanager
def _recorded(config: Config, arm: str, seed: int) -> Iterator[None]:
    """Leaves the traceback of what fails in the study's folder, where the report finds it."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, Stopped):
            folder = Path(config["machine"]["runs"]) / config["study"]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{arm}-s{seed}.error.txt").write_text(traceback.format_exc())
        raise


def _run_at_once(
    runs: Sequence[tuple[str, int, Config]], options: list[str], say: Say, at_once: int
) -> dict[str, str]:
    """Train and score each run in its own process; what failed, with its last words. Stopped if
    one was. Of runs that are trained alike, all but the first wait, and are only scored."""
    untimed = ["--untimed"] if at_once > 1 else []
    command = [sys.executable, "-m", "unify.cli", "study", *options, *untimed]
    first = distinct(runs)
    failed: dict[str, tuple[int, str]] = {}
    for some in (first, [job for job in runs if job not in first]):
        commands = {
            f"{arm} seed {seed}": [*command, "--arm", arm, "--seed", str(seed)]
            for arm, seed, _ in some
        }
        failed |= run_at_once(commands, at_once, say)
        for name, (status, last) in failed.items():
            if status == os.EX_TEMPFAIL:
                raise Stopped(f"{name}: {last}")
    return {name: last for name, (_, last) in failed.items()}


def run_one(
    path: str, overrides: list[str], arm: str, seed: int | None, say: Say, tiny: bool, untimed: bool
) -> int:
    """Train and score one arm, with one seed or all of the study's; nothing is reported.

    The exit status: that of the ranks where this process starts several.
    """
    study, arms = budgeted(path, overrides, tiny)
    if study.tune and ",trial=" in arm:
        trials = Trials(path, overrides, tiny)
        wanted = [(trials.tune.seed, c) for name, c in trials.configs.items() if name == arm]
    else:
        wanted = [(s, c) for a, s, c in jobs(study, arms) if a == arm and seed in (None, s)]
    if not wanted:
        raise ValueError(
            f"{path} has no arm {arm!r} with seed {seed}; it has arms {', '.join(arms)} with "
            f"seeds {', '.join(map(str, study.seeds))}"
        )
    machine = wanted[0][1]["machine"]
    if spawns(machine):
        return spawn(machine["devices"], say)
    trained = []
    for one, config in wanted:
        with _recorded(config, arm, one):
            trained.append((one, config, finished_or_stopped(train(config, say))))
    for one, config, run in trained:
        with _recorded(config, arm, one):
            _score(run, config, say, untimed=untimed)
        say(f"run: {run.folder}")
    return 0


def jobs(study: Study, arms: dict[str, Config]) -> Iterator[tuple[str, int, Config]]:
    """Every (arm, seed) with its configuration; the study's seed is added to the arm's own."""
    for seed in study.seeds:
        for arm, config in arms.items():
            yield arm, seed, replicate(config, seed)


def finish_run(config: Config, say: Say = print, again: bool = False) -> list[Row]:
    """Train if needed, then evaluate; scores also of the tokenizers that the run needs."""
    run = finished_or_stopped(train(config, say))
    rows = _score(run, config, say, again)
    ship_scores(run.folder, config["machine"]["tracker"], config["machine"]["runs"])
    return rows


def _score(
    run: Run, config: Config, say: Say, again: bool = False, untimed: bool = False
) -> list[Row]:
    known = broadcast_first(_score_as(config, run, untimed) if is_first() else None)
    if known is not None and not again:
        return known
    _, _, recipe = open_run(run.folder, trusted_files=True, machine=config["machine"])
    say(f"{run.folder}: evaluating")
    return evaluate(run, recipe, config, again, untimed)


def _score_as(config: Config, run: Run, untimed: bool) -> list[Row] | None:
    """A run that was there keeps what it was trained with, and is scored as is asked now; its
    scores, if it has been."""
    path = run.folder / "config.yaml"
    trained = read(path, trusted=True)
    wanted = {**trained, **{key: config[key] for key in SCORING}}
    if wanted != trained:
        write_atomically(path, dump(wanted))
    return stored_scores(run, config, untimed)
