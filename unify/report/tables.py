"""Results as lines (one metric, one passport) of cells (one arm), and as an HTML table.

A cell holds every seed of its arm: one seed shows its value and 95% interval, several show their
mean and range. Scores that were not measured alike never stand in one line. Of a passport, what
names the arm itself (weights, sampler, tokenizer) may differ between arms; all else must be equal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unify.report.html import Html, Node, escape, join, tag
from unify.report.plots import interval_plot
from unify.report.study_records import Row
from unify.report.words import number, unbroken

CONFIRMATORY_SEEDS = 8  # fewer seeds per arm: "exploratory"
ROOMY = 4  # arms: with more, the numbers of a cell take two lines
REFERENCES = ("chance", "majority", "blind")  # rows that belong beside vqa/accuracy
LOWER_IS_BETTER = ("perplexity", "frechet", "bits_per_byte", "abs_error", "unreadable")
WEIGHTS = {"weights", "run", "checkpoint", "step", "seed"}  # differ between runs of one arm too
OWN = {"sampler", "sampling", "guidance", "tokenizer"}  # an arm's own, the same in all its runs
TASKS = {  # in reading order; others follow
    "text_to_image": "Text to image",
    "edit": "Editing",
    "vqa": "Visual question answering",
    "caption": "Captioning",
    "text": "Text",
    "tokenizer": "Tokenizer",
    "generate": "Speed",
}


@dataclass
class Cell:
    """The scores of one arm on one line, by seed."""

    rows: dict[int, Row] = field(default_factory=dict)

    @property
    def values(self) -> list[float]:
        found = [r["value"] for r in self.rows.values()]
        return [v for v in found if v is not None and math.isfinite(v)]

    @property
    def value(self) -> float | None:
        """Mean over the seeds that have a value."""
        return math.fsum(self.values) / len(self.values) if self.values else None

    @property
    def span(self) -> tuple[float, float] | None:
        """The 95% interval of one seed, the range of several."""
        if len(self.rows) > 1:
            return (min(self.values), max(self.values)) if self.values else None
        (row,) = self.rows.values()
        low, high = row.get("low"), row.get("high")
        if not self.values or low is None or high is None or not math.isfinite(low + high):
            return None
        return low, high

    @property
    def trials(self) -> str:
        """How many trials, of each seed where there are several."""
        counts = sorted({r["n"] for r in self.rows.values() if r.get("n") is not None})
        return "–".join(f"{n:,}" for n in dict.fromkeys(counts[:1] + counts[-1:]))


@dataclass
class Line:
    """One metric measured in one way."""

    metric: str
    cells: dict[str, Cell]
    alone: bool = False  # a category whose measure has no line of its own
    note: str = ""  # why the metric has more than one line

    @property
    def task(self) -> str:
        return self.metric.split("/")[0]

    @property
    def measure(self) -> str:
        return self.metric.split("/")[1] if "/" in self.metric else ""

    @property
    def category(self) -> str:
        return "/".join(self.metric.split("/")[2:])

    @property
    def lower_is_better(self) -> bool:
        # the perplexity of a code book says how evenly its codes are used: more is no worse
        return self.measure in LOWER_IS_BETTER and self.task != "tokenizer"

    @property
    def is_share(self) -> bool:
        """Whether every score is k out of its n."""
        rows = [row for cell in self.cells.values() for row in cell.rows.values()]
        hits = [r["value"] * r["n"] for r in rows if r["value"] is not None and r.get("n")]
        return bool(hits) and all(hit >= 0 and abs(hit - round(hit)) < 1e-6 for hit in hits)

    @property
    def reference(self) -> bool:
        return self.measure in REFERENCES

    @property
    def label(self) -> str:
        name = self.category or self.measure or self.metric
        if self.reference:
            name = self.measure
        elif self.alone:
            name = f"{self.measure}/{self.category}"
        return name.replace("_", " ").replace("/", " · ")


def lines(rows: Sequence[Row]) -> list[Line]:
    """Lines in reading order: by task, a measure before its categories, references last."""
    by_metric: dict[str, list[Row]] = {}
    for row in rows:
        by_metric.setdefault(row["metric"], []).append(row)
    found = [line for metric, its in by_metric.items() for line in _split(metric, its)]
    tasks = [t for t in TASKS if any(line.task == t for line in found)]
    tasks = list(dict.fromkeys([*tasks, *(line.task for line in found)]))
    for line in found:
        line.alone = bool(line.category) and f"{line.task}/{line.measure}" not in by_metric
    measures = list(dict.fromkeys(line.measure for line in found if not line.reference))
    categories = list(dict.fromkeys(["", *(line.category for line in found)]))

    def place(line: Line) -> tuple[int, int, int, int]:
        own = "accuracy" if line.reference else line.measure
        rank = REFERENCES.index(line.measure) + 1 if line.reference else 0
        place_of_own = measures.index(own) if own in measures else len(measures)
        return tasks.index(line.task), place_of_own, categories.index(line.category), rank

    return sorted(found, key=place)


def _split(metric: str, rows: Sequence[Row]) -> list[Line]:
    """One line per way of measuring; the note names what differs."""
    ways: list[tuple[str, dict[str, str], Line]] = []
    for row in rows:
        passport = row.get("passport") or {}
        alike = _part(passport, skip=WEIGHTS | OWN)
        own = _part({k: v for k, v in passport.items() if k in OWN})
        for shared, owns, line in ways:  # noqa: B007
            if shared == alike and owns.setdefault(row["arm"], own) == own:
                break
        else:
            line = Line(metric, {})
            ways.append((alike, {row["arm"]: own}, line))
        line.cells.setdefault(row["arm"], Cell()).rows[row["seed"]] = row
    if len(ways) > 1:
        for _, _, line in ways:
            line.note = _difference(line, [other for _, _, other in ways])
    return [line for _, _, line in ways]


def _part(passport: dict[str, Any], skip: frozenset[str] | set[str] = frozenset()) -> str:
    kept = {k: v for k, v in passport.items() if k not in skip}
    return json.dumps(kept, sort_keys=True, default=str)


def _difference(line: Line, ways: Sequence[Line]) -> str:
    """What this line's passport says where the ways differ (arms' own if nothing else does)."""
    passports = {id(way): _first(way).get("passport") or {} for way in ways}
    keys = dict.fromkeys(key for each in passports.values() for key in each)
    unlike = [k for k in keys if len({_part({k: p.get(k)}) for p in passports.values()}) > 1]
    unlike = [k for k in unlike if k not in WEIGHTS]
    reasons = [k for k in unlike if k not in OWN] or unlike
    return ", ".join(f"{k}: {_short(passports[id(line)].get(k, 'not stated'))}" for k in reasons)


def _first(line: Line) -> Row:
    cell = next(iter(line.cells.values()))
    return next(iter(cell.rows.values()))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= 60 else text[:59] + "…"


def cell_text(cell: Cell | None, form: str = "{} [{}, {}]") -> str:
    """Value with its interval, or mean with the range over seeds: `0.973 [0.955, 0.985]`."""
    if cell is None:
        return "n/a"
    if cell.span is None:
        return number(cell.value)
    return form.format(*map(number, (cell.value, *cell.span)))


def results_table(
    found: Sequence[Line], arms: Sequence[str], seeds: Sequence[int], primary: Sequence[str]
) -> Html:
    """Metrics by task down, arms across."""
    scale = tag("div", tag("span", 0), tag("span", 0.5), tag("span", 1), class_="scale")
    head = [tag("th", "Metric", scope="col")]
    for index, arm in enumerate(arms):
        head.append(tag("th", swatch(index), arm, scope="col", class_="num"))
    head.append(tag("th", scale, scope="col", class_="forest"))
    body: list[Html] = []
    task = None
    for line in found:
        if line.task != task:
            task = line.task
            title = TASKS.get(task, task.replace("_", " ").capitalize())
            body.append(
                tag("tr", tag("th", title, colspan=len(arms) + 2, scope="colgroup"), class_="task")
            )
        if line.note:
            why = tag("b", f"{line.metric}, measured differently and so on a row of its own: ")
            note = tag("div", why, line.note, class_="note")
            body.append(tag("tr", tag("td", note, colspan=len(arms) + 2), class_="why"))
        body.append(_row(line, arms, seeds, line.metric in primary))
    kind = "results many" if len(arms) > ROOMY else "results"
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), class_=kind)
    return tag("div", table, class_="scroll")


def _row(line: Line, arms: Sequence[str], seeds: Sequence[int], primary: bool) -> Html:
    name: list[Html | str] = [tag("span", line.label, title=line.metric)]
    if primary:
        name.append(tag("span", "primary", class_="badge primary"))
    if line.lower_is_better:
        name.append(tag("span", " lower is better", class_="quiet"))
    absent = "–" if line.note else "n/a"
    trials = {cell.trials for cell in line.cells.values()}
    if len(trials) == 1 and "" not in trials:  # said once, for all arms
        name.append(tag("span", " ", unbroken(f"n {min(trials)}"), class_="quiet"))
    cells = [_cell(line.cells.get(arm), seeds, absent, len(trials) > 1) for arm in arms]
    kind = "main" if not line.category or line.alone else "category"
    kind = "reference" if line.reference else "plain" if line.alone else kind
    return tag(
        "tr",
        tag("th", *name, scope="row"),
        *cells,
        tag("td", forest(line, arms), class_="forest"),
        class_=kind,
    )


def _cell(cell: Cell | None, seeds: Sequence[int], absent: str, counted: bool) -> Html:
    if cell is None:
        return tag("td", tag("span", absent, class_="quiet"), class_="num")
    parts = [tag("span", number(cell.value), class_="value")]
    detail = [f"n {cell.trials}"] if counted and cell.trials else []
    if cell.span is not None:
        low, high = map(number, cell.span)
        detail.insert(0, f"{low}–{high}" if len(cell.rows) > 1 else f"[{low}, {high}]")
    if len(cell.values) < len(seeds) and len(seeds) > 1:
        detail.append(f"{len(cell.values)} of {len(seeds)} seeds")
    dot = tag("span", " · ", class_="dot")  # lines break there
    parts.append(tag("span", join([unbroken(part) for part in detail], dot), class_="interval"))
    return tag("td", *parts, class_="num")


def forest(line: Line, arms: Sequence[str], large: bool = False) -> Html:
    """Values with intervals on a common axis from 0 to 1; nothing for what is not a proportion."""
    marks = []
    for index, arm in enumerate(arms):
        cell = line.cells.get(arm)
        if cell is not None and cell.value is not None:
            marks.append((index, cell.value, cell.span))
    ends = [end for _, value, span in marks for end in (value, *(span or ()))]
    if not marks or min(ends) < 0 or max(ends) > 1:
        return Html("")
    return interval_plot(marks, large)


def swatch(index: int) -> Html:
    """The colour and dash of an arm, as in every plot."""
    mark = tag("line", x1=1, y1=5, x2=21, y2=5, class_=f"line arm-{index % 8}")
    return tag("svg", mark, class_="swatch", viewBox="0 0 22 10", width=22, height=10)


def facts(header: Sequence[str], rows: Sequence[Sequence[Node]], kind: str = "") -> Html:
    """A plain table whose first column names the rows."""
    head = tag("thead", tag("tr", *(tag("th", h, scope="col") for h in header)))
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))
        for row in rows
    ]
    return tag(
        "div", tag("table", head, tag("tbody", *body), class_=f"facts {kind}"), class_="scroll"
    )


def every_measurement(rows: Sequence[Row]) -> Html:
    """Each number as it was measured, one seed at a time."""
    written = [
        [
            escape(r["metric"]),
            escape(r["arm"]),
            str(r["seed"]),
            number(r["value"]),
            *("" if r.get(end) is None else number(r[end]) for end in ("low", "high")),
            "" if r.get("n") is None else f"{r['n']:,}",
        ]
        for r in rows
    ]
    return facts(["metric", "arm", "seed", "value", "low", "high", "n"], written, "numbers")
