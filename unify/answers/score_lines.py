"""Scores as lines (one metric, one passport) of cells (one arm).

A cell holds every seed of its arm: one seed shows its value and 95% interval, several show their
mean and range. Scores that were not measured alike never stand in one line. Of a passport, what
names the arm itself (weights, sampler, tokenizer) may differ between arms; all else must be equal.
Where each seed is a whole pipeline, with a tokenizer and tuned values of its own, it may differ
between seeds, too.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unify.answers.words import number
from unify.runs.stored_scores import METRIC_VERSION
from unify.runs.study_files import Row, better, has_value

CONFIRMATORY_SEEDS = 8  # fewer seeds per arm: "exploratory"
REFERENCES = ("chance", "majority", "blind")  # rows that belong beside vqa/accuracy
CEILING = "ceiling"  # <metric>/ceiling belongs beside <metric>: see metrics/ceiling.py
FLOOR = "floor"  # <metric>/floor, too: a distance of data from data, as of metrics/frechet_distance
WEIGHTS = {"weights", "run", "checkpoint", "step", "seed"}  # differ between runs of one arm too
VERSION = "version"  # of unify: it may differ where the version of the metric is stated
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
        """The finite scores, in order of the rows."""
        return [row["value"] for row in self.rows.values() if has_value(row)]

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
        """Number of trials, of each seed where there are several: `512`, `500–512`."""
        counts = sorted({r["n"] for r in self.rows.values() if r.get("n") is not None})
        return "–".join(f"{n:,}" for n in dict.fromkeys(counts[:1] + counts[-1:]))


@dataclass
class Line:
    """One metric measured in one way; `cells` by arm."""

    metric: str  # task/measure/category
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
        """The category; of a ceiling or a floor, that of the score which it is beside."""
        parts = self.metric.split("/")
        return "/".join(parts[2:-1] if parts[-1] in (CEILING, FLOOR) else parts[2:])

    @property
    def better(self) -> str | None:
        """`higher` or `lower`: which scores are better; None where neither is."""
        return better({"metric": self.metric, **_first_row(self)})

    def is_share(self, *arms: str) -> bool:
        """True if every score of these arms (none named: of all) is k out of its n, to rounding."""
        rows = [row for arm in arms or self.cells for row in self.cells[arm].rows.values()]
        scored = [row for row in rows if has_value(row) and row.get("n")]
        hits = [row["value"] * row["n"] for row in scored]
        within = all(0 <= row["value"] <= 1 for row in scored)
        return bool(hits) and within and all(abs(hit - round(hit)) < 1e-4 for hit in hits)

    @property
    def reference(self) -> bool:
        """True for a yardstick (chance, majority, blind, ceiling, floor), no score of the arm."""
        return bool(self.yardstick)

    @property
    def yardstick(self) -> str:
        """`chance`, `majority`, `blind`, `ceiling` or `floor`; empty for a score of the arm."""
        if (last := self.metric.rpartition("/")[2]) in (CEILING, FLOOR):
            return last
        return self.measure if self.measure in REFERENCES else ""

    @property
    def trials(self) -> str:
        """`512 prompts`, `256 prompts, 40 distinct`; empty where the arms differ in it."""
        counts = {cell.trials for cell in self.cells.values()}
        if len(counts) != 1 or "" in counts:
            return ""
        first, distinct = _first_row(self), _first_row(self).get("distinct")
        repeated = distinct is not None and distinct < (first.get("n") or 0)
        count = f"{min(counts)} {self.unit}".rstrip()
        return f"{count}, {distinct:,} distinct" if repeated else count

    @property
    def unit(self) -> str:
        """What the numbers of trials count, `prompts`; empty where older files do not say."""
        return _first_row(self).get("unit") or ""

    @property
    def label(self) -> str:
        """Short name for a table in which the task is a heading."""
        name = self.category or self.measure or self.metric
        if self.reference:
            name = self.yardstick
        elif self.alone:
            name = f"{self.measure}/{self.category}"
        return name.replace("_", " ").replace("/", " · ")

    @property
    def full_name(self) -> str:
        """The metric, and the way of measuring where there are several; says if lower is better."""
        direction = "lower is better" if self.better == "lower" else ""
        notes = "; ".join(filter(None, (self.note, direction)))
        return f"{self.metric} ({notes})" if notes else self.metric


def score_lines(rows: Sequence[Row], whole: bool = False) -> list[Line]:
    """Lines in reading order: by task, a measure before its categories, references last.

    `whole`: each seed has a sampler and tokenizers of its own (`StudyRecord.seeds_have_parts`).
    """
    by_metric: dict[str, list[Row]] = {}
    for row in rows:
        by_metric.setdefault(row["metric"], []).append(row)
    lines = [line for metric, same in by_metric.items() for line in _split(metric, same, whole)]
    tasks = [t for t in TASKS if any(line.task == t for line in lines)]
    tasks = list(dict.fromkeys([*tasks, *(line.task for line in lines)]))
    for line in lines:
        line.alone = bool(line.category) and f"{line.task}/{line.measure}" not in by_metric
    measures = list(dict.fromkeys(line.measure for line in lines if not line.reference))
    categories = list(dict.fromkeys(["", *(line.category for line in lines)]))

    def order(line: Line) -> tuple[int, int, int, int]:
        own = "accuracy" if line.measure in REFERENCES else line.measure
        rank = [*REFERENCES, CEILING, FLOOR].index(line.yardstick) + 1 if line.reference else 0
        measure = measures.index(own) if own in measures else len(measures)
        return tasks.index(line.task), measure, categories.index(line.category), rank

    return sorted(lines, key=order)


def _split(metric: str, rows: Sequence[Row], whole: bool) -> list[Line]:
    """One line per way of measuring; the note names what differs."""
    # shared passport, own parts of each arm (of each seed of it, if whole), line
    ways: list[tuple[str, dict[tuple[str, int | None], str], Line]] = []
    for row in rows:
        passport = _measured(row)
        shared = measured_alike(passport)
        own = _as_text({k: v for k, v in passport.items() if k in OWN})
        owner = row["arm"], row["seed"] if whole else None
        for other, owns, line in ways:  # noqa: B007
            if other == shared and owns.setdefault(owner, own) == own:
                break
        else:
            line = Line(metric, {})
            ways.append((shared, {owner: own}, line))
        line.cells.setdefault(row["arm"], Cell()).rows[row["seed"]] = row
    if len(ways) > 1:
        for _, _, line in ways:
            line.note = _what_differs(line, [other for _, _, other in ways])
    return [line for _, _, line in ways]


def _measured(row: Row) -> dict[str, Any]:
    """The passport, with what is better and the unit of n where the row states them."""
    stated = {key: row[key] for key in ("better", "unit") if key in row}
    return {**(row.get("passport") or {}), **stated}


def measured_alike(passport: Mapping[str, Any]) -> str:
    """What of a passport is equal where scores of two arms, or runs, were measured alike."""
    return _as_text(passport, skip=WEIGHTS | OWN | _beside(passport))


def _beside(passport: Mapping[str, Any]) -> set[str]:
    """The version of unify, which may differ where the metric's own version is stated."""
    return {VERSION} if METRIC_VERSION in passport else set()


def _as_text(passport: Mapping[str, Any], skip: Collection[str] = ()) -> str:
    """The passport without some keys, as text that is equal for equal passports."""
    kept = {k: v for k, v in passport.items() if k not in skip}
    return json.dumps(kept, sort_keys=True, default=str)


def _what_differs(line: Line, ways: Sequence[Line]) -> str:
    """The line's passport where the ways differ (in the arms' own keys if in nothing else)."""
    passports = {id(way): _measured(_first_row(way)) for way in ways}
    keys = dict.fromkeys(key for each in passports.values() for key in each)
    unlike = [k for k in keys if len({_as_text({k: p.get(k)}) for p in passports.values()}) > 1]
    beside = set.intersection(*map(_beside, passports.values()))
    unlike = [k for k in unlike if k not in WEIGHTS | beside]
    reasons = [k for k in unlike if k not in OWN] or unlike
    return ", ".join(f"{k}: {_short(passports[id(line)].get(k, 'not stated'))}" for k in reasons)


def _first_row(line: Line) -> Row:
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


MANY = 12  # arms, or pairs of them, that are shown one by one
