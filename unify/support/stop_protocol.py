"""The stop protocol: the signals that ask a process to stop, and its exit statuses.

    scheduler            SIGUSR2 or SIGUSR1 some time before the node is taken, SIGTERM when it is
      -> cluster/requeue.py              one in each task; sends SIGUSR1 until its command ends
        -> distributed/local_launch.py   where one command starts the ranks: passes signals on
        -> distributed/process_pool.py   where one command starts several: passes signals on
          -> training/checkpointing.py   notes the signal; saves and stops after the step, all ranks
          <- `Stopped` or the status of the signal
      <- requeued on EX_TEMPFAIL, EX_UNAVAILABLE or death by a signal

Ctrl-C (SIGINT) and a lost terminal (SIGHUP) come to all of these at once and do the same. Outside
of a training loop nothing is half done that could be saved, and a signal raises `Interrupted`
where the process is. A second Ctrl-C ends it on the spot.

Statuses: 0 done, 1 an error that the same command would meet again, and

    130, 129        Ctrl-C, a lost terminal
    EX_TEMPFAIL     any other signal stopped it; the same command resumes it
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

# SIGXCPU: the limit on processor time is near
STOP_SIGNALS = (
    *(signal.SIGINT, signal.SIGHUP, signal.SIGTERM),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU),
)
NOTICES = (signal.SIGUSR1, signal.SIGUSR2)  # the scheduler will take the node: requeue the job
SCHEDULER_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # what a scheduler sends
# what comes to every process of a group at once: from a scheduler, and from a terminal
GROUP_SIGNALS = (*SCHEDULER_SIGNALS, signal.SIGINT, signal.SIGHUP)
STATUSES = {signal.SIGINT: 130, signal.SIGHUP: 129}  # the others: EX_TEMPFAIL
STOPPED_BY = {**{status: n for n, status in STATUSES.items()}, EX_TEMPFAIL: signal.SIGTERM}
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGHUP: "the loss of its terminal"}
KEPT = "what was finished before is kept, and the same command goes on"


class PlainError(Exception):
    """An error whose message tells a user all: it is shown without its type or a traceback."""

    exit_status = 1


class Stopped(PlainError):
    """A signal stopped a run before its last step; the same command resumes it."""

    def __init__(self, message: str, number: int = signal.SIGTERM):
        super().__init__(message)
        self.number = number
        self.exit_status = status_of(number)


class Interrupted(BaseException):
    """A signal came where there is nothing to finish; no handler of errors may keep it.

    `kept` says what is saved and how to go on; the innermost `kept_if_interrupted` sets it.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number, self.kept = number, ""
        self.exit_status = status_of(number)

    def __str__(self) -> str:
        return f"stopped by {name_of(self.number)}; {self.kept or KEPT}"


def status_of(number: int) -> int:
    """The exit status of a process that this signal has stopped."""
    return STATUSES.get(signal.Signals(number), EX_TEMPFAIL)


def name_of(number: int) -> str:
    """A signal in the words of a message: `Ctrl-C`, `the loss of its terminal`, `SIGTERM`."""
    return NAMES.get(signal.Signals(number), signal.Signals(number).name)


def speaks() -> bool:
    """True in the process that speaks for all of its ranks."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def kept_if_interrupted(words: str) -> Iterator[None]:
    """What an `Interrupted` in here says: what is saved, and how to go on."""
    try:
        yield
    except Interrupted as stop:
        stop.kept = stop.kept or words
        raise


class _Received:
    """The signals of this process since the outermost `stop_signals_to` began."""

    depth = 0
    numbers: list[int] = []
    terminals: list[int] = []  # descriptors of output that led to a terminal then


@contextmanager
def stop_signals_to(
    handler: Callable[[int, Any], None], at_once: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Call `handler(number, frame)` on STOP_SIGNALS; the former handlers come back at the end.

    A second Ctrl-C calls `at_once` and ends the process. SIGHUP stays ignored where it was, as
    under nohup.
    """

    def receive(number: int, frame: Any) -> None:
        again = number == signal.SIGINT and signal.SIGINT in _Received.numbers
        _Received.numbers.append(number)
        if again:
            at_once()
            _end_at_once()
        if number == signal.SIGHUP:
            _forget_lost_terminals()
        handler(number, frame)

    _enter()
    before = {}
    for number in STOP_SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, receive)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        _Received.depth -= 1


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` on the first of STOP_SIGNALS; later ones wait for the process to end.

    A signal that whoever started this process ignores stays ignored, except Ctrl-C: scripts start
    what runs in the background without it, and `kill -INT` means it.
    """

    def interrupt(number: int, _: Any) -> None:
        if len(_Received.numbers) == 1:
            raise Interrupted(number)

    ignored = [n for n in STOP_SIGNALS if n != signal.SIGINT and _is_ignored(n)]
    with stop_signals_to(interrupt):
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        yield


def _is_ignored(number: int) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN


def _enter() -> None:
    if _Received.depth == 0:
        _Received.numbers = []
        _Received.terminals = [fd for fd in (1, 2) if _is_terminal(fd)]
    _Received.depth += 1


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def _forget_lost_terminals() -> None:
    """Send output that led to a terminal which is gone nowhere: writing it would be an error."""
    for descriptor in _Received.terminals:
        if not _is_terminal(descriptor):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _end_at_once() -> NoReturn:
    """End this process and the processes that multiprocessing started in it, saving nothing."""
    if "multiprocessing.process" in sys.modules:
        from multiprocessing import active_children

        with suppress(Exception):
            for child in active_children():
                child.kill()
    os._exit(STATUSES[signal.SIGINT])


class LostOutput(PlainError):
    """Standard output or error cannot be written, for another reason than a reader that left."""


@contextmanager
def named_output(err: bool = False) -> Iterator[None]:
    """Say of an error in here that it is of standard output, or error: nothing else is at fault."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "standard error" if err else "standard output"
        raise LostOutput(
            f"{name} cannot be written ({error.strerror}): give it a place that has room"
        ) from error


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
    for err, stream in enumerate((sys.stdout, sys.stderr)):
        # a reader that closed the pipe has read enough; any other loss of output is an error
        harmless = (OSError, LostOutput) if status else (BrokenPipeError,)
        with suppress(*harmless), named_output(bool(err)):
            stream.flush()
    os._exit(status)
