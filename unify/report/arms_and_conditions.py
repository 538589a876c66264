"""The section Arms and conditions, of a grid over several arms."""

from collections.abc import Sequence

from unify.answers.interaction import Interaction, interactions
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import number
from unify.report.html import Html, Node, facts, join, tag

READING = (
    "Means over seeds; rows are conditions, columns arms. Shares are of the sum of squares over "
    "all runs; p by F against what seeds leave unexplained. Kendall's tau compares the order of "
    "the arms under every two conditions: 1 where no two arms change places."
)


def section(study: StudyRecord, lines: Sequence[Line]) -> Html | None:
    """A table and a sentence for each primary outcome; None without a grid over two arms."""
    parts = [part for one in interactions(study, lines) for part in _outcome(one)]
    return join([tag("p", READING, class_="quiet"), *parts]) if parts else None


def _outcome(one: Interaction) -> list[Node]:
    rows: list[list[Node]] = [
        [p or "as it is", *(number(c.value) if (c := one.cells[a, p]) else "n/a" for a in one.arms)]
        for p in one.points
    ]
    return [tag("h3", one.line.metric), facts(["", *one.arms], rows), tag("p", one.sentence)]
