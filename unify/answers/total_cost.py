"""FLOPs that an arm takes in all: its own training, encoding by frozen tokenizers, needed runs.

    total = steps * (own + encoding of a step) + sum over needed runs of their own such total

A run that several parts of an arm need counts once, and so do runs that those need in turn; an arm
pays in full for what other arms start from too, and nothing for a run that only scores it. Text
tokenizers are fitted, without FLOPs that are counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from unify.answers.run_records import RunRecord
from unify.answers.study_records import StudyRecord


@dataclass(frozen=True)
class TotalCost:
    """FLOPs of a run and of what it started from. None: not counted, or a needed run not found."""

    own: float | None
    encoding: float | None
    needed: float | None

    @property
    def total(self) -> float | None:
        """The sum; None unless all parts are known."""
        if self.own is None or self.encoding is None or self.needed is None:
            return None
        return self.own + self.encoding + self.needed


def total_cost(study: StudyRecord, run: RunRecord) -> TotalCost:
    """The cost of one run of the study."""
    before = _all_needed(study, run)
    parts = [None if part is None else _spent(part) for part in before.values()]
    known = [part for part in parts if part is not None]
    needed = sum(known) if len(known) == len(parts) else None
    return TotalCost(run.flops, _encoding(run), needed)


def _all_needed(study: StudyRecord, run: RunRecord) -> dict[str, RunRecord | None]:
    """The runs that this one started from, theirs included, by hash; None for one not found."""
    seen: dict[str, RunRecord | None] = {}
    left = run.started_from
    while left:
        key = str(left.pop().get("hash"))
        if key not in seen:
            seen[key] = part = study.before.get(key)
            left += [] if part is None else part.started_from
    return seen


def _spent(run: RunRecord) -> float | None:
    """FLOPs of a run itself: nothing for one that is fitted, and has no parameters."""
    if run.parameters("total") == 0:
        return 0.0
    encoding = _encoding(run)
    return None if run.flops is None or encoding is None else run.flops + encoding


def _encoding(run: RunRecord) -> float | None:
    """FLOPs of its frozen tokenizers in the whole training: by its card, or, of a run that was not
    scored (others start from it), as it recorded them when it ended."""
    per_step = run.info.get("encoding_flops_per_step")
    if run.card:
        per_step = sum(each.get("encoding") or 0.0 for each in run.card["tasks"].values())
    if per_step is not None and run.steps is not None:
        return float(run.steps * per_step)
    return 0.0 if run.parameters("frozen_tokenizers") == 0 else None
