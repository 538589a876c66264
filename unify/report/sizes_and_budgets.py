"""Sizes at budgets: best sizes, how they grow, and where two arms cross."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from unify.analysis.scaling_laws import (
    Crossing,
    Optimum,
    Polynomial,
    crossing,
    fit_polynomial,
    logit,
    optimum,
)
from unify.report.html import Html, Node, join, tag
from unify.report.study_records import RunRecord, StudyRecord
from unify.report.tables import Line, facts
from unify.report.words import number, si

READING = (
    "Loss: of training, weighted as trained, mean over the last tenth of a run; it is compared "
    "within an arm only. Best size: the lowest point of a parabola in log parameters through all "
    "runs of a budget, with its 95% interval; at the edge of what was tried, the best size tried."
)
CROSSING = (
    "Where two arms score alike: lines through the log odds of the score of the size nearest to "
    "the best, against the log of the budget."
)
WHERE = {"inside": "", "edge": "at the edge of the sizes tried", "none": "no lowest point"}


@dataclass
class Place:
    """The runs of an arm of one size at one budget."""

    name: str  # of the arm in the study
    budget: float
    size: int  # trainable parameters
    losses: list[float]


@dataclass
class Series:
    """A paradigm: its places, and the best size at each budget."""

    places: list[Place]
    optima: dict[float, Optimum]

    def nearest(self, budget: float) -> Place:
        """The place whose size is nearest to the best of its budget."""
        best = self.optima[budget].size
        there = [place for place in self.places if place.budget == budget]
        return min(there, key=lambda place: abs(math.log(place.size / best)))


def series(study: StudyRecord) -> dict[str, Series]:
    """By the arm that the study names; empty unless it has several budgets of one kind."""
    amounts = {arm: _amount(said) for arm, said in (study.info.get("budgets") or {}).items()}
    if len({kind for kind, _ in amounts.values()}) != 1 or len(set(amounts.values())) < 2:
        return {}
    found: dict[str, list[Place]] = {}
    for arm, (_, amount) in amounts.items():
        runs = [run for run in study.runs_of(arm) if run.finished]
        losses = [loss for run in runs if (loss := final_loss(run)) is not None]
        size = runs[0].parameters("trainable") if runs else None
        if losses and size:
            base = study.factors[arm][0]
            found.setdefault(base, []).append(Place(arm, amount, size, losses))
    return {base: Series(places, _optima(places)) for base, places in found.items()}


def _amount(said: dict[str, float]) -> tuple[str, float]:
    return next((k, said[k]) for k in ("steps", "samples", "tokens", "flops") if said[k])


def final_loss(run: RunRecord) -> float | None:
    """Mean of what was logged in the last tenth of a run."""
    logged = [r["loss"] for r in run.train if r.get("loss") is not None]
    last = logged[-max(1, len(logged) // 10) :]
    return math.fsum(last) / len(last) if last else None


def _optima(places: Sequence[Place]) -> dict[float, Optimum]:
    found = {}
    for budget in sorted({place.budget for place in places}):
        there = [p for p in places if p.budget == budget]
        best = optimum(
            [float(p.size) for p in there for _ in p.losses], [y for p in there for y in p.losses]
        )
        if best is not None:
            found[budget] = best
    return found


def growth(one: Series) -> Polynomial | None:
    """log N* over log C, where the best size lies inside of what was tried."""
    inside = {c: best for c, best in one.optima.items() if best.where == "inside"}
    return fit_polynomial(
        [math.log(c) for c in inside], [math.log(b.size) for b in inside.values()], 1
    )


def scores(one: Series, line: Line) -> tuple[list[float], list[float]]:
    """(log budget, log odds) of each seed, at the size nearest to the best."""
    xs, ys = [], []
    for budget in one.optima:
        cell = line.cells.get(one.nearest(budget).name)
        for row in cell.rows.values() if cell else ():
            if row["value"] is not None and row.get("n"):
                xs.append(math.log(budget))
                ys.append(logit(row["value"], row["n"]))
    return xs, ys


def section(study: StudyRecord, found: Sequence[Line]) -> Html | None:
    """None for a study with one budget."""
    known = series(study)
    if not any(one.optima for one in known.values()):
        return None
    parts: list[Node] = [tag("p", READING, class_="quiet"), _best(known)]
    parts.append(tag("ul", *(tag("li", text) for text in _growths(known))))
    said = [tag("li", text) for text in _shared(study, known, found)]
    if said:
        parts += [tag("h3", "Crossings"), tag("p", CROSSING, class_="quiet"), tag("ul", *said)]
    return join(parts)


def sentences(study: StudyRecord, found: Sequence[Line]) -> list[str]:
    """The answer, for the page's first paragraph; none for a study with one budget."""
    known = series(study)
    return [*_growths(known), *_shared(study, known, found)] if known else []


def _growths(known: dict[str, Series]) -> list[str]:
    return [f"{arm}: {_grows(one)}" for arm, one in known.items() if one.optima]


def _shared(study: StudyRecord, known: dict[str, Series], found: Sequence[Line]) -> list[str]:
    """Where arms cross, on the primary outcomes that are shares."""
    shared = [x for x in found if x.metric in study.primary and not x.note and x.is_share]
    return [f"{line.metric}: {text}" for line in shared for text in _crossings(known, line)]


def _best(known: dict[str, Series]) -> Html:
    rows: list[list[Node]] = []
    for arm, one in known.items():
        for budget, best in one.optima.items():
            tried = sorted(p.size for p in one.places if p.budget == budget)
            ends = "" if best.interval is None else f" [{', '.join(map(_si, best.interval))}]"
            rows.append(
                [
                    arm,
                    si(budget),
                    ", ".join(si(size) for size in tried),
                    f"{si(best.size)}{ends}",
                    number(best.loss),
                    WHERE[best.where],
                ]
            )
    return facts(["", "budget", "sizes tried", "best size", "loss there", ""], rows, "scaling")


def _si(value: float) -> str:
    return "no end" if value == 0 or math.isinf(value) else si(value)


def _grows(one: Series) -> str:
    """The best size grows as budget^0.48 [0.40, 0.56]."""
    line = growth(one)
    if line is None:
        return "how its best size grows cannot be said: it lies inside at fewer than two budgets."
    ends = line.interval(1)
    span = "" if ends is None else f" [{ends[0]:.2f}, {ends[1]:.2f}]"
    return f"its best size grows as the budget to the power of {line.coefficients[1]:.2f}{span}."


def _crossings(known: dict[str, Series], line: Line) -> list[str]:
    fits = {arm: fit_polynomial(*scores(one, line), 1) for arm, one in known.items()}
    out = []
    for (a, first), (b, second) in combinations(fits.items(), 2):
        if first is not None and second is not None:
            budgets = sorted({c for arm in (a, b) for c in known[arm].optima})
            out.append(f"{a} and {b} {_said(crossing(first, second, budgets))}")
    return out


def _said(found: Crossing) -> str:
    if found.budget is None:
        return "do not cross near these budgets."
    low, high = found.interval or (math.nan, math.nan)
    span = "" if found.interval is None else f" [{_si(low)}, {_si(high)}]"
    note = ", extrapolated beyond what was measured" if found.extrapolated else ""
    unsure = "" if found.interval and low > 0 and math.isfinite(high) else NO_INTERVAL
    return f"cross at {si(found.budget)}{span}{note}{unsure}."


NO_INTERVAL = "; these runs do not bound it"
