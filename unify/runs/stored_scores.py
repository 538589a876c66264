"""The scores of a run: `eval/scores.json`, and `eval/outcomes.npz` with the outcome of every trial.

scores.json holds the hash of outcomes.npz and one over all else that it says itself. Whoever reads
scores does it here: what was edited or damaged, or does not agree with the outcomes, is refused.

One metric can be measured in several ways, on two splits, say: each row has an array of outcomes of
its own, which it names if that is not called as its metric (`array_of`).
"""

import hashlib
import io
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from unify.runs.study_files import Row
from unify.support.atomic_files import sha256, write_together
from unify.support.strict_json import NUMBER, Types, strict_json, wrong_type

SCORES, OUTCOMES = "scores.json", "outcomes.npz"  # in <run>/eval
HASH = "hash"
NOT_USED = " is not used: "  # in the message of `read_scores`, before the reason
PROMPTS = "prompts/"  # in outcomes.npz, before a metric: the index of each trial's prompt
ARRAY = "outcomes"  # in a row: the name of its array in outcomes.npz, if that is not its metric
METRIC_VERSION = "metric_version"  # in a passport: `Metric.version`, with the code of a user's
Outcomes = dict[str, np.ndarray]  # of every trial [n], by `array_of`; `prompts/<it>`: which prompt


@dataclass(frozen=True)
class StoredScores:
    """What scores.json says: what was asked, whether all of it was measured, and the rows.

    `covered`: false for one that an older version wrote, without a hash.
    """

    asked: str
    complete: bool
    rows: list[Row]
    covered: bool


def read_scores(run: Path) -> StoredScores | None:
    """The scores in a run folder; None if it has none. ValueError if they cannot be believed."""
    path = run / "eval" / SCORES
    if not path.is_file():
        return None
    try:
        content = _parsed(path)
        outcomes = read_outcomes(run)
        new = OUTCOMES in content or any("better" in row for row in content["rows"])
        if new and HASH not in content:
            raise ValueError(f"its {HASH} is gone")
        if HASH in content:
            _compare(SCORES, content_hash(content), content[HASH])
            wanted = content[OUTCOMES]
            there = (run / "eval" / OUTCOMES).is_file()
            _compare(OUTCOMES, sha256(run / "eval" / OUTCOMES) if there else "missing", wanted)
        check_agreement(content["rows"], outcomes)
        return StoredScores(
            str(content.get("asked")),
            content.get("complete", True),
            content["rows"],
            HASH in content,
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path}{NOT_USED}{error}; measure the scores again: unify eval {run} --again"
        ) from error


def reason_of(message: str) -> str:
    """Why scores are not used, of what `read_scores` says of it: no path, no hashes, no remedy, so
    that it is the same for all runs of which it is true."""
    reason = message.partition(NOT_USED)[2].rpartition("; measure")[0] or message
    return reason.partition(" (")[0]


def _parsed(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
        raise ValueError("it has no rows")
    for row in content["rows"]:
        if wrong := wrong_type(row, ROW):
            raise ValueError(wrong)
    return content


ROW: Types = {"metric": str, "value": NUMBER, "passport": dict, ARRAY: str}


def array_of(row: Row) -> str:
    """The name of a row's outcomes."""
    return str(row.get(ARRAY) or row["metric"])


def array_names(metrics: Sequence[str]) -> list[str]:
    """A name for the outcomes of each row: its metric, and from the second row of a name on, a
    number, too."""
    names: list[str] = []
    for metric in metrics:
        name, number = metric, 1
        while name in names or (number > 1 and name in metrics):
            number += 1
            name = f"{metric} {number}"
        names.append(name)
    return names


def with_arrays(rows: Sequence[Row]) -> list[Row]:
    """The rows of a run, each with the name of its outcomes where that is not its metric."""
    names = array_names([row["metric"] for row in rows])
    return [
        row if name == row["metric"] else {**row, ARRAY: name}
        for row, name in zip(rows, names, strict=True)
    ]


def _compare(name: str, found: str, recorded: str) -> None:
    if found != recorded:
        raise ValueError(f"{name} has changed since it was written ({found}, and was {recorded})")


def read_outcomes(run: Path) -> Outcomes:
    """The outcomes in a run folder; none if it keeps none. ValueError if they cannot be read."""
    path = run / "eval" / OUTCOMES
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except UNREADABLE as error:
        raise ValueError(f"{OUTCOMES} cannot be read ({error})") from error


UNREADABLE = (  # what numpy and zipfile raise for a file that is cut or changed
    *(OSError, ValueError, EOFError, AttributeError, BadZipFile, zlib.error),
    *(LookupError, TypeError, NotImplementedError, RecursionError),
)


def write_scores(
    run: Path, asked: str, complete: bool, rows: Sequence[Row], outcomes: Outcomes | None
) -> None:
    """Replace scores.json and outcomes.npz, neither before both are on the disk.

    `outcomes`: of every trial, by metric; None keeps those that are there. ValueError if a row does
    not agree with them.
    """
    folder = run / "eval"
    content = {"asked": asked, "complete": complete, "rows": list(rows)}
    content = json.loads(strict_json(content))  # as it will be read
    files: dict[Path, str | bytes] = {}
    if outcomes is None:
        content[OUTCOMES] = sha256(folder / OUTCOMES)
    else:
        check_agreement(rows, outcomes)
        files[folder / OUTCOMES] = packed = pack_outcomes(outcomes)
        content[OUTCOMES] = hashlib.sha256(packed).hexdigest()
    files[folder / SCORES] = strict_json({**content, HASH: content_hash(content)})
    write_together(files)


def pack_outcomes(outcomes: Outcomes) -> bytes:
    """Outcomes of every trial by metric, as numpy's npz."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **dict[str, Any](outcomes))
    return packed.getvalue()


def content_hash(content: Any) -> str:
    """12 hex digits over JSON values; over all but `hash` of a mapping."""
    kept = {k: v for k, v in content.items() if k != HASH} if isinstance(content, dict) else content
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def check_agreement(rows: Sequence[Row], outcomes: Outcomes) -> None:
    """Raise ValueError for a row whose value is not the mean of its outcomes, where there are any.

    Older versions kept one array of several rows of one name, the last one's: it is refused.
    """
    taken: set[str] = set()
    for row in rows:
        kept = outcomes.get(name := array_of(row), np.empty(0))
        if not len(kept):
            continue
        if name in taken:
            raise ValueError(f"several rows of {row['metric']} have one array of outcomes, {name}")
        taken.add(name)
        mean, value = float(kept.mean()), row["value"]
        none = not math.isfinite(mean) and (value is None or not math.isfinite(value))
        close = value is not None and math.isclose(value, mean, rel_tol=1e-6, abs_tol=1e-9)
        if not (none or close):  # JSON has null for NaN and for infinity
            raise ValueError(f"{row['metric']} is {value}, and its outcomes average to {mean}")
