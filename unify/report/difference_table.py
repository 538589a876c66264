"""The section Differences: a table of the primary outcomes, and all else folded away."""

from collections.abc import Sequence

from unify.answers.differences import COLUMNS, READING, Comparison, comparisons
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import plural, sentence
from unify.report.html import Html, Node, fold, join, swatch, tag

OTHERS = "All other measurements: intervals alone, as the study did not name them before it ran."


def section(study: StudyRecord, lines: Sequence[Line]) -> Html:
    """The differences, or why there is none to show."""
    if not study.pairs:
        return tag("p", "No two arms to compare.", class_="quiet")
    primary, others = comparisons(study, lines)
    if not any(c.difference.parts for c in [*primary, *others]):
        return tag("p", "One seed per arm: nothing is known of how seeds differ.")
    parts: list[Node] = []
    if primary:
        parts += [tag("p", READING, class_="quiet"), _table(study, primary, judged=True)]
    measured = {line.metric for line in lines}
    missing = [metric for metric in study.primary if metric not in measured]
    if missing:
        text = f"Named before the run, and never measured: {sentence(missing)}."
        parts.append(tag("p", text, class_="note"))
    if not study.primary:
        parts.append(tag("p", "The study named no primary outcome before it ran.", class_="quiet"))
    if others:
        listing = join([tag("p", OTHERS, class_="quiet"), _table(study, others, judged=False)])
        parts.append(fold(f"{plural(len(others), 'other difference')}", listing))
    return join(parts)


def _table(study: StudyRecord, some: Sequence[Comparison], judged: bool) -> Html:
    names = ["Metric", "Arms", "Difference", *(COLUMNS if judged else ())]
    head = tag("tr", *(tag("th", name, scope="col") for name in names))
    body = [tag("tr", *_cells(study, c, judged)) for c in some]
    table = tag("table", tag("thead", head), tag("tbody", *body), class_="numbers differences")
    return tag("div", table, class_="scroll")


def _cells(study: StudyRecord, one: Comparison, judged: bool) -> list[Html]:
    arms = [swatch(study.arms.index(one.first)), one.first, " − "]
    arms += [swatch(study.arms.index(one.second)), one.second]
    cells = [tag("th", one.line.metric, scope="row"), tag("td", *arms), difference_cell(one)]
    if judged:
        cells += [tag("td", text) for text in (one.words, *one.power_texts)]
    return cells


def difference_cell(one: Comparison | None) -> Html:
    """The difference and its interval, in a cell of a table; a dash where nothing was measured."""
    if one is None:
        return tag("td", "–")
    span = tag("span", one.interval_text, class_="quiet")
    return tag("td", one.mean_text, span, title=one.difference.method)
