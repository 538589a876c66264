"""Real commands, real signals: Ctrl-C to a whole group, a terminal that is lost."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
import yaml
from places import EXPERIMENTS

COMMAND = [sys.executable, "-m", "unify.cli"]
WORDS = ["machine.tracker=none", "machine.threads=1", "logging.metrics_every=1"]


def listen():
    """In a child: a test that runs in the background hands it Ctrl-C, and SIGHUP, ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def facts_of(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/*/run.json"))]


def until(stream, *words):
    """Read lines until each of the words has come in one."""
    left, read = set(words), []
    for line in stream:
        read.append(line)
        left -= {word for word in left if word in line}
        if not left:
            return
    pytest.fail("".join(read))


@pytest.mark.fault(38, times=3)
@pytest.mark.slow
def test_ctrl_c_stops_a_study_its_children_and_their_loaders_and_it_goes_on(tmp_path):
    study = tmp_path / "mini.yaml"
    arms = {name: {"base": str(EXPERIMENTS / "transfusion.yaml")} for name in ("a", "b")}
    arms["b"]["optimizer"] = {"lr": 5e-4}
    speed = {"class": "unify.metrics.speed.Speed", "rows": 1, "repeats": 1}
    study.write_text(yaml.safe_dump({"name": "mini", "arms": arms, "set": {"evaluation": [speed]}}))
    words = ["study", str(study), "--tiny", "--jobs", "2", f"machine.runs={tmp_path}/runs", *WORDS]
    running = subprocess.Popen(
        [*COMMAND, *words, "steps=100000", "machine.workers=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=listen,
    )
    try:
        until(running.stdout, "a seed 0 | step 3/", "b seed 0 | step 3/")
        os.killpg(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=120)
        assert running.returncode == 130, err
        (line,) = [line for line in err.splitlines() if line.startswith("unify: ")]
        assert "stopped by Ctrl-C" in line
        assert "the same command goes on" in line
        assert out.count("which is saved; the same command goes on from there") == 2
        with pytest.raises(ProcessLookupError):  # nobody of the group is left
            os.killpg(running.pid, 0)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    stopped = [facts for facts in facts_of(tmp_path / "runs") if facts["arm"] in arms]
    assert [facts["state"] for facts in stopped] == ["stopped", "stopped"]
    for facts in stopped:
        (folder,) = tmp_path.glob(f"runs/mini/{facts['name']}")
        saved = folder / "checkpoints" / f"step-{facts['stopped']['step']:08d}"
        assert (saved / "manifest.json").is_file()


@pytest.mark.fault(38)
@pytest.mark.slow
def test_a_terminal_that_is_lost_saves_the_run(tmp_path):
    words = ["-c", str(EXPERIMENTS / "transfusion.yaml"), "--tiny", f"machine.runs={tmp_path}"]
    child, terminal = pty.fork()
    if child == 0:
        listen()
        os.execv(sys.executable, [*COMMAND, "train", *words, *WORDS, "steps=100000"])
    timer = threading.Timer(120, os.kill, (child, signal.SIGKILL))
    timer.start()
    seen = b""
    with suppress(OSError):  # the child has ended, by an error
        while seen.count(b"loss") < 3:  # a terminal shows no more than fits its width
            seen += os.read(terminal, 4096)
    os.close(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    timer.cancel()
    assert status == 129, seen[-2000:].decode(errors="replace")
    (facts,) = (each for each in facts_of(tmp_path) if each["arm"] == "transfusion")
    assert (facts["state"], facts["stopped"]["signal"]) == ("stopped", "SIGHUP")
