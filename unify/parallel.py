"""Several commands at once on one machine, each in a process of its own.

For the runs of a study: `unify study FILE --arm ARM --seed SEED` trains one of them. What they
share is trained by the first that needs it while the others wait. They are not scored here: speed
is measured on a quiet machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

STOP = (signal.SIGTERM, signal.SIGUSR1)  # passed on; Ctrl-C reaches the whole group by itself


def run_at_once(
    commands: dict[str, list[str]], jobs: int, say: Callable[[str], None]
) -> dict[str, tuple[int, str]]:
    """Run commands, `jobs` at a time, their lines said under their names as they come.

    Returns exit status and last words of each that failed. SIGTERM and SIGUSR1 are passed on; what
    has not started then never does, and what has not ended well has status EX_TEMPFAIL.
    """
    running: set[subprocess.Popen] = set()
    stopped: list[int] = []
    environment = os.environ | {"OMP_NUM_THREADS": str(threads_of(jobs))}

    def run(name: str) -> tuple[int, str]:
        if stopped:
            return os.EX_TEMPFAIL, "stopped before it started"
        process = subprocess.Popen(
            commands[name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        running.add(process)
        if stopped:  # the signal came while the process was being started
            process.send_signal(stopped[0])
        last = ""
        assert process.stdout is not None
        for line in process.stdout:
            last = line.rstrip()
            say(f"{name} | {last}")
        running.discard(process)
        status = process.wait()
        return (os.EX_TEMPFAIL if status and stopped else status), last

    def stop(number: int, _: Any) -> None:
        stopped.append(number)
        for process in list(running):
            process.send_signal(number)

    with ThreadPoolExecutor(jobs) as pool, _handled(stop):
        try:
            ended = dict(zip(commands, pool.map(run, commands), strict=True))
        except KeyboardInterrupt:
            stopped.append(signal.SIGINT)
            raise
    return {name: (status, last) for name, (status, last) in ended.items() if status}


def threads_of(jobs: int) -> int:
    """Each job's share of the CPU cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) // jobs)


@contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in STOP}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
