"""Whether an arm has learned yet: a rule of the study, applied before any test.

    learned: {gain: 0.05, ratio: 0.5}

An arm has not learned yet by an outcome if its score rose by more than `gain` from half to all of
its steps, in the mean over its replicates, on validation data (`curve` records of the journal), or
if its lowest replicate is under `ratio` of its highest. Another budget might turn such a result
round, so that no verdict is given against the arm; one in its favour is. Where lower scores are
better, rising is falling, and the highest is over the lowest divided by `ratio`. What is held out
is not scored on the way: its whole measure stands for it there. What was not recorded cannot speak
for the arm either. Controls are tried without the rule: an arm that is there to lose need not
learn.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from unify.analysis.paired_differences import HIGHER, LOWER
from unify.answers.run_records import RunRecord
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import number, seeds_text, sentence, signed
from unify.config.validation_metrics import watched

HALF = 0.5
ROUNDING = 1e-9  # of differences of shares: 0.55 - 0.5 is no more than 0.05


@dataclass(frozen=True)
class Learning:
    """How far an arm had come by an outcome when its training ended; `why` it has not learned yet,
    empty if it has."""

    arm: str
    metric: str
    gains: dict[int, float]  # by seed, from half to all of its steps; above 0: better
    lowest: float | None  # of the final scores, over seeds
    highest: float | None
    why: str

    @property
    def gain(self) -> float | None:
        """Mean over seeds."""
        return math.fsum(self.gains.values()) / len(self.gains) if self.gains else None


def learning(study: StudyRecord, lines: Sequence[Line]) -> list[Learning]:
    """Each arm on each primary outcome; none without the rule."""
    if not study.info.get("learned"):
        return []
    return [
        one
        for line in lines
        if line.metric in study.primary
        for arm in study.compared_arms
        if (one := learning_of(study, line, arm)) is not None
    ]


def learning_of(study: StudyRecord, line: Line, arm: str) -> Learning | None:
    """An arm on one outcome; None without the rule, and where the arm has no score or the scores no
    direction."""
    rule = study.info.get("learned")
    cell = line.cells.get(arm)
    if not rule or cell is None or not cell.values or line.better is None:
        return None
    sign = 1 if line.better == "higher" else -1
    runs = [run for run in study.runs_of(arm) if run.seed in cell.rows]
    each = {run.seed: _halfway_and_end(study, run, watched(line.metric)) for run in runs}
    gains = {seed: sign * (ends[1] - ends[0]) for seed, ends in each.items() if ends is not None}
    unknown = [seed for seed in cell.rows if seed not in gains]
    lowest, highest = min(cell.values), max(cell.values)
    known = Learning(arm, line.metric, gains, lowest, highest, "")
    reasons = []
    if unknown:
        reasons.append(f"no score at half of its steps, {seeds_text(sorted(unknown))}")
    elif known.gain is not None and known.gain > rule["gain"] + ROUNDING:
        better = "better" if sign < 0 else ""
        gained = f"{signed(known.gain)} {better}".strip()
        reasons.append(f"{gained} from half to all of its steps")
    if len(cell.values) > 1 and lowest < rule["ratio"] * highest - ROUNDING:
        reasons.append(f"replicates from {number(lowest)} to {number(highest)}")
    return Learning(arm, line.metric, gains, lowest, highest, "; ".join(reasons))


def _halfway_and_end(study: StudyRecord, run: RunRecord, metric: str) -> tuple[float, float] | None:
    """The scores at half and at all of a run's steps; None where one was not recorded.

    Of a run with a cool-down, half is the end of the run that cooled down from the same trunk to
    half of its steps, if the study has it: on the way the rate was still high.
    """
    if not run.planned:
        return None
    at = max(1, round(HALF * run.planned))
    shorter = run
    if run.config.get("cooldown"):
        alike = (other for other in study.runs if _cools_down_like(other, run))
        shorter = next((other for other in alike if other.planned == at), run)
    half, end = _score_at(shorter, at, metric), _score_at(run, run.planned, metric)
    return None if half is None or end is None else (half, end)


def _cools_down_like(other: RunRecord, run: RunRecord) -> bool:
    """True for runs that take one trunk's checkpoints."""
    names = [(each.config.get("cooldown") or {}).get("trunk") for each in (other, run)]
    return other.seed == run.seed and None not in names and names[0] == names[1]


def _score_at(run: RunRecord, step: int, metric: str) -> float | None:
    return next((record.get(metric) for record in run.curve if record["step"] == step), None)


class Compared(Protocol):
    """A comparison, first - second (answers/comparison.py), as the rule sees it."""

    line: Line | None
    first: str
    second: str
    notes: list[str]
    unlearned: dict[str, str]  # arm -> why it has not learned yet


def mark_unlearned(study: StudyRecord, some: Iterable[Compared]) -> None:
    """Say of each comparison which of its arms have not learned yet, and why; no test is read."""
    for one in some:
        pair = (one.first, one.second)
        each = {} if one.line is None else {arm: learning_of(study, one.line, arm) for arm in pair}
        one.unlearned = {arm: x.why for arm, x in each.items() if x is not None and x.why}
        one.notes += [f"{arm} has not learned yet: {why}" for arm, why in one.unlearned.items()]


def too_early(one: Compared, found: str | None) -> str:
    """Why what a test found is no verdict, where it is against an arm that has not learned yet.

    `found`: `higher` or `lower`, as first is than second; anything else is against no arm.
    """
    if not one.unlearned or one.line is None:
        return ""
    if len(one.unlearned) > 1:
        return f"no verdict: neither {one.first} nor {one.second} has learned yet"
    (arm,) = one.unlearned
    in_favour = (found == one.line.better) == (arm == one.first)
    if found not in (HIGHER, LOWER) or in_favour:
        return ""
    return f"no verdict against {arm}, which has not learned yet"


def learning_sentences(study: StudyRecord, lines: Sequence[Line]) -> list[str]:
    """A sentence for each primary outcome by which an arm has not learned yet."""
    late: dict[str, list[str]] = {}
    for one in learning(study, lines):
        if one.why:
            late.setdefault(one.metric, []).append(f"{one.arm} ({one.why})")
    return [
        f"{metric}: not learned yet, so that no verdict is given against it: {sentence(arms)}."
        for metric, arms in late.items()
    ]


def late_arms(study: StudyRecord, lines: Sequence[Line]) -> list[str]:
    """The arms that have not learned yet, by one of the outcomes at least."""
    return list(dict.fromkeys(one.arm for one in learning(study, lines) if one.why))
