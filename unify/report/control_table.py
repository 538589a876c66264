"""The section Controls: what had to come out, and whether it did."""

from __future__ import annotations

from collections.abc import Sequence

from unify.answers.controls import control_sentences, controls
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.report.difference_table import difference_cell
from unify.report.html import Html, join, tag

READING = (
    "What had to come out for this study to be able to tell arms apart, each tried by itself at "
    "5%. That no difference was found does not say that there is none: the interval has those that "
    "are not ruled out."
)


def section(study: StudyRecord, lines: Sequence[Line]) -> Html | None:
    """One row for each control and metric; None where the study has no controls."""
    rows = []
    for control in controls(study, lines):
        kind = {True: "done", False: "open", None: ""}[control.came_out]
        badge = tag("span", control.outcome, class_=f"badge {kind}")
        cells = [tag("td", control.text), tag("td", control.metric)]
        rows.append(tag("tr", *cells, difference_cell(control.one), tag("td", badge)))
    if not rows:
        return None
    head = tag("tr", *(tag("th", n) for n in ("Control", "Metric", "Difference", "")))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="claims")
    failed = [tag("p", text, class_="note") for text in control_sentences(study, lines)]
    return join([*failed, tag("p", READING, class_="quiet"), tag("div", table, class_="scroll")])
