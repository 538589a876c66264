"""`unify submit F --cluster C`: the runs of a study as jobs of SLURM, arrays one after another.

    needed runs (tokenizers, language models)   an array for each level: what the next starts from
    arms and seeds                              one array, after the last of those
    the report                                  one job, when the arms have ended, well or not

A job is this command line again: `unify study F --arm A --seed S` on every rank. When SLURM says
that the time is up, the run saves, ends, and is requeued to go on where it was.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unify.cluster.send import batch_script, sbatch_options, send
from unify.cluster.sent_jobs import add_sent_jobs, alive_jobs
from unify.config import load_cluster as read_cluster
from unify.config import needed_runs
from unify.config.cross_checks import uneven
from unify.config.shipped import FOLDER
from unify.evaluation.score_run import stored_scores
from unify.runs.lookup import find_finished, needed_configs
from unify.schema.cluster import Cluster
from unify.schema.completed import Config
from unify.study.arms import resolve_arms
from unify.study.jobs import Job, StudyRequest, study_jobs
from unify.study.study_json import write_study_json
from unify.study.tuning_trials import tuned_arms

Say = Callable[[str], None]
CLUSTERS = Path("experiments/clusters")


@dataclass(frozen=True)
class ClusterJob:
    """A command for SLURM."""

    name: str
    words: tuple[str, ...]  # after `unify`
    level: int  # it starts when the jobs of the level below have ended


def load_cluster(name: str) -> Cluster:
    """A cluster by its file, or by the name of one in experiments/clusters, here or as shipped."""
    path = Path(name)
    if not path.is_file():
        path = CLUSTERS / f"{name}.yaml"
    if not path.is_file():
        path = FOLDER / "clusters" / f"{name}.yaml"
    if not path.is_file():
        shipped = (FOLDER / "clusters").glob("*.yaml")
        names = sorted({p.stem for p in (*CLUSTERS.glob("*.yaml"), *shipped)})
        raise ValueError(f"--cluster {name}: no such file, and {CLUSTERS} has {names}")
    return read_cluster(path)


def submit(request: StudyRequest, cluster: Cluster, say: Say, print_only: bool = False) -> None:
    """Send the missing jobs of a study, and say their numbers; or say the batch scripts alone.

    ValueError if rows do not divide over the ranks, if arms are to be tuned first, or if jobs that
    were sent before have not ended.
    """
    machine = [f"machine.{k}={json.dumps(v)}" for k, v in cluster.machine.items()]
    request = replace(request, overrides=[*request.overrides, *machine])
    path = request.path
    study, arms = resolve_arms(request)
    for arm, config in arms.items():
        for task, wrong in uneven(config["data"]["tasks"], cluster.nodes * cluster.ranks).items():
            raise ValueError(f"{path}: {arm}: data.tasks.{task}: {wrong}")
    if study.tune and not {*arms} <= tuned_arms(request):
        raise ValueError(f"{path} tunes its arms: run `unify study {path}` until that is done")
    folder = Path(next(iter(arms.values()))["machine"]["runs"]) / study.name
    missing = _missing(request, study_jobs(study, arms))
    alive = alive_jobs(folder) if missing else {}
    if twice := [job.name for job in missing if job.name in alive]:
        raise ValueError(
            f"{', '.join(twice)}: sent already and not ended; see `unify status {folder}`, or "
            f"`unify cancel {folder}` first"
        )
    if not missing:
        say(f"{path}: every run is finished; `unify study {path}` reports")
        return
    if not print_only:
        write_study_json(study, arms, request, folder, set(arms))
    report = ClusterJob("report", ("study", *request.words, "--gather"), missing[-1].level + 1)
    _send_levels([*missing, report], study.name, cluster, folder, say, print_only)


def _send_levels(
    jobs: Sequence[ClusterJob],
    name: str,
    cluster: Cluster,
    folder: Path,
    say: Say,
    print_only: bool,
) -> None:
    """Send an array for each level, which waits for the one below; the last job is the report."""
    before: list[str] = []
    for level in sorted({job.level for job in jobs}):
        array = [job for job in jobs if job.level == level]
        options = sbatch_options(cluster, name, before, report=jobs[-1] in array)
        names = ", ".join(job.name for job in array)
        if print_only:
            say(f"### {names}\n{batch_script(options, folder, len(array))}")
            before = [f"<{array[0].name}>"]
            continue
        numbers = send({job.name: job.words for job in array}, options, cluster, folder)
        add_sent_jobs(folder, numbers)
        before = [numbers[array[0].name].split("_")[0]]  # the number of the whole array
        say(f"{before[0]}: {names}")


def _missing(request: StudyRequest, jobs: Sequence[Job]) -> list[ClusterJob]:
    """The jobs that are not finished and scored, after the needed runs in the order of training."""
    left = [job for job in jobs if not _is_scored(job.config)]
    needed: dict[str, ClusterJob] = {}
    level = max((_add_needed(job.config, needed) for job in left), default=0)
    return sorted(needed.values(), key=lambda job: job.level) + [
        ClusterJob(
            f"{job.arm}-s{job.seed}",
            ("study", *request.words, "--arm", job.arm, "--seed", str(job.seed), "--untimed"),
            level,
        )
        for job in left
    ]


def _is_scored(config: Config) -> bool:
    """True if a run is finished and has its scores, except perhaps of its speed."""
    run = find_finished(config)
    return run is not None and stored_scores(run, config, untimed=True) is not None


def _add_needed(config: Config, jobs: dict[str, ClusterJob]) -> int:
    """Add to `jobs`, by key, what trains the runs that `config` needs; returns its own level."""
    level = 0
    configs = needed_configs(config)
    for key, needed in needed_runs(config).items():
        part = configs[key]
        own = _add_needed(part, jobs)
        level = max(level, own + 1)
        if find_finished(part, reuse=True) is None:
            seeds = [f"seeds.{name}={value}" for name, value in part["seeds"].items()]
            machine = [f"machine.{k}={json.dumps(v)}" for k, v in part["machine"].items()]
            tiny = ["--tiny"] if needed.tiny else []
            words = ("train", "-c", needed.path, *tiny, *seeds, *machine)
            name = f"{part['name']}-s{part['seeds']['init']}"
            jobs.setdefault(key, ClusterJob(name, words, own))
    return level
