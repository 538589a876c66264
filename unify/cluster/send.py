"""Arrays of commands for SLURM: the options of sbatch, the script, and sending both (submitit)."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unify.cluster.requeue import Requeued
from unify.schema.cluster import Cluster


def sbatch_options(
    cluster: Cluster, name: str, before: Sequence[str], whatever: bool, alone: bool
) -> dict[str, Any]:
    """The parameters of submitit's executor for one array.

    Args:
        cluster: what every job asks for.
        name: the name of the study.
        before: numbers of the arrays that must have ended.
        whatever: start whatever became of those; else they must have ended well.
        alone: one rank without accelerators.
    """
    exports = [f"export {k}={shlex.quote(v)}" for k, v in cluster.environment.items()]
    options = {
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
        "dependency": ":".join(["afterany" if whatever else "afterok", *before]) if before else "",
        "stderr_to_stdout": True,
        "setup": [*cluster.setup, *exports],
        # srun does not always inherit --cpus-per-task; the first rank scores when the others ended
        "srun_args": ["--kill-on-bad-exit=1", "--wait=0", f"--cpus-per-task={cluster.cpus}"],
        "additional_parameters": {"requeue": True, "kill-on-invalid-dep": "yes", **cluster.sbatch},
    }
    return {key: value for key, value in options.items() if value not in ("", 0, None)}


def batch_script(options: dict[str, Any], folder: Path, count: int) -> str:
    """The script that submitit would send for an array of `count` commands."""
    from submitit.slurm.slurm import _make_sbatch_string

    command = f"{sys.executable} -u -m submitit.core._submit {_logs(folder)}"
    array: dict[str, Any] = {"map_count": count} if count > 1 else {}
    return _make_sbatch_string(command, _logs(folder), **options, **array)


def send(
    commands: Mapping[str, Sequence[str]], options: dict[str, Any], cluster: Cluster, folder: Path
) -> dict[str, str]:
    """Send an array, or one job; the numbers in SLURM, by the names of `commands`.

    `commands` hold the words after `unify`. ValueError where there is no srun.
    """
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
    grace = max(10, cluster.notice - 30)  # seconds to save in, before SLURM kills
    logs = Path(_logs(folder)).parent
    tasks = [
        Requeued(
            [*python, "-m", "unify.cli", *words], grace, cluster.requeues, logs / f"{name}.losses"
        )
        for name, words in commands.items()
    ]
    for task in tasks:
        task.log.unlink(missing_ok=True)
    with executor.batch():
        sent = [executor.submit(task) for task in tasks]
    return {name: job.job_id for name, job in zip(commands, sent, strict=True)}


def _logs(folder: Path) -> str:
    """The folder of submitit's own files and of the output of jobs; %j is the number of a job."""
    return str((folder / "slurm").absolute() / "%j")
