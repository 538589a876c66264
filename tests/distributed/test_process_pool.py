"""Commands at once: their lines, what failed, and that a signal reaches every one of them."""

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from unify.distributed.process_pool import _each_in_turn, run_at_once, share, threads_of
from unify.support.stop_protocol import Interrupted

WAITS = "import time; print('started', flush=True); time.sleep(60)"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_lines_come_under_their_names_and_failures_have_status_and_last_words():
    lines: list[str] = []
    commands = {
        "good": python("print('one'); print('two')"),
        "bad": python("import sys; print('oh'); print('no', file=sys.stderr); sys.exit(3)"),
    }
    assert run_at_once(commands, 2, lines.append) == {"bad": (3, "no")}
    assert [line for line in lines if line.startswith("good")] == ["good | one", "good | two"]


@pytest.mark.parametrize(
    ("jobs", "shares"),
    [(1, ["4,5,6,7"]), (2, ["4,6", "5,7"]), (3, ["4,7", "5", "6"]), (5, ["4", "5", "6", "7", "4"])],
)
def test_jobs_share_the_visible_accelerators(monkeypatch, jobs, shares):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    lines: list[str] = []
    assert run_at_once({"one": python(code)}, jobs, lines.append) == {}
    assert lines == [f"one | {shares[0]}"]
    given = [share(seat, jobs).get("CUDA_VISIBLE_DEVICES", "4,5,6,7") for seat in range(jobs)]
    assert given == shares


def test_at_most_so_many_run_at_a_time(tmp_path):
    code = (
        "import os, sys, time; from pathlib import Path; p = Path({folder!r}); "
        "(p / str(os.getpid())).write_text(''); time.sleep(0.3); print(len(list(p.iterdir()))); "
        "(p / str(os.getpid())).unlink()"
    )
    commands = {str(i): python(code.format(folder=str(tmp_path))) for i in range(4)}
    lines: list[str] = []
    assert run_at_once(commands, 2, lines.append) == {}
    assert max(int(line.split("| ")[1]) for line in lines) <= 2


def test_a_command_starts_after_that_which_it_waits_for_and_no_seat_stays_empty():
    """With two seats: `b` waits for `a`, `d` for `c`, `e` for none; `c` ends once `b` has begun."""
    events: list[str] = []
    begun = {name: threading.Event() for name in "abcde"}

    def run(name):
        events.append(f"start {name}")
        begun[name].set()
        if name == "c":
            assert begun["b"].wait(30), "b waits for a alone"
        events.append(f"end {name}")
        return 0, ""

    with ThreadPoolExecutor(2) as pool:
        results = _each_in_turn(pool, run, [*"bdace"], {"b": "a", "d": "c"})
    assert results == dict.fromkeys("abcde", (0, ""))
    assert events.index("end a") < events.index("start b")
    assert events.index("end c") < events.index("start d")


def test_what_waited_starts_also_where_the_other_failed():
    lines: list[str] = []
    commands = {"late": python("print('ran')"), "bad": python("raise SystemExit(4)")}
    assert run_at_once(commands, 2, lines.append, after={"late": "bad"}) == {"bad": (4, "")}
    assert lines == ["late | ran"]


def test_cores_are_shared_and_a_job_has_one_at_least():
    cores = len(os.sched_getaffinity(0))
    assert threads_of(1) == cores
    assert threads_of(10 * cores) == 1


@pytest.mark.fault(11)
def test_a_signal_is_passed_on_and_what_waits_never_starts():
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        os.kill(os.getpid(), signal.SIGTERM)

    failed = run_at_once({"first": python(WAITS), "second": python(WAITS)}, 1, say)
    assert failed["first"] == (os.EX_TEMPFAIL, "started")
    assert failed["second"] == (os.EX_TEMPFAIL, "stopped before it started")
    assert lines == ["first | started"]


COUNTS = """
import signal, sys, time
for number in (signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, lambda n, _: (print(signal.Signals(n).name, flush=True), sys.exit(75)))
print("started", flush=True)
time.sleep(60)
"""


@pytest.mark.fault(38)
def test_ctrl_c_is_passed_on_as_another_signal_as_the_children_have_it_already():
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line.endswith("started"):
            os.kill(os.getpid(), signal.SIGINT)

    failed = run_at_once({"one": python(COUNTS), "two": python(COUNTS)}, 1, say)
    assert failed == {"one": (130, "SIGUSR1"), "two": (130, "stopped before it started")}


def test_a_signal_that_fails_no_command_still_ends_the_study():
    def say(line: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); "
    with pytest.raises(Interrupted):
        run_at_once({"one": python(deaf + "time.sleep(0.2)")}, 1, say)
