"""`unify submit F --cluster C`: the runs of a study as jobs of SLURM, arrays one after another.

    needed runs (tokenizers, language models)   an array for each level: what the next starts from
    arms and seeds                              one array, after the last of those
    the report                                  one job, when the arms have ended, well or not

A job is this command line again: `unify study F --arm A --seed S` on every rank. When SLURM says
that the time is up, the run saves, ends, and is requeued to go on where it was.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unify.cluster.requeue import Requeued
from unify.config import load_cluster as read_cluster
from unify.config import needed_runs
from unify.config.cross_checks import uneven
from unify.evaluation.score_run import stored_scores
from unify.runs.folder import write_json
from unify.runs.lookup import find_run_if_data, needed_configs
from unify.schema.cluster import Cluster
from unify.schema.completed import Config
from unify.study.arms import budgeted
from unify.study.run_study import jobs
from unify.study.study_json import describe
from unify.study.tuning_trials import Trials

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A command, and on how many levels of others it waits."""

    name: str
    words: tuple[str, ...]  # after `unify`
    level: int


def load_cluster(name: str) -> Cluster:
    """A file, or the name of one in experiments/clusters."""
    path = Path(name)
    if not path.is_file():
        path = Path("experiments/clusters") / f"{name}.yaml"
    if not path.is_file():
        names = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ValueError(f"--cluster {name}: no such file, and {path.parent} has {names or 'none'}")
    return read_cluster(path)


def submit(
    path: str, words: list[str], cluster: Cluster, tiny: bool, say: Say, print_only: bool = False
) -> None:
    """Send what is missing, or say what would be sent."""
    words = [*words, *(f"machine.{k}={json.dumps(v)}" for k, v in cluster.machine.items())]
    study, arms = budgeted(path, words, tiny)
    for arm, config in arms.items():
        for task, wrong in uneven(config["data"]["tasks"], cluster.nodes * cluster.ranks).items():
            raise ValueError(f"{path}: {arm}: data.tasks.{task}: {wrong}")
    machine = next(iter(arms.values()))["machine"]
    folder = Path(machine["runs"]) / study.name
    if study.tune and not {*arms} <= Trials(path, words, tiny).tuned():
        raise ValueError(f"{path} tunes its arms: run `unify study {path}` until that is done")
    missing = _missing(path, words, tiny, list(jobs(study, arms)))
    if alive := [job.name for job in missing if job.name in _alive(folder)]:
        raise ValueError(
            f"{', '.join(alive)}: sent already and not ended; see `unify status {folder}`, or "
            f"`unify cancel {folder}` first"
        )
    if not missing:
        say(f"{path}: every run is finished; `unify study {path}` reports")
        return
    if not print_only:
        describe(study, arms, [path, *words, *(["--tiny"] if tiny else [])], folder, set(arms))
    report = Job("report", _study(path, words, tiny, "--gather"), missing[-1].level + 1)
    before: list[str] = []
    for level in sorted({job.level for job in [*missing, report]}):
        some = [job for job in [*missing, report] if job.level == level]
        kind = "afterany" if report in some else "afterok"
        options = _options(cluster, study.name, kind, before, alone=report in some)
        if print_only:
            say(f"### {', '.join(job.name for job in some)}\n{_script(options, folder, len(some))}")
            before = [f"<{some[0].name}>"]
            continue
        ids = _send(some, options, cluster, folder)
        before = [ids[0].split("_")[0]]  # of the whole array
        sent = dict(zip((job.name for job in some), ids, strict=True))
        write_json(folder / "slurm" / "jobs.json", {**_sent(folder), **sent})
        say(f"{before[0]}: {', '.join(job.name for job in some)}")


def _missing(
    path: str, words: list[str], tiny: bool, planned: list[tuple[str, int, Config]]
) -> list[Job]:
    """Jobs for what is not finished or scored: needed runs first, by how deep they are needed."""
    left = [(arm, seed, c) for arm, seed, c in planned if not _scored(c)]
    needed: dict[str, Job] = {}
    deepest = 0
    for _, _, config in left:
        deepest = max(deepest, _add_needed(config, needed))
    return sorted(needed.values(), key=lambda job: job.level) + [
        Job(
            f"{arm}-s{seed}",
            _study(path, words, tiny, "--arm", arm, "--seed", str(seed), "--untimed"),
            deepest,
        )
        for arm, seed, _ in left
    ]


def _add_needed(config: Config, jobs_: dict[str, Job]) -> int:
    """Collect the jobs that train what a run needs; the level that the run itself has."""
    level = 0
    configs = needed_configs(config)
    for key, said in needed_runs(config).items():
        part = configs[key]
        own = _add_needed(part, jobs_)
        level = max(level, own + 1)
        if not _finished(part):
            seeds = [f"seeds.{name}={value}" for name, value in part["seeds"].items()]
            machine = [f"machine.{k}={json.dumps(v)}" for k, v in part["machine"].items()]
            tiny = ["--tiny"] if said.tiny else []
            words = ("train", "-c", said.path, *tiny, *seeds, *machine)
            name = f"{part['name']}-s{part['seeds']['init']}"
            jobs_.setdefault(key, Job(name, words, own))
    return level


def _finished(config: Config) -> bool:
    run = find_run_if_data(config, reuse=True)
    return run is not None and run.finished


def _scored(config: Config) -> bool:
    """Whether a run of the study is finished and has its scores, but perhaps for its speed."""
    run = find_run_if_data(config)
    return run is not None and run.finished and stored_scores(run, config, untimed=True) is not None


def _study(path: str, words: Sequence[str], tiny: bool, *options: str) -> tuple[str, ...]:
    return ("study", path, *words, *(["--tiny"] if tiny else []), *options)


def _options(
    cluster: Cluster, name: str, kind: str, before: Sequence[str], alone: bool
) -> dict[str, Any]:
    """What submitit is told; `alone`: one rank is enough."""
    exports = [f"export {k}={shlex.quote(v)}" for k, v in cluster.environment.items()]
    asked = {
        "job_name": name,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "nodes": 1 if alone else cluster.nodes,
        "ntasks_per_node": 1 if alone else cluster.ranks,
        "cpus_per_task": cluster.cpus,
        "gpus_per_node": 0 if alone else cluster.gpus,
        "gres": "" if alone else cluster.gres,
        "mem": f"{round(cluster.memory_gib * 1024)}MB" if cluster.memory_gib else "",
        "time": cluster.minutes,
        "signal_delay_s": cluster.notice,
        "array_parallelism": cluster.at_once,
        "dependency": ":".join([kind, *before]) if before else "",
        "stderr_to_stdout": True,
        "setup": [*cluster.setup, *exports],
        # srun does not always inherit --cpus-per-task; the first rank scores when the others ended
        "srun_args": ["--kill-on-bad-exit=1", "--wait=0", f"--cpus-per-task={cluster.cpus}"],
        "additional_parameters": {"requeue": True, "kill-on-invalid-dep": "yes", **cluster.sbatch},
    }
    return {key: value for key, value in asked.items() if value not in ("", 0, None)}


def _script(options: dict[str, Any], folder: Path, count: int) -> str:
    """The batch script that submitit would send."""
    from submitit.slurm.slurm import _make_sbatch_string

    command = f"{sys.executable} -u -m submitit.core._submit {_logs(folder)}"
    many: dict[str, Any] = {"map_count": count} if count > 1 else {}
    return _make_sbatch_string(command, _logs(folder), **options, **many)


def _logs(folder: Path) -> str:
    return str((folder / "slurm").absolute() / "%j")


def _send(
    some: Sequence[Job], options: dict[str, Any], cluster: Cluster, folder: Path
) -> list[str]:
    """Send an array, or one job; their numbers in SLURM."""
    from submitit import SlurmExecutor

    try:
        executor = SlurmExecutor(_logs(folder))
    except RuntimeError:
        raise ValueError(
            "there is no srun here; submit from a login node of the cluster, or see what would be "
            "sent with --print-sbatch"
        ) from None
    executor.update_parameters(**options)
    python = shlex.split(cluster.container) if cluster.container else [sys.executable]
    grace = max(10, cluster.notice - 30)
    where = Path(_logs(folder)).parent
    tasks = [
        Requeued(
            [*python, "-m", "unify.cli", *job.words],
            grace,
            cluster.requeues,
            where / f"{job.name}.losses",
        )
        for job in some
    ]
    for task in tasks:
        task.log.unlink(missing_ok=True)
    with executor.batch():
        sent = [executor.submit(task) for task in tasks]
    return [job.job_id for job in sent]


def _sent(folder: Path) -> dict[str, str]:
    path = folder / "slurm" / "jobs.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def queue(ids: Sequence[str]) -> dict[str, str]:
    """States of those jobs that SLURM still knows, as it says them."""
    if not ids:
        return {}
    said = _slurm("squeue", "-h", "-r", "-t", "all", "-o", "%i|%T|%r", "-u", str(os.getuid()))
    rows = [line.strip().split("|") for line in said.splitlines()]
    return {
        row[0]: row[1].lower() + (f" ({row[2]})" if row[1] == "PENDING" else "")
        for row in rows
        if row[0] in ids
    }


def status(folder: Path, say: Say) -> None:
    """A line for each job that was sent: SLURM's state, the run's, and how far it is."""
    sent = _sent(folder)
    if not sent:
        raise ValueError(f"{folder}: nothing was submitted; `unify submit` does")
    states = queue(list(sent.values()))
    width = max(map(len, sent))
    for name, number in sent.items():
        run = _run_line(folder, name)
        say(f"{name:{width}}  {number:>12}  {states.get(number, 'ended'):<24}  {run}".rstrip())


def _run_line(folder: Path, name: str) -> str:
    for path in [*folder.glob(f"{name}-*/run.json"), *folder.parent.glob(f"*/{name}-*/run.json")]:
        info = json.loads(path.read_text())
        done = [p.name for p in sorted((path.parent / "checkpoints").glob("step-*"))]
        reached = f", saved at {int(done[-1][5:])} of {info['steps']}" if done else ""
        return info["state"] + reached
    return ""


def cancel(folder: Path, say: Say) -> None:
    """Cancel what SLURM still has of a study; a run that is cancelled can be gone on with."""
    sent = _sent(folder)
    alive = _alive(folder)
    if alive:
        _slurm("scancel", *alive.values())
    say(f"{len(alive)} of {len(sent)} jobs of {folder} cancelled")


def _alive(folder: Path) -> dict[str, str]:
    """Jobs that were sent and have not ended, by name."""
    sent = _sent(folder)
    states = queue(list(sent.values()))
    return {name: n for name, n in sent.items() if states.get(n, "ended").split()[0] in ALIVE}


ALIVE = ("pending", "running", "configuring", "requeued", "suspended", "completing")


def _slurm(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise ValueError(f"there is no {command[0]} here; run this where SLURM is") from None
    if done.returncode:
        raise ValueError(f"{shlex.join(command)}: {done.stderr.strip()}")
    return done.stdout
