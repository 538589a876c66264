"""Scaling: best sizes at budgets, how they grow, and where two arms cross.

The fits are those of analysis/best_size.py and analysis/scaling_laws.py. Every interval here is at
95% by itself: pairs of arms that cross are in no correction.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from unify.analysis.best_size import Optimum, optimum
from unify.analysis.scaling_laws import Crossing, crossing, fit_polynomial, logit
from unify.answers.run_records import RunRecord
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import si
from unify.runs.study_files import has_value

NO_INTERVAL = "; these runs do not bound it"
FEWEST_BUDGETS = 3  # through two there is a line, and nothing to tell how far off it is


@dataclass
class Place:
    """The runs of an arm of one size at one budget."""

    name: str  # of the arm in the study
    budget: float
    size: int  # trainable parameters
    losses: list[float]


@dataclass
class Series:
    """A base arm: its places, and the best size at each budget."""

    places: list[Place]
    optima: dict[float, Optimum]

    def at(self, budget: float) -> list[Place]:
        """The places of one budget."""
        return [place for place in self.places if place.budget == budget]

    def nearest(self, budget: float) -> Place:
        """The place whose size is nearest to the best of its budget."""
        best = self.optima[budget].size
        return min(self.at(budget), key=lambda place: abs(math.log(place.size / best)))


def series(study: StudyRecord) -> dict[str, Series]:
    """One for each arm that the study names; empty unless it has several budgets of one kind."""
    budgets = study.info.get("budgets") or {}
    amounts = {arm: _amount(budget) for arm, budget in budgets.items()}
    if len({kind for kind, _ in amounts.values()}) != 1 or len(set(amounts.values())) < 2:
        return {}
    by_base: dict[str, list[Place]] = {}
    for arm, (_, amount) in amounts.items():
        runs = [run for run in study.runs_of(arm) if run.finished]
        losses = [loss for run in runs if (loss := final_loss(run)) is not None]
        size = runs[0].parameters("trainable") if runs else None
        if losses and size:
            base = study.factors[arm][0]
            by_base.setdefault(base, []).append(Place(arm, amount, size, losses))
    return {base: Series(places, _optima(places)) for base, places in by_base.items()}


def _amount(budget: dict[str, float]) -> tuple[str, float]:
    """(quantity, amount) of a budget, of which one quantity is set."""
    return next((k, budget[k]) for k in ("steps", "samples", "tokens", "flops") if budget[k])


def final_loss(run: RunRecord) -> float | None:
    """Mean of the losses logged in the last tenth of a run."""
    logged = [r["loss"] for r in run.train if r.get("loss") is not None]
    last = logged[-max(1, len(logged) // 10) :]
    return math.fsum(last) / len(last) if last else None


def _optima(places: Sequence[Place]) -> dict[float, Optimum]:
    """The best size at each budget at which a parabola can be fitted."""
    optima = {}
    for budget in sorted({place.budget for place in places}):
        here = [place for place in places if place.budget == budget]
        sizes = [float(place.size) for place in here for _ in place.losses]
        best = optimum(sizes, [loss for place in here for loss in place.losses])
        if best is not None:
            optima[budget] = best
    return optima


@dataclass
class Growth:
    """How an arm's best size grows: the exponent of log N* over log C, with its 95% interval; None
    where the best size lies inside of what was tried at fewer than three `budgets`."""

    arm: str
    budgets: list[float]
    exponent: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def sentence(self) -> str:
        if self.exponent is None:
            where = f"it lies inside of what was tried at {len(self.budgets)} of the budgets"
            return (
                f"{self.arm}: how its best size grows cannot be said: {where}, and an exponent "
                f"takes {FEWEST_BUDGETS}."
            )
        ends = "" if self.interval is None else " [{:.2f}, {:.2f}]".format(*self.interval)
        grows = "its best size grows as the budget to the power of"
        return f"{self.arm}: {grows} {self.exponent:.2f}{ends}."


@dataclass
class ArmCrossing:
    """Where two arms score alike on a metric."""

    metric: str
    first: str
    second: str
    at: Crossing
    budgets: list[float]

    @property
    def sentence(self) -> str:
        return f"{self.metric}: {self.first} and {self.second} {self._words}"

    @property
    def _words(self) -> str:
        at = self.at
        if at.apart:
            return f"do not cross between {si(self.budgets[0])} and {si(self.budgets[-1])}."
        if at.budget is None:
            return "are not known to cross, or not to, near these budgets: these runs do not tell."
        low, high = at.interval or (math.nan, math.nan)
        span = "" if at.interval is None else f" [{size_text(low)}, {size_text(high)}]"
        note = ", extrapolated beyond what was measured" if at.extrapolated else ""
        unsure = "" if at.interval and low > 0 and math.isfinite(high) else NO_INTERVAL
        return f"cross at {si(at.budget)}{span}{note}{unsure}."


def growth(arm: str, one: Series) -> Growth:
    """log N* over log C, where the best size lies inside of what was tried."""
    inside = {c: best for c, best in one.optima.items() if best.where == "inside"}
    if len(inside) < FEWEST_BUDGETS:
        return Growth(arm, list(inside))
    line = fit_polynomial(
        [math.log(c) for c in inside], [math.log(b.size) for b in inside.values()], 1
    )
    assert line is not None
    return Growth(arm, list(inside), float(line.coefficients[1]), line.interval(1))


def odds_by_budget(one: Series, line: Line) -> tuple[list[float], list[float]]:
    """(log budget, log odds) of each seed, at the size nearest to the best."""
    xs, ys = [], []
    for budget in one.optima:
        cell = line.cells.get(one.nearest(budget).name)
        for row in cell.rows.values() if cell else ():
            if has_value(row) and row.get("n"):
                xs.append(math.log(budget))
                ys.append(logit(row["value"], row["n"]))
    return xs, ys


def growths(by_arm: dict[str, Series]) -> list[Growth]:
    """How the best size of each arm grows with the budget."""
    return [growth(arm, one) for arm, one in by_arm.items() if one.optima]


def crossings(
    study: StudyRecord, by_arm: dict[str, Series], lines: Sequence[Line]
) -> list[ArmCrossing]:
    """Where arms cross, for each primary outcome that is a share, and every two arms whose scores
    can be fitted."""
    shares = [x for x in lines if x.metric in study.primary and not x.note and x.is_share()]
    made = []
    for line in shares:
        fits = {arm: fit_polynomial(*odds_by_budget(one, line), 1) for arm, one in by_arm.items()}
        for (a, first), (b, second) in combinations(fits.items(), 2):
            if first is not None and second is not None:
                budgets = sorted({c for arm in (a, b) for c in by_arm[arm].optima})
                at = crossing(first, second, budgets)
                if study.preset:  # that they do not cross would be a verdict
                    at = replace(at, apart=False)
                made.append(ArmCrossing(line.metric, a, b, at, budgets))
    return made


def size_text(value: float) -> str:
    """`1.32 M`; `no end` for the open end of an interval."""
    return "no end" if value == 0 or math.isinf(value) else si(value)
