"""Results of equal tuning: entries of tuning.json, and the expected best of k trials."""

import json
from typing import Any

from unify.analysis.best_of_trials import best_of
from unify.answers.curves import Point
from unify.answers.study_records import StudyRecord
from unify.runs.study_files import read_tuning


def tuned_arms(study: StudyRecord) -> dict[str, dict[str, Any]]:
    """Entries of tuning.json of the arms that were tuned; none for a study that tunes nothing."""
    entries = read_tuning(study.folder) if study.info.get("tune") else {}
    return {arm: entry for arm, entry in entries.items() if arm in study.info.get("tuned", [])}


def settings_text(values: dict[str, Any]) -> str:
    """`optimizer.lr=0.003`; `as it is` for the arm's own settings."""
    return " ".join(f"{key}={json.dumps(value)}" for key, value in values.items()) or "as it is"


def best_of_k(entry: dict[str, Any]) -> list[Point]:
    """(k, expected best score of k trials); one that failed counts as the worst that did not."""
    finite = [trial["score"] for trial in entry["trials"] if trial["score"] is not None]
    worst = (max if entry["better"] == "lower" else min)(finite)
    scores = [worst if t["score"] is None else t["score"] for t in entry["trials"]]
    return [(float(k), best_of(scores, k, entry["better"])) for k in range(1, len(scores) + 1)]
