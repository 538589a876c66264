"""Files of a study folder that several wings read."""

import json
import math
from pathlib import Path
from typing import Any

# One score: {arm, paradigm, seed} and what `metrics.metric.Score.row` gives, {metric, value, n,
# low, high, passport}; so it stands in scores.json of a run and in results.json of a study.
Row = dict[str, Any]


def has_value(row: Row) -> bool:
    """True if a row holds a finite score: null and NaN (in older files) say that it has none."""
    return row["value"] is not None and math.isfinite(row["value"])


def read_tuning(folder: Path) -> dict[str, Any]:
    """tuning.json of a study's folder, by arm; empty where nothing has been tuned."""
    path = folder / "tuning.json"
    return json.loads(path.read_text()) if path.is_file() else {}
