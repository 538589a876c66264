"""The section Arms, the page's first table: each arm's scores beside what it took in all."""

from unify.answers.arms_overview import READING, ArmOverview, arms_overview, overview_heads
from unify.answers.score_lines import MANY
from unify.answers.study_answers import Answers
from unify.answers.words import unbroken
from unify.report.html import Html, Node, facts, fold, join, swatch, tag


def section(answers: Answers) -> Html:
    """The table, folded away where arms are many."""
    rows = [_row(answers, one) for one in arms_overview(answers)]
    table = facts(["", *overview_heads(answers)], rows, "arms-overview")
    shown = fold(f"All {len(rows)} arms", table) if len(rows) > MANY else table
    return join([shown, tag("p", READING, class_="quiet")])


def _row(answers: Answers, one: ArmOverview) -> list[Node]:
    name = [swatch(answers.study.arms.index(one.arm)), one.arm]
    control = tag("span", " control", class_="quiet") if one.control else None
    return [join([*name, control]), *(unbroken(text) for text in (*one.means, *one.costs))]
