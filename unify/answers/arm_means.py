"""The mean of each arm, with the interval that seeds and prompts leave it.

The model is that of a difference (analysis/paired_differences.py), with an arm's own outcomes in
the place of d. A range over seeds, which the tables show, grows with the seeds and is no interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unify.analysis.paired_differences import crossed, paired
from unify.answers.pairing import stacked_outcomes
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.runs.study_files import has_value

DRAWING = ("text_to_image/exact", "text_to_image/nearest", "text_to_image/exact/two_objects")
ANSWERING = ("vqa/accuracy", "caption/exact")  # where no primary outcome is of that kind
READS = ("vqa/", "caption/")  # metrics of understanding begin so, those of generation with:
DRAWS = ("text_to_image/",)
REPEATS = "repeats"  # in a passport: `low` and `high` are the slowest and fastest of so many
BOTH, SEEDS, PROMPTS = "seeds and prompts", "seeds, of these very prompts", "prompts, of one model"


@dataclass(frozen=True)
class ArmMean:
    """An arm's score.

    Args:
        by_seed: the score of each seed that has one.
        estimate: their mean.
        interval: 95%; None where there is none, as with two seeds or where all seeds are alike.
        over: what the interval is over; empty without one.
    """

    line: Line
    arm: str
    estimate: float
    interval: tuple[float, float] | None
    over: str
    by_seed: dict[int, float]

    @property
    def ends(self) -> tuple[float, float]:
        """Of the interval; the mean twice where there is none."""
        return self.interval or (self.estimate, self.estimate)


def arm_mean(study: StudyRecord, line: Line, arm: str) -> ArmMean | None:
    """Of an arm on a line; None where it has no value there."""
    cell = line.cells.get(arm)
    if cell is None or cell.value is None:
        return None
    by_seed = {seed: row["value"] for seed, row in cell.rows.items() if has_value(row)}
    if len(by_seed) == 1:
        (row,) = [cell.rows[seed] for seed in by_seed]
        is_range = REPEATS in (row.get("passport") or {})
        ends = cell.span if len(cell.rows) == 1 and not is_range else None
        return ArmMean(line, arm, cell.value, ends, PROMPTS if ends else "", by_seed)
    kept = stacked_outcomes(study, line, {arm: list(by_seed)})
    if isinstance(kept, str):
        values = list(by_seed.values())
        ends, over = paired(values, [0.0] * len(values)).interval, SEEDS
    else:
        (outcomes,), trials = kept
        ends, over = crossed(outcomes, np.zeros_like(outcomes), trials).interval, BOTH
    if ends is not None and line.is_share(arm):
        ends = max(0.0, ends[0]), min(1.0, ends[1])
    return ArmMean(line, arm, cell.value, ends, over if ends else "", by_seed)


def arm_means(study: StudyRecord, line: Line, arms: Sequence[str]) -> list[ArmMean]:
    """Of the arms that have a value on a line, in their order."""
    return [mean for arm in arms if (mean := arm_mean(study, line, arm)) is not None]


def generation_and_understanding(
    study: StudyRecord, lines: Sequence[Line]
) -> tuple[Line, Line] | None:
    """The line of drawing and the line of answering that stand for an arm's two sides.

    The first primary outcome of each kind, or a common one; None where one of them was not
    measured, or not alike in all arms.
    """
    alike = {line.metric: line for line in lines if not line.note and not line.reference}

    def first(starts: tuple[str, ...], others: tuple[str, ...]) -> Line | None:
        named = [metric for metric in study.primary if metric.startswith(starts)]
        return next((alike[metric] for metric in (*named, *others) if metric in alike), None)

    drawn, answered = first(DRAWS, DRAWING), first(READS, ANSWERING)
    return None if drawn is None or answered is None else (drawn, answered)
