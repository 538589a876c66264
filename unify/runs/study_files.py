"""Files of a study folder that several wings read."""

import json
from pathlib import Path
from typing import Any

# One score: {arm, paradigm, seed} and what `metrics.metric.Score.row` gives, {metric, value, n,
# low, high, passport}; so it stands in scores.json of a run and in results.json of a study.
Row = dict[str, Any]


def read_tuning(folder: Path) -> dict[str, Any]:
    """tuning.json of a study's folder, by arm; empty where nothing has been tuned."""
    path = folder / "tuning.json"
    return json.loads(path.read_text()) if path.is_file() else {}
