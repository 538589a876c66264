"""The section Differences: a table of the primary outcomes, and all else folded away."""

from collections.abc import Sequence

from unify.answers.comparison import Comparison
from unify.answers.difference_cells import (
    columns,
    judged_texts,
    limits_text,
    notes_text,
    reading,
)
from unify.answers.study_answers import Answers
from unify.answers.study_records import StudyRecord
from unify.answers.words import plural, sentence
from unify.report.html import Html, Node, fold, join, swatch, tag

OTHERS = "All other measurements: intervals alone, as the study did not name them before it ran."


def section(answers: Answers) -> Html:
    """The differences, or why there is none to show."""
    study, primary, others = answers.study, answers.primary, answers.others
    if not study.pairs:
        return tag("p", "No two arms to compare.", class_="quiet")
    if len(study.seeds) == 1:
        return tag("p", "One seed per arm: nothing is known of how seeds differ.")
    parts: list[Node] = []
    if primary:
        parts.append(_table(study, primary, judged=True))
        limits = limits_text(study, primary)
        how = join(tag("p", text, class_="quiet") for text in (reading(study), limits))
        parts.append(fold("How to read this table, and its limits", how))
    measured = {line.metric for line in answers.lines}
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
    names = ["Metric", "Arms", "Difference", *(columns(study) if judged else ())]
    head = tag("tr", *(tag("th", name, scope="col") for name in names))
    body = [tag("tr", *_cells(study, c, judged)) for c in some]
    table = tag("table", tag("thead", head), tag("tbody", *body), class_="numbers differences")
    return tag("div", table, class_="scroll")


def _cells(study: StudyRecord, one: Comparison, judged: bool) -> list[Html]:
    arms = [
        tag("span", swatch(study.arms.index(one.first)), one.first, " − "),
        tag("span", swatch(study.arms.index(one.second)), one.second),
    ]
    cells = [tag("th", one.name, scope="row"), tag("td", *arms), difference_cell(one)]
    said = judged_texts(one)[: len(columns(study))] if judged else ()
    return cells + [tag("td", text) for text in said]


def difference_cell(one: Comparison | None) -> Html:
    """The difference, its interval, and what was left out or changed, in a cell of a table; the
    reason where there is no difference."""
    if one is None:
        return tag("td", "–")
    if one.difference is None:
        return tag("td", tag("span", one.reason, class_="said"))
    span = tag("span", one.interval_text, class_="quiet")
    notes = notes_text(one)
    parts = [one.mean_text, span, tag("span", notes, class_="said") if notes else None]
    return tag("td", *parts, title=one.difference.method)
