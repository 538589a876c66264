"""The rows of a study: the scores of its runs, each as its run's folder has it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unify.runs.stored_scores import StoredScores, content_hash
from unify.runs.study_files import NOT_YET, Row
from unify.support.strict_json import Types, damaged, read_json_file, wrong_type

AGAIN = "`unify study` or `unify study --gather` writes it again"
ROW: Types = {"arm": str, "metric": str, "seed": int, "value": (int, float)}


def study_rows(
    folder: Path,
    info: Mapping[str, Any],
    own: Mapping[tuple[str, int], StoredScores | str],
    refused: list[str],
) -> list[Row]:
    """The scores of the runs; of a run whose folder has none, what results.json has of it.

    In the order of results.json, which is that of a call before if the study was stopped.

    Args:
        folder: of the study.
        info: its study.json, which holds the hash of results.json.
        own: the scores of its runs by arm and seed, or the reason why they are not used.
        refused: takes the reason why results.json is not used, where it is damaged, or was needed
            and changed.
    """
    path = folder / "results.json"
    told = _told(path, refused) if path.is_file() and info.get("results") != NOT_YET else []
    rows: dict[tuple[str, int], list[Row]] = {}
    for row in told:
        rows.setdefault((row["arm"], row["seed"]), []).append(row)
    if rows.keys() - own.keys() and info.get("results", content_hash(told)) != content_hash(told):
        refused.append(f"{path} is not used: it has changed since it was written; {AGAIN}")
        rows = {key: [] for key in rows}
    for key, scores in own.items():
        rows[key] = scores.rows if isinstance(scores, StoredScores) else []
    return [row for each in rows.values() for row in each]


def _told(path: Path, refused: list[str]) -> list[Row]:
    """The rows of results.json; none of one that is damaged, which is added to `refused`."""
    try:
        rows = read_json_file(path, AGAIN)
        wrong = wrong_row(rows)
        if wrong:
            raise ValueError(damaged(path, wrong, AGAIN))
    except ValueError as error:
        refused.append(str(error))
        return []
    return rows


def wrong_row(rows: Any) -> str:
    """What is wrong with a list of rows; an empty text if nothing is."""
    if not isinstance(rows, list):
        return f"it holds a {type(rows).__name__} where rows should be"
    for row in rows:
        lacks = [key for key in ROW if isinstance(row, dict) and key not in row]
        if wrong := wrong_type(row, ROW) or (f"a row has no {lacks[0]}" if lacks else ""):
            return wrong
    return ""
