"""The first table of the report: each arm's score, and all that it took to get there.

    FLOPs in all = own training + encoding by frozen tokenizers + all runs that had to come before

A row for each arm, those of controls last.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unify.answers.answer_block import MOST_OUTCOMES
from unify.answers.budget import range_text
from unify.answers.score_lines import Line
from unify.answers.study_answers import Answers
from unify.answers.total_cost import total_cost
from unify.answers.words import number, si

# heads of columns -> parts of TotalCost
COSTS = {
    "FLOPs in all": "total",
    "own training": "own",
    "encoding": "encoding",
    "needed runs": "needed",
}
READING = (
    "FLOPs in all: those of an arm's own training, of encoding by its frozen tokenizers, and of "
    "all runs that had to be trained before, which each arm pays in full. n/a: not counted, or a "
    "needed run was not found. Scores: mean, with its 95% interval where there is one."
)


@dataclass(frozen=True)
class ArmOverview:
    """An arm, its means of the primary outcomes and its costs, in the order of `overview_heads`."""

    arm: str
    control: bool
    means: list[str]
    costs: list[str]


def overview_heads(answers: Answers) -> list[str]:
    """Of the columns behind the arm's name."""
    return [*(line.full_name for line in _lines(answers)), *COSTS]


def arms_overview(answers: Answers) -> list[ArmOverview]:
    """A row for each arm of the study."""
    study, lines = answers.study, _lines(answers)
    rows = []
    for arm in study.arms:
        each = [total_cost(study, run) for run in study.runs_of(arm)]
        parts = [[getattr(cost, part) for cost in each] for part in COSTS.values()]
        spent = [range_text([v for v in some if v is not None], si) for some in parts]
        means = [_mean(answers, line, arm) for line in lines]
        rows.append(ArmOverview(arm, arm in study.control_arms, means, spent))
    return rows


def _lines(answers: Answers) -> Sequence[Line]:
    """The primary outcomes that were measured alike in all arms."""
    primary = answers.study.primary
    alike = [line for line in answers.lines if line.metric in primary and not line.note]
    return sorted(alike, key=lambda line: primary.index(line.metric))[:MOST_OUTCOMES]


def _mean(answers: Answers, line: Line, arm: str) -> str:
    mean = next((one for one in answers.means if one.line is line and one.arm == arm), None)
    if mean is None:
        return "n/a"
    ends = "" if mean.interval is None else " [{}, {}]".format(*map(number, mean.interval))
    return f"{number(mean.estimate)}{ends}"
