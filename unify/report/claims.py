"""What a study wrote down before it ran: claims of papers, and controls that must come out.

Controls: an arm that is another under other seeds must not differ from it, and arms known to be
worse must lose; where one fails, the report says what that means for the other comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence

from unify.report.differences import Comparison, comparison, measured
from unify.report.html import Html, join, tag
from unify.report.load import Study
from unify.report.scaling import is_share
from unify.report.tables import Line
from unify.report.words import number, sentence
from unify.statistics import holm

CLAIMS = (
    "Written down before the runs: who said it, and which arm should score more. Agrees or "
    "disagrees only where the difference can be told at 5% (Holm, over these rows)."
)


def claims(study: Study, found: Sequence[Line]) -> list[tuple[dict[str, str], Comparison | None]]:
    """Each claim of the study and the comparison that tries it; None where nothing was measured."""
    made: list[tuple[dict[str, str], Comparison | None]] = []
    for claim in study.info.get("claims") or []:
        first, second = claim["higher"], claim["lower"]
        line = next((x for x in found if x.metric == claim["metric"] and not x.note), None)
        made.append((claim, comparison(study, line, first, second) if line else None))
    tried = [one for _, one in made if one is not None]
    for one, p in zip(tried, holm([one.p for one in tried]), strict=True):
        one.adjusted = p
    return made


EDGE = 0.02  # a share this near to 0 or 1 leaves no room to be better or worse


def judgement(one: Comparison | None) -> str:
    """agrees | disagrees | not distinguishable at this budget | not testable here | not measured"""
    if one is None:
        return "not measured"
    edge = _edge(one) if one.words == SAME else ""
    if edge:
        return f"not testable here: both at the {edge}"
    return {"higher": "agrees", "lower": "disagrees"}.get(one.words, one.words)


SAME = "not distinguishable at this budget"


def _edge(one: Comparison) -> str:
    """`floor` or `ceiling`, where both arms' shares are there."""
    both = [one.line.cells[arm].value for arm in (one.first, one.second)]
    known = [value for value in both if value is not None]
    if not is_share(one.line) or len(known) < 2:
        return ""
    return "floor" if max(known) <= EDGE else "ceiling" if min(known) >= 1 - EDGE else ""


def claims_section(study: Study, found: Sequence[Line]) -> Html | None:
    """One row for each claim; None where the study has none."""
    rows = []
    for claim, one in claims(study, found):
        arms = [claim["higher"], " − ", claim["lower"], tag("br"), tag("code", claim["metric"])]
        shown = [tag("td", f"{claim['paper']}: {claim['says']}", class_="claim"), tag("td", *arms)]
        figures = measured(one) if one is not None else tag("td", "–")
        rows.append(tag("tr", *shown, figures, tag("td", tag("b", judgement(one)))))
    if not rows:
        return None
    head = tag("tr", *(tag("th", n) for n in ("Claim", "Arms", "Difference", "Here")))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="claims")
    return join([tag("p", CLAIMS, class_="quiet"), tag("div", table, class_="scroll")])


CONTROLS = (
    "What had to come out for this study to be able to tell arms apart, each tried by itself at "
    "5%. That no difference was found does not say that there is none: the interval has those that "
    "are not ruled out."
)
Control = tuple[dict[str, str], Comparison, bool | None]


def controls(study: Study, found: Sequence[Line]) -> list[Control]:
    """Each control on its metric, or on each primary outcome, and whether it came out (at 5%, each
    by itself); None where that cannot be told."""
    made: list[Control] = []
    for control in study.info.get("controls") or []:
        asked = [control["metric"]] if control.get("metric") else study.primary
        for line in (line for line in found if line.metric in asked and not line.note):
            one = comparison(study, line, control["arm"], control["than"])
            if one is not None:
                one.adjusted = one.p
                came_out = one.words == WANTED[control["expect"]]
                made.append((control, one, None if one.p is None else came_out))
    return made


def controls_section(study: Study, found: Sequence[Line]) -> Html | None:
    """One row for each control and primary outcome; None where the study has no controls."""
    tried = controls(study, found)
    if not tried:
        return None
    rows = []
    for control, one, came_out in tried:
        kind = {True: "done", False: "open", None: ""}[came_out]
        badge = tag("span", outcome(control, one, came_out), class_=f"badge {kind}")
        cells = [tag("td", text) for text in (wanted(control), one.line.metric)]
        rows.append(tag("tr", *cells, measured(one), tag("td", badge)))
    head = tag("tr", *(tag("th", n) for n in ("Control", "Metric", "Difference", "")))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="claims")
    failed = [tag("p", text, class_="note") for text in failed_controls(study, found)]
    return join([*failed, tag("p", CONTROLS, class_="quiet"), tag("div", table, class_="scroll")])


AS = {"same": "as", "worse": "than"}
WANTED = {"same": SAME, "worse": "lower"}


def wanted(control: dict[str, str]) -> str:
    return f"{control['arm']}: {control['expect']} {AS[control['expect']]} {control['than']}"


def outcome(control: dict[str, str], one: Comparison, came_out: bool | None) -> str:
    """What came of a control, and its own p; or why that cannot be told."""
    if came_out is None or one.p is None:
        return one.words
    outcomes = {"same": ("differs", "no difference found"), "worse": ("not shown", "worse")}
    p = "< 0.001" if one.p < 0.001 else number(one.p)
    return f"{outcomes[control['expect']][came_out]}, p {p}"


def failed_controls(study: Study, found: Sequence[Line]) -> list[str]:
    """A sentence on those that failed and mean one thing, for the page's first paragraph too."""
    tried = controls(study, found)
    by_meaning: dict[str, list[str]] = {}
    for control, one, came_out in tried:
        if came_out is False:
            expected = f"{one.first} should be {control['expect']} {AS[control['expect']]}"
            failed = by_meaning.setdefault(_meaning(control, one, tried), [])
            failed.append(f"{one.line.metric}: {expected} {one.second}")
    said = [
        f"{'A control' if len(failed) == 1 else f'{len(failed)} controls'} did not come out "
        f"({'; '.join(failed)}): {meaning}"
        for meaning, failed in by_meaning.items()
    ]
    metrics = {control.get("metric") for control in study.info.get("controls") or []} - {"", None}
    unknown = sorted(metrics - {line.metric for line in found}) if found else []
    return said + [f"A control's metric was never measured: {sentence(unknown)}."] * bool(unknown)


def _meaning(
    control: dict[str, str],
    one: Comparison,
    tried: Sequence[Control],
) -> str:
    """An arm that is no worse says little of a study that did tell another from the same one."""
    told = [
        other.first
        for said, other, came_out in tried
        if came_out
        and said["expect"] == "worse"
        and (other.line, other.second) == (one.line, one.second)
    ]
    if control["expect"] == "worse" and told:
        return (
            f"it was not shown to be, in a study that did tell {sentence(told)} from {one.second}."
        )
    if control["expect"] == "same":
        return "seeds alone make such a difference, so others as small mean nothing."
    return (
        "the study could not tell arms apart there, and its other comparisons on that outcome "
        "mean little."
    )
