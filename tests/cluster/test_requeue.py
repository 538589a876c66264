"""A task of a SLURM job, with a scontrol that only writes down what it is told."""

import os
import signal
import subprocess
import sys
import time

import pytest
from places import ROOT

from unify.cluster.requeue import LOSSES, Requeued

LATE = """
import signal, sys, time
print("deaf", flush=True)
time.sleep(1.5)  # deaf until here
told = []
signal.signal(signal.SIGUSR1, lambda *_: told.append(1))
for _ in range(100):
    time.sleep(0.1)
    if told:
        sys.exit(75)
"""


WRAPPER = """
import sys
from pathlib import Path
from unify.cluster.requeue import Requeued
Requeued(sys.argv[3:], 20, 5, Path(sys.argv[1]) / "losses")()
"""


NOTICES = [(signal.SIGUSR2, True), (signal.SIGUSR1, True), (signal.SIGTERM, False)]


@pytest.mark.slow
@pytest.mark.fault(13)
@pytest.mark.parametrize(("number", "requeued"), NOTICES)
def test_a_notice_is_repeated_until_heard_and_the_job_requeued(tmp_path, number, requeued):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/said\n")
    scontrol.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_PROCID": "0",
    }
    command = [sys.executable, "-c", WRAPPER, str(tmp_path), "-", sys.executable, "-c", LATE]
    task = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert task.stdout is not None
    assert task.stdout.readline() == "deaf\n", "the child does not hear it yet"
    task.send_signal(number)
    printed, end = tmp_path / "said", time.monotonic() + 60
    while requeued and "requeue" not in (printed.read_text() if printed.exists() else ""):
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(1.0 if requeued else 7.0)
    assert task.poll() is None, "it waits for SLURM to take it down"
    task.kill()
    task.wait()
    assert printed.exists() == requeued
    if requeued:
        assert printed.read_text() == "show job -o 7_3\nrequeue 7_3\n"


def test_a_failing_command_fails_its_task(tmp_path):
    def run(code):
        Requeued([sys.executable, "-c", code], 1, 1, tmp_path / "losses")()

    run("")
    with pytest.raises(SystemExit) as ended:
        run("raise SystemExit(3)")
    assert ended.value.code == 3
    (tmp_path / "losses").write_text("\n".join(map(str, range(LOSSES))))  # as often as it may be
    with pytest.raises(SystemExit) as ended:
        run("import os; os.kill(os.getpid(), 9)")
    assert ended.value.code == 128 + 9
