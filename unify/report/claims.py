"""What a study wrote down before it ran: claims of papers, and controls that must come out.

Controls: an arm that is another under other seeds must not differ from it, and arms known to be
worse must lose; where one fails, the report says what that means for the other comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unify.analysis.paired_differences import holm
from unify.report.differences import Comparison, comparison, measured
from unify.report.html import Html, join, tag
from unify.report.study_records import StudyRecord
from unify.report.tables import Line
from unify.report.words import p_value, sentence

CLAIMS = (
    "Written down before the runs: who said it, and which arm should score more. Agrees or "
    "disagrees only where the difference can be told at 5% (Holm, over these rows)."
)


def claims(
    study: StudyRecord, found: Sequence[Line]
) -> list[tuple[dict[str, str], Comparison | None]]:
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
    if not one.line.is_share or len(known) < 2:
        return ""
    return "floor" if max(known) <= EDGE else "ceiling" if min(known) >= 1 - EDGE else ""


def claims_section(study: StudyRecord, found: Sequence[Line]) -> Html | None:
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


@dataclass
class Held:
    """A control on one metric; no comparison where nothing was measured of it."""

    control: dict[str, str]
    metric: str
    one: Comparison | None

    @property
    def text(self) -> str:
        """`again: same as transfusion`."""
        of = "as" if self.control["expect"] == "same" else "than"
        return f"{self.control['arm']}: {self.control['expect']} {of} {self.control['than']}"

    @property
    def came_out(self) -> bool | None:
        """At 5%, by itself; None where that cannot be told."""
        if self.one is None or self.one.p is None:
            return None
        return self._found == self.control["expect"]

    @property
    def _found(self) -> str:
        assert self.one is not None
        if self.one.words == SAME:
            return "same"
        return (
            "worse" if (self.one.words == "higher") == self.one.line.lower_is_better else "better"
        )

    @property
    def outcome(self) -> str:
        """What came of it, with its own p; or why that cannot be told."""
        if self.one is None:
            return "not measured"
        if self.one.p is None:
            return self.one.words
        found = "no difference found" if self._found == "same" else self._found
        return f"{found}, p {p_value(self.one.p)}"

    def meaning(self, told: Sequence[str]) -> str:
        """Of one that did not come out; `told`: arms that were found worse than the same one."""
        than = self.control["than"]
        if self.control["expect"] == "same":
            return "seeds alone make such a difference, so others as small mean nothing."
        if self._found == "better":
            return "the other way round: what was expected does not hold here."
        if told:
            return f"not shown here, in a study that did tell {sentence(told)} from {than}."
        return (
            "the study could not tell arms apart there, and its other comparisons on such an "
            "outcome mean little."
        )


def controls(study: StudyRecord, found: Sequence[Line]) -> list[Held]:
    """Each control of the study on its metric, or on each primary outcome."""
    made = []
    for control in study.info.get("controls") or []:
        for metric in [control["metric"]] if control.get("metric") else study.primary:
            line = next((x for x in found if x.metric == metric and not x.note), None)
            one = comparison(study, line, control["arm"], control["than"]) if line else None
            if one is not None:
                one.adjusted = one.p
            made.append(Held(control, metric, one))
    return made


def controls_section(study: StudyRecord, found: Sequence[Line]) -> Html | None:
    """One row for each control and metric; None where the study has no controls."""
    rows = []
    for held in controls(study, found):
        kind = {True: "done", False: "open", None: ""}[held.came_out]
        badge = tag("span", held.outcome, class_=f"badge {kind}")
        figures = measured(held.one) if held.one else tag("td", "–")
        cells = [tag("td", held.text), tag("td", held.metric), figures, tag("td", badge)]
        rows.append(tag("tr", *cells))
    if not rows:
        return None
    head = tag("tr", *(tag("th", n) for n in ("Control", "Metric", "Difference", "")))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="claims")
    failed = [tag("p", text, class_="note") for text in failed_controls(study, found)]
    return join([*failed, tag("p", CONTROLS, class_="quiet"), tag("div", table, class_="scroll")])


def failed_controls(study: StudyRecord, found: Sequence[Line]) -> list[str]:
    """A sentence on those that did not come out and mean one thing, and on those without a score;
    for the page's first paragraph too."""
    tried = controls(study, found)
    by_meaning: dict[str, list[Held]] = {}
    for held in tried:
        if held.came_out is False:
            told = [
                other.control["arm"]
                for other in tried
                if other.came_out
                and other.control["expect"] == "worse"
                and (other.metric, other.control["than"]) == (held.metric, held.control["than"])
            ]
            by_meaning.setdefault(held.meaning(told), []).append(held)
    said = [f"{_named(its, 'did not come out')}: {words}" for words, its in by_meaning.items()]
    absent = [held for held in tried if held.one is None]
    return said + ([f"{_named(absent, 'has no score')}."] if absent and found else [])


def _named(its: Sequence[Held], verb: str) -> str:
    """`A control did not come out (text_to_image/exact, again: same as transfusion)`."""
    which = "; ".join(f"{held.metric}, {held.text}" for held in its)
    return f"{'A control' if len(its) == 1 else f'Of the controls, {len(its)}'} {verb} ({which})"
