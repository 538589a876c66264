"""What is wrong with the pictures that are wrong: shares by kind of error, from each trial.

A kind is what metrics/shapes_outcomes.py names. A picture with several counts for each of them in
equal parts, so that the kinds of an arm add up to the share of its pictures that are not right.
`extra` says more than `count`, and takes its place; `flawed` is what the checker refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unify.answers.arm_means import ArmMean, arm_mean
from unify.answers.run_records import RunRecord
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord

MEASURE, RIGHT = "errors", "nearest"
KINDS = ("shape", "color", "size", "place", "count", "extra", "flawed")  # in the order of the bars


@dataclass(frozen=True)
class Failures:
    """The failures of an arm in a task.

    Args:
        shares: of all pictures, by kind: the mean over seeds.
        n: pictures of each seed, the fewest where they differ.
        right: the arm's mean by nearest reading, with its interval; None where not scored.
    """

    task: str
    arm: str
    shares: dict[str, float]
    n: int
    seeds: list[int]
    right: ArmMean | None

    @property
    def total(self) -> float:
        """Share of pictures that are not right."""
        return sum(self.shares.values())


def failures(study: StudyRecord, lines: Sequence[Line]) -> list[Failures]:
    """Of each task and arm without controls whose outcomes by kind were kept, measured alike."""
    own = [line for line in lines if not line.reference]
    tasks = dict.fromkeys(line.task for line in own if line.measure == MEASURE)
    unlike = {line.task for line in own if line.measure in (MEASURE, RIGHT) and line.note}
    found = [
        _of_arm(study, lines, task, arm)
        for task in tasks
        if task not in unlike
        for arm in study.compared_arms
    ]
    return [one for one in found if one is not None]


def _of_arm(study: StudyRecord, lines: Sequence[Line], task: str, arm: str) -> Failures | None:
    runs = {run.seed: _wrong(run, task) for run in study.runs_of(arm) if run.finished}
    kept = {seed: wrong for seed, wrong in runs.items() if wrong is not None}
    if not kept:
        return None
    names = [kind for kind in KINDS if any(kind in wrong for wrong in kept.values())]
    shared = [split_by_kind(wrong) for wrong in kept.values()]
    shares = {kind: float(np.mean([s.get(kind, 0.0) for s in shared])) for kind in names}
    n = min(len(next(iter(wrong.values()))) for wrong in kept.values())
    line = next((line for line in lines if line.metric == f"{task}/{RIGHT}"), None)
    right = None if line is None else arm_mean(study, line, arm)
    return Failures(task, arm, shares, n, list(kept), right)


def _wrong(run: RunRecord, task: str) -> dict[str, np.ndarray] | None:
    """Which pictures [n] have an error, by kind; None where that was not kept."""
    kept = {kind: run.outcomes.get(f"{task}/{MEASURE}/{kind}") for kind in KINDS}
    there = {kind: row for kind, row in kept.items() if row is not None and row.ndim == 1}
    sizes = {row.size for row in there.values()}
    if len(sizes) != 1 or 0 in sizes:
        return None
    return {kind: row > 0 for kind, row in there.items()}


def split_by_kind(wrong: dict[str, np.ndarray]) -> dict[str, float]:
    """Share of pictures by kind, from which pictures [n] have an error of it."""
    alone = dict(wrong)
    if "count" in alone and "extra" in alone:
        alone["count"] = alone["count"] & ~alone["extra"]
    several = np.maximum(np.sum(list(alone.values()), axis=0), 1)
    return {kind: float((row / several).mean()) for kind, row in alone.items()}
