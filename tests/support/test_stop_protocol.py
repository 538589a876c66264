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
    Interrupted,
    LostOutput,
    PlainError,
    Stopped,
    interruptible,
    kept_if_interrupted,
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


@pytest.mark.fault(38)
@pytest.mark.parametrize(
    ("number", "status", "name"),
    [
        (signal.SIGINT, 130, "Ctrl-C"),
        (signal.SIGHUP, 129, "the loss of its terminal"),
        (signal.SIGTERM, 75, "SIGTERM"),
        (signal.SIGUSR1, 75, "SIGUSR1"),
    ],
)
def test_outside_of_a_loop_a_signal_interrupts_and_says_what_is_kept(number, status, name):
    former = signal.signal(number, signal.default_int_handler)
    try:
        outer, inner = map(kept_if_interrupted, ("outer", "the weights are saved"))
        with pytest.raises(Interrupted) as caught, interruptible(), outer, inner:
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, former)
    assert str(caught.value) == f"stopped by {name}; the weights are saved"
    assert (caught.value.exit_status, Stopped("x", number).exit_status) == (status, status)
    assert not isinstance(caught.value, Exception), "no handler of errors may keep it"


def test_a_signal_after_the_first_does_not_disturb_the_end():
    with interruptible():
        with suppress(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT):
            os.kill(os.getpid(), number)


def test_what_ignores_the_loss_of_a_terminal_goes_on():
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible(), stop_signals_to(lambda *_: pytest.fail("as under nohup")):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, former)


TWICE = """
import os, signal, time
from unify.support.stop_protocol import stop_signals_to
noted = []
with stop_signals_to(lambda number, _: noted.append(number), lambda: print("children", flush=True)):
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    print(noted == [signal.SIGINT, signal.SIGTERM], flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""


@pytest.mark.fault(38)
def test_a_second_ctrl_c_ends_on_the_spot():
    done = python(TWICE)
    assert (done.returncode, done.stdout) == (130, "True\nchildren\n"), done.stderr


LOST = """
import os, pty, signal, time
from unify.support.stop_protocol import stop_signals_to
pid, terminal = pty.fork()
if pid == 0:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    come = []
    with stop_signals_to(lambda number, _: come.append(number)):
        os.write(1, b"ready")
        while not come:
            time.sleep(0.01)
        print("into nothing", flush=True)
    os._exit(3)
os.read(terminal, 5)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.fault(38)
def test_output_to_a_terminal_that_is_gone_is_no_error():
    assert python(LOST).stdout == "3\n"


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
    assert "standard output cannot be written (No space" in python(f"{full}end_process(0)").stderr
    assert python(f"{full}end_process(5)").returncode == 5


def test_the_protocol_does_not_take_torch():
    done = python("import sys, unify.support.stop_protocol; print('torch' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (Stopped("was stopped"), EX_TEMPFAIL, "was stopped"),
        (Stopped("was stopped", signal.SIGINT), 130, "was stopped"),
        (LostOutput("standard output"), 1, "standard output"),
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
