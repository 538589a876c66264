"""Claims of papers, written down before a study ran, and what the study's scores say of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unify.analysis.paired_differences import HIGHER, LOWER
from unify.answers.comparison import Comparison
from unify.answers.differences import comparisons_of
from unify.answers.judged import judge_claims
from unify.answers.learned import mark_unlearned
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord


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
        """agrees | disagrees | not distinguishable ... | why there is no verdict"""
        if self.one is None:
            return "not measured"
        if self.one.line is not None and self.one.line.better is None:
            return f"not testable: {self.metric} states no direction (`better` of its score)"
        if self.one.verdict not in (HIGHER, LOWER):
            return self.one.words
        assert self.one.line is not None
        return "agrees" if self.one.verdict == self.one.line.better else "disagrees"


def _in_terms_of_better(claim: dict[str, Any], line: Line | None) -> dict[str, Any]:
    """A claim of study.json; an older file names the arms `higher` and `lower`, by their scores."""
    if "higher" not in claim:
        return claim
    arms = [claim["higher"], claim["lower"]]
    if line is not None and line.better == "lower":
        arms.reverse()
    rest = {key: value for key, value in claim.items() if key not in ("higher", "lower")}
    return {**rest, "better": arms[0], "worse": arms[1]}


def claims(
    study: StudyRecord, lines: Sequence[Line], primary: Sequence[Comparison]
) -> list[TriedClaim]:
    """Every claim of the study, each tried; their p are corrected together (Holm).

    Where a metric was measured in several ways that both arms share, the first of them is taken.
    `primary`: the comparisons of the primary outcomes, by which claims are judged in a study with a
    preset.
    """
    tried = []
    for stated in study.info.get("claims") or []:
        line = next((x for x in lines if x.metric == stated["metric"]), None)
        claim = TriedClaim(**_in_terms_of_better(stated, line))
        claim.one = comparisons_of(study, lines, claim.metric, claim.better, claim.worse)[0]
        tried.append(claim)
    compared = [claim.one for claim in tried if claim.one is not None]
    judge_claims(study, primary, compared)
    mark_unlearned(study, compared)
    return tried
