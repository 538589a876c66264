"""The section Arms and conditions, of a grid over several arms."""

from unify.answers.interaction import Interaction
from unify.answers.study_answers import Answers
from unify.answers.words import number
from unify.report.html import Html, Node, facts, join, tag

READING = (
    "Means over seeds; rows are conditions, columns arms. Eta squared: shares of the sum of "
    "squares over all runs, which describe this table and are no components of variance; p by F "
    "against what seeds leave unexplained, corrected over all outcomes (Holm). Kendall's tau "
    "compares the order of the arms under every two conditions: 1 where no two arms change places."
)


def section(answers: Answers) -> Html | None:
    """A table and a sentence for each primary outcome; None without a grid over two arms."""
    parts = [part for one in answers.interactions for part in _outcome(one)]
    return join([tag("p", READING, class_="quiet"), *parts]) if parts else None


def _outcome(one: Interaction) -> list[Node]:
    rows: list[list[Node]] = [
        [p or "as it is", *(number(c.value) if (c := one.cells[a, p]) else "n/a" for a in one.arms)]
        for p in one.points
    ]
    return [tag("h3", one.line.metric), facts(["", *one.arms], rows), tag("p", one.sentence)]
