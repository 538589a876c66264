"""A study killed again and again ends with the table that an undisturbed one has."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from places import EXPERIMENTS

KILLS = 5


def begin(study, runs):
    command = [sys.executable, "-m", "unify.cli", "study", str(study), "--tiny", "--jobs", "2"]
    words = [f"machine.runs={runs}", "machine.tracker=none", "steps=12", "machine.threads=1"]
    words += ["logging.checkpoint_every=1", "logging.metrics_every=1"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*command, *words], start_new_session=True, stdout=quiet, stderr=quiet)


def table(runs):
    """Every score but those of speed, which is the machine's."""
    rows = json.loads((runs / "kills" / "results.json").read_text())
    return [row for row in rows if not row["metric"].startswith("generate/")]


@pytest.mark.fault(7)
@pytest.mark.drill
def test_five_kills_leave_the_same_table(tmp_path, record_property):
    study = tmp_path / "study.yaml"
    arms = {name: str(EXPERIMENTS / f"{name}.yaml") for name in ("ar_vq", "transfusion")}
    images = {"class": "unify.metrics.shapes_images.TextToImage", "prompts": 8, "heldout": 4}
    speed = {"class": "unify.metrics.speed.Speed", "rows": 1, "repeats": 1}
    scores = [{**images, "geneval": 0}, speed]
    words = {"name": "kills", "arms": arms, "seeds": [0], "set": {"evaluation": scores}}
    study.write_text(yaml.safe_dump(words))
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    start = time.monotonic()
    assert begin(study, calm).wait(600) == 0
    whole, chance, killed = time.monotonic() - start, random.Random(0), 0
    while killed < KILLS:
        process = begin(study, rough)
        try:
            process.wait(chance.uniform(0.2, 0.6) * whole)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            continue
        if killed >= 2:
            break
        shutil.rmtree(rough)  # the machine is faster than it was in the calm run
        killed, whole = 0, whole / 2
    finished = begin(study, rough)
    assert finished.wait(600) == 0
    record_property("times", killed)
    assert killed >= 2, "killed before it ended"
    assert table(rough) == table(calm)
    assert (rough / "kills" / "report.html").stat().st_size > 0
