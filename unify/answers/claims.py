"""Claims of papers, written down before a study ran, and what the study's scores say of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unify.analysis.paired_differences import holm
from unify.answers.differences import SAME, Comparison, comparison
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord

EDGE = 0.02  # a share this near to 0 or 1 leaves no room to be better or worse


@dataclass
class TriedClaim:
    """A claim of study.json and its comparison, `better` - `worse`; None where not measured."""

    paper: str
    says: str
    metric: str
    better: str  # arm
    worse: str  # arm
    one: Comparison | None = None

    @property
    def judgement(self) -> str:
        """agrees | disagrees | not distinguishable ... | not testable here ... | not measured"""
        if self.one is None:
            return "not measured"
        if self.one.line.better is None:
            return f"not testable: {self.metric} states no direction (`better` of its score)"
        edge = self._edge(self.one) if self.one.words == SAME else ""
        if edge:
            return f"not testable here: both at the {edge}"
        if self.one.words not in ("higher", "lower"):
            return self.one.words
        return "agrees" if self.one.words == self.one.line.better else "disagrees"

    @staticmethod
    def _edge(one: Comparison) -> str:
        """`floor` or `ceiling`, where both arms' shares are there."""
        values = [one.line.cells[arm].value for arm in (one.first, one.second)]
        shares = [value for value in values if value is not None]
        if not one.line.is_share or len(shares) < 2:
            return ""
        return "floor" if max(shares) <= EDGE else "ceiling" if min(shares) >= 1 - EDGE else ""


def _in_terms_of_better(claim: dict[str, Any], line: Line | None) -> dict[str, Any]:
    """A claim of study.json; an older file names the arms `higher` and `lower`, by their scores."""
    if "higher" not in claim:
        return claim
    arms = [claim["higher"], claim["lower"]]
    if line is not None and line.better == "lower":
        arms.reverse()
    rest = {key: value for key, value in claim.items() if key not in ("higher", "lower")}
    return {**rest, "better": arms[0], "worse": arms[1]}


def claims(study: StudyRecord, lines: Sequence[Line]) -> list[TriedClaim]:
    """Every claim of the study, each tried; their p are corrected together (Holm)."""
    tried = []
    for stated in study.info.get("claims") or []:
        line = next((x for x in lines if x.metric == stated["metric"] and not x.note), None)
        claim = TriedClaim(**_in_terms_of_better(stated, line))
        claim.one = comparison(study, line, claim.better, claim.worse) if line else None
        tried.append(claim)
    measured = [claim.one for claim in tried if claim.one is not None]
    for one, p in zip(measured, holm([one.p for one in measured]), strict=True):
        one.adjusted = p
    return tried
