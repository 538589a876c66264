"""How a process is asked to stop, what its status says, and how it ends."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
import typer

from unify import cli
from unify.distributed.lost_ranks import LostRanks
from unify.support.stop_protocol import (
    EX_TEMPFAIL,
    EX_UNAVAILABLE,
    STOP_SIGNALS,
    PlainError,
    Stopped,
    stop_signals_to,
)
from unify.training.step_record import NonFiniteError


def python(code: str) -> subprocess.CompletedProcess[str]:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=buffered, capture_output=True, text=True, timeout=120)


def test_signals_come_to_the_handler_inside_and_to_the_former_one_after():
    former, inner = [], []
    before = {n: signal.signal(n, lambda n, _: former.append(n)) for n in STOP_SIGNALS}
    try:
        with suppress(KeyError), stop_signals_to(lambda number, _: inner.append(number)):
            for number in STOP_SIGNALS:
                os.kill(os.getpid(), number)
            raise KeyError  # an error inside gives them back, too
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert inner == list(STOP_SIGNALS)
    assert former == [signal.SIGTERM]


ENDS = """
import atexit, threading, time
from unify.support.stop_protocol import end_process
def late():
    time.sleep(0.3)
    print("thread")
class Loud:
    def __del__(self):
        print("torn down")
kept = Loud()
atexit.register(print, "exit function")
threading.Thread(target=late).start()
end_process(3{})
"""


def test_a_process_ends_after_threads_and_exit_functions_and_without_teardown():
    done = python(ENDS.format(""))
    assert (done.returncode, done.stdout) == (3, "thread\nexit function\n"), done.stderr
    done = python(ENDS.format(", join_threads=False"))
    assert (done.returncode, done.stdout) == (3, "exit function\n"), done.stderr


def test_a_reader_that_has_read_enough_is_no_error_and_lost_output_is():
    start = "import os; from unify.support.stop_protocol import end_process; "
    closed = f"{start}r, w = os.pipe(); os.dup2(w, 1); os.close(w); os.close(r); print('x'); "
    full = f"{start}os.dup2(os.open('/dev/full', os.O_WRONLY), 1); print('x'); "
    assert python(f"{closed}end_process(0)").returncode == 0
    assert "No space left" in python(f"{full}end_process(0)").stderr
    assert python(f"{full}end_process(5)").returncode == 5


def test_the_protocol_does_not_take_torch():
    done = python("import sys, unify.support.stop_protocol; print('torch' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (Stopped("was stopped"), EX_TEMPFAIL, "was stopped"),
        (LostRanks("has lost"), EX_UNAVAILABLE, "has lost"),
        (NonFiniteError("is NaN"), 1, "is NaN"),
        (PlainError("all is said"), 1, "all is said"),
        (ValueError("mend it"), 1, "mend it"),
        (KeyError("seed"), 1, "KeyError: 'seed' (--debug shows where)"),
        (typer.BadParameter("no such"), 2, "Invalid value: no such"),
    ],
)
def test_an_exception_brings_its_exit_status(monkeypatch, capsys, error, status, message):
    def fail(*_: object, **__: object) -> None:
        raise error

    class Ended(BaseException):
        pass

    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(sys, "argv", ["unify", "check"])
    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr("unify.distributed.ranks.end", end)
    with pytest.raises(Ended, match=f"^{status}$"):
        cli.main()
    assert capsys.readouterr().err == f"unify: {message}\n"
