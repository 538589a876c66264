"""Claims of papers, written down before a study ran, and what the study's scores say of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from unify.answers.differences import Comparison, comparisons_of, correct
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord


@dataclass
class TriedClaim:
    """A claim of study.json and its comparison, `higher` - `lower`; None where not measured."""

    paper: str
    says: str
    metric: str
    higher: str  # arm
    lower: str  # arm
    one: Comparison | None = None

    @property
    def judgement(self) -> str:
        """agrees | disagrees | not distinguishable ... | why there is no verdict"""
        if self.one is None:
            return "not measured"
        return {"higher": "agrees", "lower": "disagrees"}.get(self.one.verdict, self.one.words)


def claims(study: StudyRecord, lines: Sequence[Line]) -> list[TriedClaim]:
    """Every claim of the study, each tried; their p are corrected together (Holm).

    Where a metric was measured in several ways that both arms share, the first of them is taken.
    """
    tried = [TriedClaim(**claim) for claim in study.info.get("claims") or []]
    for claim in tried:
        claim.one = comparisons_of(study, lines, claim.metric, claim.higher, claim.lower)[0]
    correct([claim.one for claim in tried if claim.one is not None])
    return tried
