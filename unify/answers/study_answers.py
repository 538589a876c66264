"""Everything that a study answers, computed once: the page, the tables and answers.json show it."""

from collections.abc import Sequence
from dataclasses import dataclass

from unify.answers.claims import TriedClaim, claims
from unify.answers.controls import TriedControl, controls
from unify.answers.differences import Comparison, comparisons
from unify.answers.interaction import Interaction, interactions
from unify.answers.scaling import ArmCrossing, Growth, Series, crossings, growths, series
from unify.answers.score_lines import Line, score_lines
from unify.answers.study_records import StudyRecord


@dataclass
class Answers:
    """A study's scores as lines, and what they say."""

    study: StudyRecord
    lines: list[Line]
    primary: list[Comparison]
    others: list[Comparison]
    claims: list[TriedClaim]
    controls: list[TriedControl]
    interactions: list[Interaction]
    series: dict[str, Series]  # by arm; empty for a study with one budget
    growths: list[Growth]
    crossings: list[ArmCrossing]


def study_answers(study: StudyRecord, lines: Sequence[Line] | None = None) -> Answers:
    """The answers of a study; `lines`: its scores, where they were put into lines already."""
    lines = list(score_lines(study.rows, study.whole) if lines is None else lines)
    primary, others = comparisons(study, lines)
    by_arm = series(study)
    return Answers(
        study,
        lines,
        primary,
        others,
        claims(study, lines),
        controls(study, lines),
        interactions(study, lines),
        by_arm,
        growths(by_arm),
        crossings(study, by_arm, lines),
    )
