"""The score by which a study chooses settings: the mean of outcomes that it names."""

import math
from collections.abc import Sequence
from statistics import fmean

from unify.analysis.best_of_trials import SIGNS
from unify.evaluation.score_run import Row
from unify.runs.study_files import better, has_value


def metric_name(names: Sequence[str]) -> str:
    """`text_to_image/exact`, or `mean of text_to_image/exact and vqa/accuracy`."""
    return ("mean of " if len(names) > 1 else "") + " and ".join(names)


def best_of(scores: Sequence[float | None], better: str) -> int | None:
    """The place of the best score, the first of equals: an arm changes only for what is better.

    None where none has a score.
    """
    signed = [-math.inf if score is None else score * SIGNS[better] for score in scores]
    return None if max(signed) == -math.inf else signed.index(max(signed))


def mean_score(key: str, names: Sequence[str], rows: Sequence[Row]) -> float | None:
    """The mean of those of the metrics that are scored; None without a row (it failed), or with a
    value that is not finite.

    `key`: of the study, for messages. ValueError where none of the metrics is scored.
    """
    if not rows:
        return None
    scores = {row["metric"]: row["value"] if has_value(row) else None for row in rows}
    values = [scores[name] for name in names if name in scores]
    if not values:
        raise ValueError(
            f"{key}.metric: {' and '.join(names)} is not scored on validation; there are "
            f"{', '.join(sorted(scores))}"
        )
    finite = [value for value in values if value is not None]
    return fmean(finite) if len(finite) == len(values) else None


def direction(key: str, names: Sequence[str], rows: Sequence[Sequence[Row]]) -> str:
    """Which scores of the metrics are better; ValueError where they say neither, or not the same.

    `rows`: the scores of each trial.
    """
    stated = {row["metric"]: better(row) for scored in rows for row in scored}
    said = {name: stated[name] for name in names if name in stated}
    for name, one in said.items():
        if one is None:
            raise ValueError(
                f"{key}.metric: {name} states no direction, so nothing is the best by it; name a "
                "metric whose scores do (`better`, docs/extending.md)"
            )
    if len({*said.values()}) > 1:
        each = ", ".join(f"of {name} {one}" for name, one in said.items())
        raise ValueError(f"{key}.metric: no mean says what is best ({each} is better); name one")
    return next(iter(said.values()), None) or "higher"  # all failed, as is said elsewhere
