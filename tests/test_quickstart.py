"""The quickstart's floors, from a fresh folder: what the README promises is what a run gives.

`make floors`; about ten minutes, so neither `make test` nor the continuous integration runs it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {
    ("ar_vq", "text_to_image/exact/two_objects"): 0.95,
    ("transfusion", "text_to_image/exact/two_objects"): 0.90,
    ("ar_vq", "vqa/accuracy"): 0.90,
    ("transfusion", "vqa/accuracy"): 0.90,
}


@pytest.mark.floors
def test_quickstart_reaches_its_floors(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "unify.cli", "study"),
            *(str(ROOT / "experiments/studies/quickstart.yaml"), f"machine.runs={tmp_path}"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "report:" in done.stdout
    assert "MLflow:" in done.stdout
    rows = json.loads((tmp_path / "quickstart" / "results.json").read_text())
    values = {(row["arm"], row["metric"]): row["value"] for row in rows}
    reached = {key: values[key] for key in FLOORS}
    assert all(reached[key] >= floor for key, floor in FLOORS.items()), reached
    assert ("ar_vq", "text_to_image/exact/heldout") in values, "reported, whatever it is"
    assert (tmp_path / "quickstart" / "report.html").stat().st_size > 100_000
