"""Checks of SLURM: partitions, notice before a preemption, and the job around this process."""

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping

from unify.doctor.finding import Finding

SECONDS = 15.0  # that a command of SLURM may take
SHOWN = 8  # partitions


def cluster(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Check commands, partitions and preemption; a machine without SLURM is fine."""
    lacks = [c for c in ("srun", "sbatch", "sinfo", "scontrol") if not shutil.which(c)]
    if len(lacks) == 4:
        if "SLURM_JOB_ID" not in environment:
            return [Finding("slurm", "ok", "none here")]
        do = "start srun outside the container, and the container in it (docs/clusters.md)"
        return [Finding("slurm", "note", "in a job, but its commands are not here", do)]
    if lacks:
        do = "load SLURM's module, or put its commands on PATH"
        return [Finding("slurm", "problem", f"{', '.join(lacks)} not found", do)]
    try:
        rows = _output("sinfo", "-h", "-o", "%P|%a|%l|%D|%G").splitlines()
        settings = _settings()
    except ValueError as error:
        do = "see that slurm.conf (SLURM_CONF), munge and slurmctld are there, or ask who runs them"
        return [Finding("slurm", "problem", str(error), do)]
    return [_partitions(rows, settings.get("SLURM_VERSION", "")), _notice(settings)]


def _output(*command: str) -> str:
    """Output of a command; ValueError if it fails or does not end within SECONDS."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{command[0]} does not answer within {SECONDS:g} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise ValueError(f"{command[0]} fails: {lines[-1]}")
    return done.stdout


def _settings() -> dict[str, str]:
    """slurm.conf, as `scontrol show config` has it: `Key = value`."""
    rows = [line.partition("=") for line in _output("scontrol", "show", "config").splitlines()]
    return {key.strip(): value.strip() for key, equals, value in rows if equals}


def _partitions(rows: list[str], version: str) -> Finding:
    shown = []
    for row in rows[:SHOWN]:
        name, state, longest, nodes, gres = row.strip().split("|")
        parts = [f"{nodes} nodes", f"at most {longest}"]
        parts += [gres] if gres != "(null)" else []
        parts += [state] if state != "up" else []
        shown.append(f"{name} ({', '.join(parts)})")
    if not shown:
        do = "ask for an account that may use one"
        return Finding("slurm", "problem", f"{version}: no partition that you may see", do)
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return Finding("slurm", "ok", f"{version}: {', '.join(shown)}{more}".removeprefix(": "))


def _notice(settings: Mapping[str, str]) -> Finding:
    """Check that a preempted job gets time to save."""
    kind, mode = settings.get("PreemptType", ""), settings.get("PreemptMode", "")
    if kind in ("", "(null)", "preempt/none") or mode in ("OFF", "GANG"):
        return Finding("preemption", "ok", "none: a job runs until its time is up")
    how = f"{kind}, {mode}"
    if "SUSPEND" in mode:
        return Finding("preemption", "ok", f"{how}: a job is suspended, and goes on")
    parameters = settings.get("SlurmctldParameters", "") + settings.get("PreemptParameters", "")
    if "send_user_signal" not in parameters:
        do = (
            "ask for SlurmctldParameters=preempt_send_user_signal and a GraceTime that a save fits "
            "into; until then say logging.checkpoint_every: what is since the last one is lost"
        )
        return Finding("preemption", "note", f"{how}, without notice to the job", do)
    if kind == "preempt/qos":
        do = "see that it has one: sacctmgr show qos format=Name,GraceTime,PreemptMode"
        return Finding("preemption", "note", f"{how}, with notice of your QOS's GraceTime", do)
    return _grace(how)


def _grace(how: str) -> Finding:
    """GraceTime, the seconds between notice and end, of the partitions that may be preempted."""
    grace = {}
    for row in _output("scontrol", "show", "partition", "-o").splitlines():
        facts = dict(word.split("=", 1) for word in row.split() if "=" in word)
        if facts.get("PreemptMode") != "OFF":
            grace[facts["PartitionName"]] = int(facts.get("GraceTime", 0))
    hasty = [name for name, seconds in grace.items() if not seconds]
    if hasty:
        do = "ask for a GraceTime that a save fits into, or say logging.checkpoint_every"
        return Finding("preemption", "note", f"{how}: GraceTime of {', '.join(hasty)} is 0", do)
    times = ", ".join(f"{name} {seconds} s" for name, seconds in grace.items())
    return Finding("preemption", "ok", f"{how}, with notice: {times}")


def job(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Inside a job: its step as the world of ranks, and the cores of this one."""
    if "SLURM_JOB_ID" not in environment:
        return []
    number = environment["SLURM_JOB_ID"]
    if "SLURM_STEP_NUM_TASKS" not in environment:
        do = "srun unify doctor: on the job's nodes, as its ranks will be"
        return [Finding("job", "note", f"in job {number}, but in no step of it", do)]
    from unify.distributed.ranks import from_slurm, world

    as_rank = dict(environment)
    from_slurm(as_rank)
    here = world(as_rank)
    name = environment.get("SLURMD_NODENAME", socket.gethostname())
    text = f"rank {here.rank} of {here.size} of job {number}, on {name} of {here.nodes}"
    findings = [Finding("job", "ok", f"{text} node{'s' if here.nodes > 1 else ''}")]
    return findings + _cores(int(environment.get("SLURM_CPUS_PER_TASK", 1)))


def _cores(asked: int) -> list[Finding]:
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else asked
    if mine >= asked:
        return []
    do = f"srun --cpus-per-task={asked}: srun does not inherit it (`unify submit` says it)"
    return [Finding("job", "note", f"{mine} of the {asked} cores of a task can be used", do)]
