"""Results of equal tuning: entries of tuning.json, and the expected best of k trials."""

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from unify.analysis.best_of_trials import best_of, nothing_to_choose_by
from unify.answers.curves import Point
from unify.answers.study_records import StudyRecord
from unify.runs.study_files import read_tuning


def tuned_arms(study: StudyRecord) -> dict[str, dict[str, Any]]:
    """Entries of tuning.json of the arms that were tuned; none for a study that tunes nothing.

    By arm, or where each seed has trials of its own, by arm and seed.
    """
    entries = read_tuning(study.folder) if study.info.get("tune") else {}
    return {key: entry for key, entry in entries.items() if key in study.info.get("tuned", [])}


def arm_of(key: str, entry: dict[str, Any]) -> str:
    """The arm of an entry; those from before trials were for single seeds do not name it."""
    return str(entry.get("arm") or key)


def entry_name(key: str, entry: dict[str, Any]) -> str:
    """`ar_vq`, or `ar_vq, seed 2` of trials that are for that seed alone."""
    seed = entry.get("seed")
    return arm_of(key, entry) + ("" if seed is None else f", seed {seed}")


def settings_text(values: dict[str, Any]) -> str:
    """`optimizer.lr=0.003`; `as it is` for the arm's own settings."""
    return " ".join(f"{key}={json.dumps(value)}" for key, value in values.items()) or "as it is"


def untold_choices(tuned: Mapping[str, dict[str, Any]]) -> list[str]:
    """A sentence for each entry whose trials leave nothing to choose by."""
    sentences = []
    for key, entry in tuned.items():
        scores = [trial["score"] for trial in entry["trials"]]
        if why := nothing_to_choose_by(scores, entry["better"]):
            sentences.append(
                f"{entry_name(key, entry)}: its trials cannot be told apart ({why}), so its values "
                "are chosen by nothing."
            )
    return sentences


def mean_best_of_k(entries: Sequence[dict[str, Any]]) -> list[Point]:
    """`best_of_k` of an arm, as the mean over the seeds that each have trials of their own."""
    each = [best_of_k(entry) for entry in entries]
    return [(points[0][0], fmean(y for _, y in points)) for points in zip(*each, strict=False)]


def best_of_k(entry: dict[str, Any]) -> list[Point]:
    """(k, expected best score of k trials); one that failed counts as the worst that did not."""
    finite = [trial["score"] for trial in entry["trials"] if trial["score"] is not None]
    worst = (max if entry["better"] == "lower" else min)(finite)
    scores = [worst if t["score"] is None else t["score"] for t in entry["trials"]]
    return [(float(k), best_of(scores, k, entry["better"])) for k in range(1, len(scores) + 1)]
