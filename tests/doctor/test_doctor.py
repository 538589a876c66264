"""The command: every check reports, whatever hangs or is broken."""

import json
import os
import subprocess
import sys
import time

import pytest
from doctor_checks import CALM, fake_slurm, only
from places import ROOT

from unify.doctor import attempt, line
from unify.doctor.finding import Finding


def test_a_check_that_hangs_or_fails_is_a_finding():
    hung = only(attempt("disk", lambda: time.sleep(600), limit=0.1))
    assert (hung.name, hung.state) == ("disk", "problem")
    assert "did not end" in hung.found
    failed = only(attempt("disk", lambda: [][0]))
    assert "IndexError" in failed.found


def test_a_line_says_what_and_below_it_what_to_do():
    assert line(Finding("torch", "ok", "2.15")) == "ok       torch         2.15"
    shown = line(Finding("runs", "problem", "full", "free some")).splitlines()
    assert shown == ["PROBLEM  runs          full", "         -> free some"]


def doctor(tmp_path, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "unify.cli", "doctor", "--runs", tmp_path / "runs", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.slow
def test_all_of_it_on_this_machine(tmp_path):
    fake_slurm(tmp_path / "bin", CALM)
    done = doctor(tmp_path, "--json", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    report = json.loads(done.stdout)
    assert {"torch", "lightning"} <= report["environment"]["packages"].keys()
    states = {f["name"]: f["state"] for f in report["findings"]}
    for name in ("python", "packages", "torchvision", "cpu", "attention", "tracker", "slurm"):
        assert states[name] == "ok", report["findings"]
    assert states.get("gloo", states.get("nccl")) == "ok", report["findings"]
    assert all(f["do"] for f in report["findings"] if f["state"] != "ok")
    assert done.returncode == int("problem" in states.values())


def test_a_torch_that_cannot_be_imported_hides_nothing_else(tmp_path):
    (tmp_path / "path/torch").mkdir(parents=True)
    broken = "raise OSError('libcudart.so.99: cannot open')"
    (tmp_path / "path/torch/__init__.py").write_text(broken)
    before = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    done = doctor(tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path / "path"), *before]))
    assert done.returncode == 1
    shown = done.stdout
    assert shown.count("libcudart.so.99") >= 4
    assert "PROBLEM  torchvision" in shown
    assert "PROBLEM  ranks         not checked: OSError: libcudart" in shown
    for name in ("packages", "runs", "tracker", "open files"):
        assert f"\nok       {name:<13} " in shown or f"\nnote     {name:<13} " in shown
