"""The jobs of a study that were sent to SLURM: how far they are, and how to cancel them.

runs/<study>/slurm/jobs.json holds the number of each job by its name, `<arm>-s<seed>` or `report`.
"""

import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from unify.runs.checkpoint_folder import step_of, steps
from unify.runs.folder import write_json
from unify.runs.lookup import find_by_name
from unify.support.strict_json import read_mapping

Say = Callable[[str], None]

# States in which a job may still run; SLURM forgets ended ones after a while.
ALIVE = ("pending", "running", "configuring", "requeued", "suspended", "completing")


def sent_jobs(folder: Path) -> dict[str, str]:
    """The SLURM number of each job that was sent, by name."""
    path = folder / "slurm" / "jobs.json"
    return read_mapping(path, "remove it; SLURM still knows its jobs", {}) if path.is_file() else {}


def add_sent_jobs(folder: Path, numbers: dict[str, str]) -> None:
    """Write down the numbers of more jobs; one that is sent again replaces the earlier."""
    write_json(folder / "slurm" / "jobs.json", {**sent_jobs(folder), **numbers})


def alive_jobs(folder: Path) -> dict[str, str]:
    """The jobs that were sent and have not ended."""
    sent = sent_jobs(folder)
    states = slurm_states(list(sent.values()))
    return {name: n for name, n in sent.items() if states.get(n, "ended").split()[0] in ALIVE}


def slurm_states(numbers: Sequence[str]) -> dict[str, str]:
    """The state of those jobs that SLURM still knows, with the reason for which one waits."""
    if not numbers:
        return {}
    listed = _slurm("squeue", "-h", "-r", "-t", "all", "-o", "%i|%T|%r", "-u", str(os.getuid()))
    rows = [line.strip().split("|") for line in listed.splitlines()]
    return {
        row[0]: row[1].lower() + (f" ({row[2]})" if row[1] == "PENDING" else "")
        for row in rows
        if row[0] in numbers
    }


def status(folder: Path, say: Say) -> None:
    """Say a line for each job that was sent: SLURM's state, the run's, and how far it is."""
    sent = sent_jobs(folder)
    if not sent:
        raise ValueError(f"{folder}: nothing was submitted; `unify submit` does")
    states = slurm_states(list(sent.values()))
    width = max(map(len, sent))
    for name, number in sent.items():
        run = _run_state(folder, name)
        say(f"{name:{width}}  {number:>12}  {states.get(number, 'ended'):<24}  {run}".rstrip())


def _run_state(folder: Path, name: str) -> str:
    """`running, saved at 200 of 1000`; empty for a job without a run, as the report."""
    run = find_by_name(folder, name)
    if run is None:
        return ""
    saved = steps(run.folder / "checkpoints")
    try:
        info = run.info
    except ValueError as error:
        return str(error)
    state = info.get("state") or "unknown"
    return state + (f", saved at {step_of(saved[-1])} of {info.get('steps')}" if saved else "")


def cancel(folder: Path, say: Say) -> None:
    """Cancel the jobs of a study that have not ended; `unify submit` resumes their runs."""
    sent, alive = sent_jobs(folder), alive_jobs(folder)
    if alive:
        _slurm("scancel", *alive.values())
    say(f"{len(alive)} of {len(sent)} jobs of {folder} cancelled")


def _slurm(*command: str) -> str:
    """The output of a command of SLURM; ValueError where there is none, or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise ValueError(f"there is no {command[0]} here; run this where SLURM is") from None
    if done.returncode:
        raise ValueError(f"{shlex.join(command)}: {done.stderr.strip()}")
    return done.stdout
