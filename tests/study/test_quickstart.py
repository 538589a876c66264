"""The quickstart's floors, from a fresh folder: what the README promises is what a run gives.

`make floors`; about an hour, so neither `make test` nor the continuous integration runs it.
"""

import json
import subprocess
import sys

import pytest
import yaml
from places import ROOT

STUDY = ROOT / "experiments/studies/quickstart.yaml"
DRAWS = "text_to_image/exact/two_objects"
ANSWERS = "vqa/accuracy"
FLOORS = {  # in the quickstart, and with twice the training
    "ar_vq": (0.95, 0.95),
    "transfusion": (0.90, 0.90),
    "dual_tower": (0.80, 0.90),
    "queries_dit": (0.60, 0.80),
    "crossflow": (0.60, 0.80),
}
ANSWERS_FLOOR = 0.90  # of all that answer; crossflow does not


@pytest.mark.floors
@pytest.mark.parametrize("times", [1, 2])
def test_quickstart_reaches_its_floors(tmp_path, times):
    arms = yaml.safe_load(STUDY.read_text())["arms"]
    steps = {yaml.safe_load((STUDY.parent / arm).read_text())["steps"] for arm in arms.values()}
    assert len(steps) == 1, "equal rows for all arms"
    settings = [f"machine.runs={tmp_path}", f"steps={times * steps.pop()}"]
    command = [sys.executable, "-m", "unify.cli", "study", str(STUDY), "--jobs", "2", *settings]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "report:" in done.stdout
    assert "MLflow:" in done.stdout
    rows = json.loads((tmp_path / "quickstart" / "results.json").read_text())
    values = {(row["arm"], row["metric"]): row["value"] for row in rows}
    wanted = {(arm, DRAWS): floors[times - 1] for arm, floors in FLOORS.items()}
    wanted |= {(arm, ANSWERS): ANSWERS_FLOOR for arm in FLOORS if arm != "crossflow"}
    reached = {key: values[key] for key in wanted}
    assert all(reached[key] >= floor for key, floor in wanted.items()), reached
    assert ("crossflow", ANSWERS) not in values, "it does not answer"
    assert ("ar_vq", "text_to_image/exact/heldout") in values, "reported, whatever it is"
    assert (tmp_path / "quickstart" / "report.html").stat().st_size > 100_000
