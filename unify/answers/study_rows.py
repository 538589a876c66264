"""The rows of a study: the scores of its runs, each as its run's folder has it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unify.runs.stored_scores import StoredScores, content_hash
from unify.runs.study_files import Row


def study_rows(
    folder: Path,
    info: Mapping[str, Any],
    own: Mapping[tuple[str, int], StoredScores | str],
    refused: list[str],
) -> list[Row]:
    """The scores of the runs; of a run whose folder has none, what results.json has of it.

    In the order of results.json, which is not there if the study was stopped before it.

    Args:
        folder: of the study.
        info: its study.json, which holds the hash of results.json.
        own: the scores of its runs by arm and seed, or the reason why they are not used.
        refused: takes the reason why results.json is not used, where it was needed and changed.
    """
    path = folder / "results.json"
    told = list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []
    rows: dict[tuple[str, int], list[Row]] = {}
    for row in told:
        rows.setdefault((row["arm"], row["seed"]), []).append(row)
    if rows.keys() - own.keys() and info.get("results", content_hash(told)) != content_hash(told):
        again = "`unify study` or `unify study --gather` writes it again"
        refused.append(f"{path} is not used: it has changed since it was written; {again}")
        rows = {key: [] for key in rows}
    for key, scores in own.items():
        rows[key] = scores.rows if isinstance(scores, StoredScores) else []
    return [row for each in rows.values() for row in each]
