"""The stop protocol: the signals that ask a process to stop, and its exit statuses.

    scheduler            SIGUSR2 or SIGUSR1 some time before the node is taken, SIGTERM when it is
      -> cluster/requeue.py              one in each task; sends SIGUSR1 until its command ends
        -> distributed/local_launch.py   where one command starts the ranks: passes signals on
        -> distributed/process_pool.py   where one command starts several: passes signals on
          -> training/checkpointing.py   notes the signal; saves and stops after the step, all ranks
          <- `Stopped` or exit status EX_TEMPFAIL
      <- requeued on EX_TEMPFAIL, EX_UNAVAILABLE or death by a signal

Statuses: 0 done, 1 an error that the same command would meet again, 130 Ctrl-C, and

    EX_TEMPFAIL     a signal stopped it; the same command resumes it
    EX_UNAVAILABLE  other ranks are gone; the same command, on all of them, resumes it

Loader processes ignore all of it (data/workers.py): their trainer needs them to end its step. An
exception carries its status as `exit_status`. Nothing here imports torch.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

EX_TEMPFAIL = 75
EX_UNAVAILABLE = 69

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # a run saves and stops
NOTICES = (signal.SIGUSR1, signal.SIGUSR2)  # the scheduler will take the node: requeue the job
# what a scheduler sends; Ctrl-C is none of it, as a terminal gives it to the whole group
SCHEDULER_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class PlainError(Exception):
    """An error whose message tells a user all: it is shown without its type or a traceback."""

    exit_status = 1


class Stopped(PlainError):
    """A signal stopped a run before its last step; the same command resumes it."""

    exit_status = EX_TEMPFAIL


@contextmanager
def stop_signals_to(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Call `handler(number, frame)` on STOP_SIGNALS; the former handlers come back at the end."""
    before = {number: signal.signal(number, handler) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def end_process(status: int, join_threads: bool = True) -> NoReturn:
    """End this process: threads, exit functions, output; the interpreter is not torn down.

    Taking torch apart takes two seconds, and a thread of a process group that frees a tensor
    meanwhile aborts the process (github.com/pytorch/pytorch/pull/179291), which loses its status.

    Args:
        status: what the parent sees.
        join_threads: wait for threads first; not where one may wait for ranks that are gone.
    """
    if join_threads:
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # a reader that closed the pipe has read enough; any other loss of output is an error
        with suppress(OSError if status else BrokenPipeError):
            stream.flush()
    os._exit(status)
