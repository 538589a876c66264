"""The section Claims: one row for each claim that the study wrote down before it ran."""

from __future__ import annotations

from collections.abc import Sequence

from unify.answers.claims import claims
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.report.difference_table import difference_cell
from unify.report.html import Html, join, tag

READING = (
    "Written down before the runs: who said it, and which arm should score more. Agrees or "
    "disagrees only where the difference can be told at 5% (Holm, over these rows)."
)


def section(study: StudyRecord, lines: Sequence[Line]) -> Html | None:
    """The table; None where the study has no claims."""
    rows = []
    for claim in claims(study, lines):
        arms = [claim.higher, " − ", claim.lower, tag("br"), tag("code", claim.metric)]
        cells = [tag("td", f"{claim.paper}: {claim.says}", class_="claim"), tag("td", *arms)]
        cells += [difference_cell(claim.one), tag("td", tag("b", claim.judgement))]
        rows.append(tag("tr", *cells))
    if not rows:
        return None
    head = tag("tr", *(tag("th", n) for n in ("Claim", "Arms", "Difference", "Here")))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="claims")
    return join([tag("p", READING, class_="quiet"), tag("div", table, class_="scroll")])
