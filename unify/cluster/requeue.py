"""The task of a SLURM job: a command that is asked to save when SLURM wants the node back.

Every signal of SLURM's is only noted here. The command gets SIGUSR1, again and again, as it may
still be starting and not listening; it saves at the end of a step on all ranks and ends with
EX_TEMPFAIL. A command that does not end in `grace` seconds (it is evaluating, perhaps) is killed:
what it had saved is there.

    SIGUSR2 or SIGUSR1    the notice before a time limit or a preemption: the first task requeues
    SIGTERM alone         scancel, or a preemption without notice: SLURM knows whether to requeue
    no signal             it was killed, or has lost the ranks of another node: requeued as well
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from unify.support.stop_protocol import (
    EX_TEMPFAIL,
    EX_UNAVAILABLE,
    NOTICES,
    SCHEDULER_SIGNALS,
)
from unify.support.terminal import echo

LOSSES = 5
SETTLING = 5.0  # seconds in which SLURM ends a job of which a rank has failed


class Requeued:
    """`command` in a process of its own, requeued up to `most` times. It is pickled by submitit.

    What ends without having been asked to is requeued LOSSES times at most; `log` keeps count.
    """

    def __init__(self, command: Sequence[str], grace: float, most: int, log: Path):
        self.command, self.grace, self.most, self.log = list(command), grace, most, log

    def __call__(self) -> None:
        asked: dict[int, float] = {}  # signal -> when it first came
        for number in SCHEDULER_SIGNALS:
            signal.signal(number, lambda n, _: asked.setdefault(n, time.monotonic()))
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        child = subprocess.Popen(self.command, env=environment, preexec_fn=_deaf)
        while child.poll() is None:
            if asked:
                child.send_signal(signal.SIGUSR1)
                if time.monotonic() > min(asked.values()) + self.grace:
                    child.kill()
            with suppress(subprocess.TimeoutExpired):
                child.wait(1 if asked else 0.2)
        code = child.returncode
        gone = code < 0 or code > 128 or code == EX_UNAVAILABLE  # it was killed, or others were
        if gone and not asked:
            time.sleep(SETTLING)  # an error of another rank ends the job by now
        if (gone or code == EX_TEMPFAIL) and self._goes_on(asked, gone):
            time.sleep(self.grace + 60)  # SLURM takes this process down before that
        if code:
            raise SystemExit(code if code > 0 else 128 - code)

    def _goes_on(self, asked: Mapping[int, float], gone: bool) -> bool:
        """True if the job comes back, by this process or by SLURM."""
        if asked.keys() & set(NOTICES):
            return self._again()
        if asked:
            return True  # SLURM ends the job, and knows what becomes of it
        return gone and self._again(lost=True)

    def _again(self, lost: bool = False) -> bool:
        """Put the job back into the queue, or say why not. A lost one by the rank that is left."""
        times = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        losses = set(self.log.read_text().splitlines()) if self.log.exists() else set()
        if times >= self.most or (lost and len(losses) >= LOSSES):
            echo(f"requeued {times} times, {len(losses)} of them lost: given up")
            return False
        if lost:
            with open(self.log, "a") as log:
                log.write(f"at restart {times}\n")
        elif os.environ.get("SLURM_PROCID", "0") != "0":
            return True
        if "JobState=CANCELLED" in _scontrol("show", "job", "-o", _job()).stdout:
            return False
        done = _scontrol("requeue", _job())
        if done.returncode:
            echo(f"not requeued: {done.stderr.strip()}")
        return lost or done.returncode == 0  # another rank may have done so


def _scontrol(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["scontrol", *words], capture_output=True, text=True)


def _job() -> str:
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def _deaf() -> None:
    """Ignore signals in the child until it listens: an ignored signal survives exec."""
    for number in SCHEDULER_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
