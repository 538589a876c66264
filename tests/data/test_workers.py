"""Loader processes: they outlive signals to the group, end with the run, and time out."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
    import signal, sys, time
    from itertools import islice
    sys.path.insert(0, {tests!r})
    from tiny_source import TASKS, Tiny
    from unify.data.module import Data
    from unify.data import workers
    at_birth = workers._outlive_signals
    def late(trainer, worker):
        time.sleep(worker)  # the second worker is not ready when the signals come
        at_birth(trainer, worker)
    if {ranks} == 1:  # else this is not what a worker imports
        workers._outlive_signals = late
    batches = iter(Data(Tiny(), TASKS).train_batches(0, 1, 0, 50, {ranks}, workers=2))
    next(batches)
    signals_seen = []
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _: signals_seen.append(n))
    print("ready", flush=True)
    while len(signals_seen) < 4:
        time.sleep(0.01)
    print(sum(1 for _ in islice(batches, 20)))  # and leave with workers alive
"""

STUCK = """
    import sys, time
    sys.path.insert(0, {tests!r})
    from tiny_source import TASKS, Tiny
    from unify.data.module import Data
    class Stuck(Tiny):
        def record(self, *key):
            time.sleep(1e6 if key[-1] > 2 else 0)
            return super().record(*key)
    data = Data(Stuck(), TASKS)
    data.prepare(0, 2, timeout=2)
    batches = data.train_batches(0, 1, 0, 50, workers=2)
    try:
        list(batches)
    except RuntimeError as error:
        print(error, flush=True)
"""


@pytest.mark.slow
@pytest.mark.fault(33)
def test_a_loader_process_that_has_no_batch_is_not_waited_for():
    script = textwrap.dedent(STUCK.format(tests=os.path.dirname(__file__)))
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert run.stdout == "DataLoader timed out after 2 seconds\n", run.stderr
    assert run.returncode == 0


@pytest.mark.fault(11, times=2)
@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_workers_outlive_a_signal_to_the_group_and_end_with_the_run(ranks):
    script = textwrap.dedent(SCRIPT.format(tests=os.path.dirname(__file__), ranks=ranks))
    run = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert run.stdout.readline() == "ready\n"
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
        os.killpg(run.pid, number)
    try:
        assert run.communicate(timeout=60)[0] == "20\n"
    finally:
        run.kill()
    assert run.returncode == 0
