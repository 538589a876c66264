"""Everything that a study answers, computed once: the page, the tables and answers.json show it."""

from collections.abc import Sequence
from dataclasses import dataclass

from unify.answers.arm_means import ArmMean, arm_means, generation_and_understanding
from unify.answers.claims import TriedClaim, claims
from unify.answers.comparison import Comparison
from unify.answers.controls import TriedControl, controls
from unify.answers.costs import Front, fronts
from unify.answers.differences import comparisons
from unify.answers.failures import Failures, failures
from unify.answers.interaction import Interaction, interactions
from unify.answers.learned import Learning, learning
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
    sides: tuple[Line, Line] | None  # that stand for drawing and for answering
    means: list[ArmMean]  # of the primary outcomes and of the two sides
    fronts: list[Front]
    failures: list[Failures]
    learning: list[Learning]  # by primary outcome and arm; empty without the rule


def study_answers(study: StudyRecord, lines: Sequence[Line] | None = None) -> Answers:
    """The answers of a study; `lines`: its scores, where they were put into lines already."""
    lines = list(score_lines(study.rows, study.seeds_have_parts) if lines is None else lines)
    primary, others = comparisons(study, lines)
    by_arm = series(study)
    sides = generation_and_understanding(study, lines)
    shown = [line for line in lines if line.metric in study.primary or line in (sides or ())]
    return Answers(
        study,
        lines,
        primary,
        others,
        claims(study, lines, primary),
        controls(study, lines),
        interactions(study, lines),
        by_arm,
        growths(by_arm),
        crossings(study, by_arm, lines),
        sides,
        [mean for line in shown for mean in arm_means(study, line, study.arms)],
        fronts(study, lines, primary),
        failures(study, lines),
        learning(study, lines),
    )
