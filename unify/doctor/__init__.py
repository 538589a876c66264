"""`unify doctor`: what on this machine would fail a run, found before a run does.

    software.py   versions, torchvision beside torch, a compiler, attention
    hardware.py   devices, and an exchange between ranks (exchange.py is one of them)
    places.py     the folder of runs, the tracker, this host
    slurm.py      partitions, the notice before preemption, this job

A check returns findings and leaves nothing behind. None may hang, and none needs what another
finds broken: torch is imported where it is tried.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from unify.doctor.finding import Finding, cause, within
from unify.doctor.hardware import devices, ranks
from unify.doctor.places import host, run_folder, seen_by_all, tracker
from unify.doctor.slurm import cluster, job
from unify.doctor.software import attention, compiler, installed, vision
from unify.support.environment import environment, redact

LIMIT = 180.0  # seconds of one check: a file system that does not answer cannot be asked to stop


def diagnose(runs: Path, uri: str, say: Callable[[str], None]) -> list[Finding]:
    """Run all checks and print each finding as soon as it is made.

    Args:
        runs: the folder of runs.
        uri: the value of `machine.tracker`.
        say: prints a line.

    In a step of several tasks the first prints all findings, the others their problems.
    """
    checks: dict[str, Callable[[], list[Finding]]] = {
        "packages": installed,
        "torchvision": vision,
        "ranks": ranks,
        "devices": devices,  # after the ranks: a GPU may be one process's alone
        "compiler": compiler,
        "attention": attention,
        "runs": lambda: run_folder(runs),
        "shared": lambda: seen_by_all(runs),
        "tracker": lambda: tracker(uri, runs),
        "host": host,
        "slurm": cluster,
        "job": job,
    }
    rank = int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)
    findings: list[Finding] = []
    for name, check in checks.items():
        for finding in attempt(name, check):
            findings.append(finding)
            if rank == 0:
                say(line(finding))
            elif finding.state == "problem":
                say(f"{socket.gethostname()}, task {rank}: {line(finding)}")
    return findings


def attempt(name: str, check: Callable[[], list[Finding]], limit: float = LIMIT) -> list[Finding]:
    """Findings of a check, secrets removed; a check that fails or hangs is a finding, too."""
    try:
        findings = within(limit, check)
    except TimeoutError:
        text = f"the check did not end within {limit:.0f} s"
        findings = [Finding(name, "problem", text, "see what of it does not answer, and repeat")]
    except Exception as error:
        advice = "mend what is named here, and what stands above; then repeat"
        findings = [Finding(name, "problem", f"not checked: {cause(error)}", advice)]
    return [replace(f, found=redact(f.found), do=redact(f.do)) for f in findings]


def line(finding: Finding) -> str:
    """A finding as text: `state  name  what was found`, and below it what to do."""
    state = "PROBLEM" if finding.state == "problem" else finding.state
    advice = f"\n{'':9}-> {finding.do}" if finding.do else ""
    return f"{state:<8} {finding.name:<13} {finding.found}{advice}"


def as_data(findings: list[Finding]) -> dict[str, Any]:
    """Findings beside what a run would record of its environment."""
    try:
        here = environment()
    except Exception as error:  # a torch that cannot be imported has its own finding
        here = {"error": redact(cause(error))}
    return {"environment": here, "findings": [asdict(finding) for finding in findings]}
