"""Several commands at once on one machine, each in a process of its own.

For the runs of a study: `unify study FILE --arm ARM --seed SEED` trains and scores one of them.
What they share is trained by the first that needs it while the others wait. Their speed is not
measured here, where others run beside.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import torch

from unify.support.stop_protocol import EX_TEMPFAIL, stop_signals_to


def run_at_once(
    commands: dict[str, list[str]], jobs: int, say: Callable[[str], None]
) -> dict[str, tuple[int, str]]:
    """Run commands, `jobs` at a time, their lines said under their names as they come.

    Returns exit status and last words of each that failed. SIGTERM and SIGUSR1 are passed on; what
    has not started then never does, and what has not ended well has status EX_TEMPFAIL.
    """
    crew = Crew(commands, jobs, say)
    with ThreadPoolExecutor(jobs) as pool, stop_signals_to(crew.stop):
        try:
            ended = dict(zip(commands, pool.map(crew.run, commands), strict=True))
        except KeyboardInterrupt:
            crew.stopped.append(signal.SIGINT)
            raise
    return {name: (status, last) for name, (status, last) in ended.items() if status}


class Crew:
    """Workers with a seat each: a share of the machine's cores and accelerators."""

    def __init__(self, commands: dict[str, list[str]], jobs: int, say: Callable[[str], None]):
        self.commands, self.jobs, self.say = commands, jobs, say
        self.seats: SimpleQueue[int] = SimpleQueue()
        for seat in range(jobs):
            self.seats.put(seat)
        self.running: set[subprocess.Popen] = set()
        self.stopped: list[int] = []

    def run(self, name: str) -> tuple[int, str]:
        """Exit status and last line of one command."""
        if self.stopped:
            return EX_TEMPFAIL, "stopped before it started"
        seat = self.seats.get()
        process = subprocess.Popen(
            self.commands[name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | share(seat, self.jobs),
        )
        self.running.add(process)
        if self.stopped:  # the signal came while the process was being started
            process.send_signal(self.stopped[0])
        last = ""
        assert process.stdout is not None
        for line in process.stdout:
            last = line.rstrip()
            self.say(f"{name} | {last}")
        self.running.discard(process)
        status = process.wait()
        self.seats.put(seat)
        return (EX_TEMPFAIL if status and self.stopped else status), last

    def stop(self, number: int, _: Any) -> None:
        self.stopped.append(number)
        for process in list(self.running):
            process.send_signal(number)


def share(seat: int, jobs: int) -> dict[str, str]:
    """The environment of one job of so many: its CPU threads, and its GPUs if there are several."""
    threads = {"OMP_NUM_THREADS": str(threads_of(jobs))}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    known = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    if jobs == 1 or len(known) < 2:
        return threads
    mine = known[seat::jobs] if seat < len(known) else [known[seat % len(known)]]
    return threads | {"CUDA_VISIBLE_DEVICES": ",".join(mine)}


def threads_of(jobs: int) -> int:
    """Each job's share of the CPU cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) // jobs)
