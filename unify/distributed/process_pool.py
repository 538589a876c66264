"""Run several commands at once on one machine, each in a process of its own.

`unify study --jobs N` runs its arms so: `unify study FILE --arm ARM --seed SEED` trains and scores
one. A run that several need is trained by the first while the others wait for its lock. Speed is
measured later and alone, as processes that run beside each other slow each other down.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any

import torch

from unify.support.stop_protocol import Interrupted, status_of, stop_signals_to

Result = tuple[int, str]  # exit status and last line


def run_at_once(
    commands: dict[str, list[str]],
    jobs: int,
    say: Callable[[str], None],
    variables: Mapping[str, str] | None = None,
    after: Mapping[str, str] | None = None,
) -> dict[str, tuple[int, str]]:
    """Run commands, `jobs` at a time, in their order as far as `after` lets them.

    STOP_SIGNALS are passed on (see `passed_on`). Commands that have not started by then never do.

    Args:
        commands: command lines by name.
        jobs: how many run at a time; each gets its share of cores and accelerators.
        say: takes each line of output as it comes, as `<name> | <line>`.
        variables: more environment variables for each.
        after: commands that start when another one has ended, well or not, by name.

    Returns:
        exit status and last line of each command that failed, by name; the status is that of the
        signal if one stopped it, or kept it from starting.

    Raises:
        Interrupted: a signal came, and all commands have ended well nevertheless.
    """
    crew = Crew(commands, jobs, say, variables or {})
    with ThreadPoolExecutor(jobs) as pool, stop_signals_to(crew.stop, crew.kill):
        results = _each_in_turn(pool, crew.run, list(commands), after or {})
    failed = {name: (status, last) for name, (status, last) in results.items() if status}
    if crew.stopped and not failed:  # what ran was about to end: nothing more begins
        raise Interrupted(crew.stopped[0])
    return failed


def _each_in_turn(
    pool: ThreadPoolExecutor, run: Callable[[str], Result], names: list[str], after: Mapping
) -> dict[str, Result]:
    """What `run` gives for each name, started when that after which it comes has ended."""
    running: dict[Future[Result], str] = {}
    results: dict[str, Result] = {}
    while len(results) < len(names):
        begun = {*running.values(), *results}
        for name in names:
            if name not in begun and after.get(name, name) in (name, *results):
                running[pool.submit(run, name)] = name
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            results[running.pop(future)] = future.result()
    return results


def passed_on(number: int) -> int:
    """The signal that tells a child of `number`: the children have a terminal's signals already.

    A second Ctrl-C would end them before they have saved.
    """
    return signal.SIGUSR1 if number in (signal.SIGINT, signal.SIGHUP) else number


class Crew:
    """Running commands, each on one of `jobs` seats: a share of the cores and accelerators."""

    def __init__(
        self,
        commands: dict[str, list[str]],
        jobs: int,
        say: Callable[[str], None],
        variables: Mapping[str, str],
    ):
        self.commands, self.jobs, self.say, self.variables = commands, jobs, say, variables
        self.seats: SimpleQueue[int] = SimpleQueue()
        for seat in range(jobs):
            self.seats.put(seat)
        self.running: set[subprocess.Popen] = set()
        self.stopped: list[int] = []

    def run(self, name: str) -> tuple[int, str]:
        """Wait for a seat, run a command; its exit status and last line."""
        if self.stopped:
            return status_of(self.stopped[0]), "stopped before it started"
        seat = self.seats.get()
        process = subprocess.Popen(
            self.commands[name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | share(seat, self.jobs) | dict(self.variables),
        )
        self.running.add(process)
        if self.stopped:  # the signal came while the process was being started
            process.send_signal(passed_on(self.stopped[0]))
        last = ""
        assert process.stdout is not None
        for line in process.stdout:
            last = line.rstrip()
            self.say(f"{name} | {last}")
        self.running.discard(process)
        status = process.wait()
        self.seats.put(seat)
        return (status_of(self.stopped[0]) if status and self.stopped else status), last

    def stop(self, number: int, _: Any) -> None:
        """Pass a signal on to what runs, and start nothing more."""
        self.stopped.append(number)
        for process in list(self.running):
            process.send_signal(passed_on(number))

    def kill(self) -> None:
        """End what runs on the spot."""
        for process in list(self.running):
            process.kill()


def share(seat: int, jobs: int) -> dict[str, str]:
    """Environment of seat `seat` of `jobs`: CPU threads, and GPUs if this machine has several.

    With more jobs than GPUs, jobs share them in turn.
    """
    threads = {"OMP_NUM_THREADS": str(threads_of(jobs))}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    if jobs == 1 or len(gpus) < 2:
        return threads
    mine = gpus[seat::jobs] if seat < len(gpus) else [gpus[seat % len(gpus)]]
    return threads | {"CUDA_VISIBLE_DEVICES": ",".join(mine)}


def threads_of(jobs: int) -> int:
    """Number of CPU threads for each of `jobs`: their share of the cores this process may use."""
    return max(1, len(os.sched_getaffinity(0)) // jobs)
