"""What a task of a SLURM job runs: a command, that is asked to save when SLURM wants the node back.

Every signal of SLURM's is only noted here. The command gets SIGUSR1, again and again, as it may
still be starting and not listening; it saves at the end of a step on all ranks and ends with
EX_TEMPFAIL. A command that does not end in `grace` seconds (it is evaluating, perhaps) is killed:
what it had saved is there.

    SIGUSR2 or SIGUSR1    the notice before a time limit or a preemption: the first task requeues
    SIGTERM alone         scancel, or a preemption without notice: SLURM knows whether to requeue
    no signal             it was killed, or has lost the ranks of another node: requeued as well
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Requeued:
    """`command` in a process of its own, requeued up to `most` times. It is pickled by submitit."""

    def __init__(self, command: Sequence[str], grace: float, most: int):
        self.command, self.grace, self.most = list(command), grace, most

    def __call__(self) -> None:
        asked: dict[int, float] = {}  # signal -> when it first came
        for number in SIGNALS:
            signal.signal(number, lambda n, _: asked.setdefault(n, time.monotonic()))
        child = subprocess.Popen(self.command, preexec_fn=_deaf)
        while child.poll() is None:
            if asked:
                child.send_signal(signal.SIGUSR1)
                if time.monotonic() > min(asked.values()) + self.grace:
                    child.kill()
            with suppress(subprocess.TimeoutExpired):
                child.wait(1 if asked else 0.2)
        stopped = child.returncode == os.EX_TEMPFAIL and asked
        if stopped or child.returncode == os.EX_UNAVAILABLE or child.returncode < 0:
            if not asked or asked.keys() & {signal.SIGUSR1, signal.SIGUSR2}:
                self._again()
            time.sleep(self.grace + 60)  # SLURM takes this process down before that
        if child.returncode:
            raise SystemExit(child.returncode if child.returncode > 0 else 128 - child.returncode)

    def _again(self) -> None:
        """Put the job back into the queue."""
        times = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        if times >= self.most:
            print(f"requeued {times} times already: given up; see cluster.requeues", flush=True)
            return
        if os.environ.get("SLURM_PROCID", "0") == "0":
            done = subprocess.run(["scontrol", "requeue", _job()], capture_output=True, text=True)
            if done.returncode:
                print(f"not requeued: {done.stderr.strip()}; submit it again", flush=True)


def _job() -> str:
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def _deaf() -> None:
    """In the child, until it listens: what is ignored stays so when it becomes another program."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
