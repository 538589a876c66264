"""Files of a study folder that several wings read."""

import math
from pathlib import Path
from typing import Any

from unify.support.strict_json import Types, damaged, read_json_file, wrong_type

# One score: {arm, paradigm, seed} and what `metrics.metric.Score.row` gives, {metric, value, n,
# low, high, passport, better ...}; so it stands in scores.json of a run and in results.json of a
# study.
Row = dict[str, Any]


PROMPT_SETS = ("prompt_set", "texts", "data")  # keys of passports with the digest of the prompts
NOT_YET = "not yet"  # `results` of study.json while its results.json is that of a call before
OLD_LOWER = ("perplexity", "frechet", "bits_per_byte", "abs_error", "unreadable")
OLD_NEITHER = ("tokenizer/perplexity", "tokenizer/usage", "vqa/chance", "vqa/majority", "vqa/blind")


def better(row: Row) -> str | None:
    """`higher` or `lower`: which values of a row's metric are better; None where neither is.

    Each score states it. Files from before it did are read by the name of the measure: this is the
    only place that knows these names.
    """
    if "better" in row:
        return row["better"] if row["better"] in ("higher", "lower") else None
    task, measure = [*row.get("metric", "").split("/"), ""][:2]
    if f"{task}/{measure}" in OLD_NEITHER:
        return None
    return "lower" if measure in OLD_LOWER else "higher"


def has_value(row: Row) -> bool:
    """True if a row holds a finite score: null and NaN (in older files) say that it has none."""
    return row["value"] is not None and math.isfinite(row["value"])


def read_tuning(folder: Path) -> dict[str, Any]:
    """tuning.json of a study's folder, by `Study.tuning_of`; empty where nothing has been tuned.
    ValueError for one that is damaged.

    Entries from before a score stated what is better have `lower`, true or false, in its place.
    """
    path = folder / "tuning.json"
    remedy = "remove it, and `unify study` writes it anew from the trials that have been run"
    entries = read_json_file(path, remedy) if path.is_file() else {}
    wrong = wrong_type(entries, dict.fromkeys(entries if isinstance(entries, dict) else (), dict))
    if not wrong:
        types: Types = {
            **dict.fromkeys(("arm", "asked", "metric"), str),
            **{"seed": int, "best": int, "trials": list},
        }
        wrong = next(filter(None, (wrong_type(entry, types) for entry in entries.values())), "")
    if wrong:
        raise ValueError(damaged(path, wrong, remedy))
    for entry in entries.values():
        entry.setdefault("better", "lower" if entry.get("lower") else "higher")
    return entries
