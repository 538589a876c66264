"""`unify submit F --cluster C`: the runs of a study as jobs of SLURM, arrays one after another.

missing_jobs.py says which they are. A job is this command line again: `unify study F --arm A --seed
S` on every rank. When SLURM says that the time is up, the run saves, ends, and is requeued to go on
where it was.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from unify.cluster.missing_jobs import ClusterJob, levels, missing_jobs
from unify.cluster.send import batch_script, sbatch_options, send
from unify.cluster.sent_jobs import add_sent_jobs, alive_jobs
from unify.config import load_cluster as read_cluster
from unify.config.cross_checks import uneven
from unify.config.override_words import last_of_each
from unify.config.shipped import FOLDER
from unify.schema.cluster import Cluster
from unify.study.arms import resolve_arms
from unify.study.compared_with import published_for, say_unlike
from unify.study.jobs import StudyRequest
from unify.study.study_json import write_study_json
from unify.study.tuning_trials import tuned_arms

Say = Callable[[str], None]
CLUSTERS = Path("experiments/clusters")


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

    ValueError if rows do not divide over the ranks, or if jobs that were sent before have not
    ended.
    """
    request = on_cluster(request, cluster)
    path = request.path
    study, arms = resolve_arms(request)
    for arm, config in arms.items():
        for task, wrong in uneven(config["data"]["tasks"], cluster.nodes * cluster.ranks).items():
            raise ValueError(f"{path}: {arm}: data.tasks.{task}: {wrong}")
    published = published_for(request, study, say)
    if published is not None:
        say_unlike(published, arms, say)
    folder = Path(next(iter(arms.values()))["machine"]["runs"]) / study.name
    jobs = missing_jobs(request, study, arms)
    if not jobs:
        against = f" --against {request.against}" if request.against else ""
        say(f"{path}: every run is finished; `unify study {path}{against}` reports")
        return
    alive = alive_jobs(folder)
    if twice := [job.name for job in jobs if job.config and job.name in alive]:
        raise ValueError(
            f"{', '.join(twice)}: sent already and not ended; see `unify status {folder}`, or "
            f"`unify cancel {folder}` first"
        )
    if not print_only:
        write_study_json(
            study, arms, request, folder, tuned_arms(request) if study.tune else {*arms}
        )
    _send_levels(jobs, study.name, cluster, folder, say, print_only)


def on_cluster(request: StudyRequest, cluster: Cluster) -> StudyRequest:
    """The request with the cluster's settings of `machine`."""
    machine = [f"machine.{k}={json.dumps(v)}" for k, v in cluster.machine.items()]
    return replace(request, overrides=last_of_each([*request.overrides, *machine]))


def _send_levels(
    jobs: Sequence[ClusterJob],
    name: str,
    cluster: Cluster,
    folder: Path,
    say: Say,
    print_only: bool,
) -> None:
    """Send an array for each level, which waits for the one below."""
    before: list[str] = []
    for array in levels(jobs):
        alone = array[0].config is None
        options = sbatch_options(cluster, name, before, array[0].whatever, alone)
        names = ", ".join(job.name for job in array)
        if print_only:
            say(f"### {names}\n{batch_script(options, folder, len(array))}")
            before = [f"<{array[0].name}>"]
            continue
        numbers = send({job.name: job.words for job in array}, options, cluster, folder)
        add_sent_jobs(folder, numbers)
        before = [numbers[array[0].name].split("_")[0]]  # the number of the whole array
        say(f"{before[0]}: {names}")
