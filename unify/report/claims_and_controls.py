"""The sections Claims and Controls: what was written down before the runs, and its outcome."""

from collections.abc import Sequence

from unify.answers.controls import control_sentences
from unify.answers.judged import CONFIRMATORY, EXPLORATORY
from unify.answers.study_answers import Answers
from unify.report.difference_table import difference_cell
from unify.report.html import Html, join, tag

CLAIMS_READING = (
    "Written down before the runs: who said it, and which arm should score better. Agrees or "
    "disagrees only where the difference can be told at 5% (Holm, over these rows); intervals are "
    "of each row by itself."
)
OF_FAMILIES = (
    "Written down before the runs: who said it, and which arm should score better. A claim on one "
    "of the named comparisons has its verdict, and no other has one; intervals are of each row by "
    "itself."
)
OF_A_LOOK = "Written down before the runs; an exploratory study gives no verdict on it."
CONTROLS_READING = (
    "What had to come out for this study to be able to tell arms apart, each tried by itself at "
    "5%. That no difference was found does not say that there is none. An arm that is another "
    "under other seeds is a yardstick: its interval has what two draws of one arm differ by, and "
    "other differences no larger than that mean nothing. Only by a margin named before the run are "
    "two arms as good as equal: the 90% interval lies inside of it."
)


def claims_section(answers: Answers) -> Html | None:
    """One row for each claim; None where the study has none."""
    rows = []
    for claim in answers.claims:
        arms = [claim.better, " − ", claim.worse, tag("br"), tag("code", claim.metric)]
        cells = [tag("td", f"{claim.paper}: {claim.says}", class_="claim"), tag("td", *arms)]
        cells += [difference_cell(claim.one), tag("td", tag("b", claim.judgement))]
        rows.append(tag("tr", *cells))
    if not rows:
        return None
    table = _table(("Claim", "Arms", "Difference", "Here"), rows)
    how = {EXPLORATORY: OF_A_LOOK, CONFIRMATORY: OF_FAMILIES}
    return join([tag("p", how.get(answers.study.preset, CLAIMS_READING), class_="quiet"), table])


def controls_section(answers: Answers) -> Html | None:
    """One row for each control and metric; None where the study has no controls."""
    rows = []
    for control in answers.controls:
        told = None if control.is_yardstick and control.came_out else control.came_out
        kind = {True: "done", False: "open", None: ""}[told]
        badge = tag("span", control.outcome, class_=f"badge {kind}")
        cells = [tag("td", control.text), tag("td", control.metric)]
        rows.append(tag("tr", *cells, difference_cell(control.one), tag("td", badge)))
    if not rows:
        return None
    table = _table(("Control", "Metric", "Difference", ""), rows)
    said = control_sentences(answers.controls, bool(answers.lines))
    failed = [tag("p", text, class_="note") for text in said]
    how = OF_A_LOOK if answers.study.preset == EXPLORATORY else CONTROLS_READING
    return join([*failed, tag("p", how, class_="quiet"), table])


def _table(header: Sequence[str], rows: Sequence[Html]) -> Html:
    head = tag("tr", *(tag("th", name) for name in header))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="claims")
    return tag("div", table, class_="scroll")
