"""Run folders: one writer, facts that are merged, and counts of parameters."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from unify.runs.folder import Run, finished_or_stopped, parameter_counts, stop_facts
from unify.support.stop_protocol import Stopped
from unify.tokenizers.text import BPE


def hold(folder, ready, fork_a_child):
    with Run(folder).writing():
        if fork_a_child and os.fork() == 0:
            signal.alarm(60)  # it outlives its parent, but not the tests
            signal.pause()
        ready.set()
        signal.pause()


@pytest.mark.fault(27)
@pytest.mark.parametrize("child", [False, True], ids=["alone", "with a loader worker"])
def test_one_writer_and_the_lock_goes_with_its_process(tmp_path, child):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready, child))
    other.start()
    ready.wait(30)
    with (
        pytest.raises(ValueError, match="being written by another process"),
        Run(tmp_path).writing(),
    ):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with Run(tmp_path).writing():
        Run(tmp_path).update(state="running")
    assert Run(tmp_path).info["state"] == "running"


def test_a_folder_without_run_json_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"not a run folder.*unify train"):
        _ = Run(tmp_path).info


def test_update_merges(tmp_path):
    Run(tmp_path).update(a=1, b=2)
    Run(tmp_path).update(b=3)
    assert Run(tmp_path).info == {"a": 1, "b": 3}
    assert not list(tmp_path.glob(".*tmp"))


def test_counts_of_a_part_without_parameters():
    assert parameter_counts(BPE(300)) == {"total": 0, "trainable": 0, "frozen_tokenizers": 0}


HOLDS = """
import sys, time
from pathlib import Path
from unify.runs.folder import Run
with Run(Path(sys.argv[1])).writing():
    print("held", flush=True)
    sys.stdin.readline()
    (Path(sys.argv[1]) / "done").write_text("")
"""


@pytest.mark.fault(27)
def test_a_run_that_another_process_writes_can_be_waited_for(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match="another process"), Run(tmp_path).writing():
        pass
    holder.stdin.write("\n")
    holder.stdin.flush()
    with Run(tmp_path).writing(wait=True):
        assert (tmp_path / "done").exists()
    assert holder.wait() == 0


@pytest.mark.parametrize(
    ("number", "status", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 75, "SIGTERM")]
)
def test_a_run_that_was_stopped_says_what_is_saved_and_how_to_go_on(tmp_path, number, status, name):
    Run(tmp_path).update(state="stopped", steps=300, stopped=stop_facts(number, 120))
    with pytest.raises(Stopped) as stopped:
        finished_or_stopped(Run(tmp_path))
    assert stopped.value.exit_status == status
    assert str(stopped.value) == (
        f"{tmp_path}: stopped by {name} after step 120 of 300, which is saved; the same command "
        "goes on from there"
    )


DAMAGE = ["", "{", "[]", "3", '{"state": 3}', '{"steps": "many"}', '{"needed": {"x": []}}']
DAMAGE += ['{"parameters": {"total": "x"}}', '{"environment": []}', "\x00", "[" * 5000]


@pytest.mark.fault(40)
@pytest.mark.parametrize("content", DAMAGE)
def test_damaged_facts_are_named_with_a_remedy(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(
        ValueError, match=r"run\.json is damaged \(.+\); remove it, and the command"
    ):
        _ = Run(tmp_path).finished
