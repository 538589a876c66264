"""Claims of papers, written down before a study ran, and what the study's scores say of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from unify.analysis.paired_differences import holm
from unify.answers.differences import SAME, Comparison, comparison
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord

EDGE = 0.02  # a share this near to 0 or 1 leaves no room to be better or worse


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
        """agrees | disagrees | not distinguishable ... | not testable here ... | not measured"""
        if self.one is None:
            return "not measured"
        edge = self._edge(self.one) if self.one.words == SAME else ""
        if edge:
            return f"not testable here: both at the {edge}"
        return {"higher": "agrees", "lower": "disagrees"}.get(self.one.words, self.one.words)

    @staticmethod
    def _edge(one: Comparison) -> str:
        """`floor` or `ceiling`, where both arms' shares are there."""
        values = [one.line.cells[arm].value for arm in (one.first, one.second)]
        shares = [value for value in values if value is not None]
        if not one.line.is_share or len(shares) < 2:
            return ""
        return "floor" if max(shares) <= EDGE else "ceiling" if min(shares) >= 1 - EDGE else ""


def claims(study: StudyRecord, lines: Sequence[Line]) -> list[TriedClaim]:
    """Every claim of the study, each tried; their p are corrected together (Holm)."""
    tried = [TriedClaim(**claim) for claim in study.info.get("claims") or []]
    for claim in tried:
        line = next((x for x in lines if x.metric == claim.metric and not x.note), None)
        claim.one = comparison(study, line, claim.higher, claim.lower) if line else None
    measured = [claim.one for claim in tried if claim.one is not None]
    for one, p in zip(measured, holm([one.p for one in measured]), strict=True):
        one.adjusted = p
    return tried
