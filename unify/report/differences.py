"""Which arm is better, and whether the seeds and prompts at hand can tell.

The statistics are those of analysis/paired_differences.py.

Primary outcomes are those that the study named before it ran; their p are corrected together
(Holm), and only they get a verdict. All other differences are shown with their intervals.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unify.analysis.paired_differences import (
    Difference,
    crossed,
    detectable,
    holm,
    paired,
    seeds_needed,
    verdict,
)
from unify.report.budget_and_data import MANY
from unify.report.html import Html, Node, fold, join, tag
from unify.report.study_records import Row, StudyRecord
from unify.report.tables import Line, swatch
from unify.report.words import number, p_value, plural, sentence

NOT_COMPARED = ("tokenizer", "generate")  # ceilings and speed
READING = (
    "Difference of two arms trained under the same seeds and scored on the same prompts. The 95% "
    "interval is its row's own; p is corrected for all rows of this table (Holm), and so is the "
    "verdict: an interval may leave out 0 without one. d_z: the difference over its standard "
    "deviation from seed to seed. Detectable: the smallest true difference that these seeds and "
    "prompts find with probability 0.8 in a table of so many rows. Seeds needed: to find, with "
    "that probability, a true difference as large as the one observed (“more prompts” where seeds "
    "alone cannot)."
)
FIGURES = ("In words", "p", "d_z", "Detectable", "Seeds needed")
OTHERS = "All other measurements: intervals alone, as the study did not name them before it ran."


@dataclass
class Comparison:
    """A - B on one line."""

    line: Line
    first: str
    second: str
    difference: Difference
    adjusted: float | None = None  # p; None where there is none
    single: str = ""  # arm whose scores are those of one model under all seeds: no verdict
    tests: int = 1  # how many p are corrected together

    @property
    def p(self) -> float | None:
        return None if self.single else self.difference.p

    @property
    def words(self) -> str:
        if self.single:
            return f"one model of {self.single} under all seeds"
        return verdict(self.difference, self.adjusted)

    @property
    def figure(self) -> str:
        return signed(self.difference.mean)

    @property
    def span(self) -> str:
        """` [+0.132, +0.157]`; empty where nothing is known of it."""
        ends = None if self.single else self.difference.interval
        return "" if ends is None else f" [{', '.join(map(signed, ends))}]"


def comparisons(
    study: StudyRecord, found: Sequence[Line]
) -> tuple[list[Comparison], list[Comparison]]:
    """Of the primary outcomes, corrected together; and of all else."""
    primary: list[Comparison] = []
    others: list[Comparison] = []
    for line in found:
        named = line.metric in study.primary
        if named or not (line.reference or line.task in NOT_COMPARED):
            (primary if named else others).extend(_of(study, line))
    adjusted = holm([one.p for one in primary])
    for one, p in zip(primary, adjusted, strict=True):
        one.adjusted, one.tests = p, max(1, sum(other is not None for other in adjusted))
    return primary, others


def _of(study: StudyRecord, line: Line) -> list[Comparison]:
    made = []
    for first, second in study.pairs:
        one = comparison(study, line, first, second)
        if one is not None:
            made.append(one)
    return made


def comparison(study: StudyRecord, line: Line, first: str, second: str) -> Comparison | None:
    """None where the two have no seed in common."""
    there = first in line.cells and second in line.cells
    difference = compare(study, line, first, second) if there else None
    if difference is None:
        return None
    single = next((arm for arm in (first, second) if is_single(study, line, arm)), "")
    return Comparison(line, first, second, difference, single=single)


def is_single(study: StudyRecord, line: Line, arm: str) -> bool:
    """Whether an arm that was not trained on the task answered alike under all its seeds: with a
    frozen part that they share, which is one sample of how such a part turns out. (Not seen where
    answers are drawn at a temperature, each seed its own.)"""
    runs = [run for run in study.runs_of(arm) if run.seed in line.cells[arm].rows]
    task = "image" if line.task == "copy" else line.task
    trained = [task in run.config["data"]["tasks"] for run in runs if run.config.get("data")]
    parts = {json.dumps(run.needed, sort_keys=True, default=str) for run in runs}
    values = set(line.cells[arm].values)
    known = len(trained) == len(runs) > 1
    return known and not any(trained) and len(parts) == 1 and len(values) == 1


def compare(study: StudyRecord, line: Line, first: str, second: str) -> Difference | None:
    """Over the seeds that both have; trial by trial where every run kept its outcomes."""
    one, other = line.cells[first].rows, line.cells[second].rows
    seeds = [s for s in one if s in other and is_known(one[s]) and is_known(other[s])]
    if not seeds:
        return None
    by_seed = {(run.arm, run.seed): run for run in study.runs}
    trials: list[np.ndarray] = []
    for arm in (first, second):
        rows = [by_seed[arm, s].outcomes.get(line.metric) for s in seeds if (arm, s) in by_seed]
        kept = [row for row in rows if row is not None and row.size > 1]
        if len(kept) < len(seeds) or len({len(row) for row in kept}) > 1:
            break
        trials.append(np.stack(kept))
    if len(trials) == 2 and trials[0].shape == trials[1].shape:
        return crossed(*trials)
    return paired([one[s]["value"] for s in seeds], [other[s]["value"] for s in seeds])


def is_known(row: Row) -> bool:
    """Whether it holds a finite score."""
    return row["value"] is not None and math.isfinite(row["value"])


def section(study: StudyRecord, found: Sequence[Line]) -> Html:
    """The table of primary outcomes, and all else folded away."""
    if not study.pairs:
        return tag("p", "No two arms to compare.", class_="quiet")
    primary, others = comparisons(study, found)
    if not any(c.difference.parts for c in [*primary, *others]):
        return tag("p", "One seed per arm: nothing is known of how seeds differ.")
    parts: list[Node] = []
    if primary:
        parts += [tag("p", READING, class_="quiet"), _table(study, primary, judged=True)]
    measured_ = {line.metric for line in found}
    missing = [metric for metric in study.primary if metric not in measured_]
    if missing:
        said = f"Named before the run, and never measured: {sentence(missing)}."
        parts.append(tag("p", said, class_="note"))
    if not study.primary:
        parts.append(tag("p", "The study named no primary outcome before it ran.", class_="quiet"))
    if others:
        listing = join([tag("p", OTHERS, class_="quiet"), _table(study, others, judged=False)])
        parts.append(fold(f"{plural(len(others), 'other difference')}", listing))
    return join(parts)


def _table(study: StudyRecord, found: Sequence[Comparison], judged: bool) -> Html:
    names = ["Metric", "Arms", "Difference", *(FIGURES if judged else ())]
    head = tag("tr", *(tag("th", name, scope="col") for name in names))
    body = [tag("tr", *_cells(study, c, judged)) for c in found]
    table = tag("table", tag("thead", head), tag("tbody", *body), class_="numbers differences")
    return tag("div", table, class_="scroll")


def _cells(study: StudyRecord, one: Comparison, judged: bool) -> list[Html]:
    arms = [swatch(study.arms.index(one.first)), one.first, " − "]
    arms += [swatch(study.arms.index(one.second)), one.second]
    cells = [tag("th", one.line.metric, scope="row"), tag("td", *arms), measured(one)]
    if judged:
        cells += [tag("td", text) for text in (one.words, *figures(one))]
    return cells


def measured(one: Comparison) -> Html:
    """The difference and its interval, in a cell."""
    span = tag("span", one.span, class_="quiet")
    return tag("td", one.figure, span, title=one.difference.method)


def figures(one: Comparison) -> tuple[str, str, str, str]:
    """Corrected p, d_z, smallest detectable difference, seeds needed."""
    d = one.difference
    if not d.parts or d.between_seeds is None or one.adjusted is None:
        return "–", "–", "–", "–"
    size = d.standardised
    smallest = detectable(d.between_seeds, d.seeds, d.prompt_variance, one.tests)
    if smallest is not None and smallest > 1 and one.line.is_share:
        smallest = None  # of no share
    seeds = seeds_needed(d.mean, d.between_seeds, d.prompt_variance, one.tests)
    return (
        p_value(one.adjusted),
        "–" if size is None else "{:.2f} [{:.2f}, {:.2f}]".format(*size).replace("-", "−"),
        "–" if smallest is None else number(smallest),
        "more prompts" if seeds is None else str(seeds),
    )


def signed(value: float) -> str:
    size = abs(value)
    return f"{'−' if value < 0 else '+'}{number(size) if size >= 0.001 else f'{size:.3f}'}"


def sentences(study: StudyRecord, found: Sequence[Line]) -> list[str]:
    """The answer to each primary outcome, for the page's first paragraph."""
    primary, _ = comparisons(study, found)
    said = []
    for metric in dict.fromkeys(c.line.metric for c in primary if c.difference.parts):
        its = [c for c in primary if c.line.metric == metric and not c.single]
        clear = [c for c in its if c.words in ("higher", "lower")]
        if len(study.arms) > MANY:
            all_of_them = f"{len(its)} pairs of arms that are compared can be told apart"
            said.append(f"{metric}: {len(clear)} of {all_of_them} at this budget.")
            continue
        parts = [
            f"{c.first} is {c.words} than {c.second} by {number(abs(c.difference.mean))}"
            for c in clear
        ]
        rest = len(its) - len(clear)
        if rest:
            who = plural(rest, "other pair") if clear else "no pair of arms"
            verb = "is" if not clear else "is not" if rest == 1 else "are not"
            parts.append(f"{who} {verb} distinguishable at this budget{_alone(its)}")
        single = dict.fromkeys(c.single for c in primary if c.line.metric == metric and c.single)
        parts += [f"{arm} answers with one model under all seeds: no verdict" for arm in single]
        said.append(f"{metric}: {'; '.join(parts)}.")
    return said


def _alone(its: Sequence[Comparison]) -> str:
    """Of how many pairs without a verdict the interval would leave out 0, were it the only one."""
    count = 0
    for one in its:
        low, high = one.difference.interval or (0.0, 0.0)
        count += one.words not in ("higher", "lower") and not low <= 0 <= high
    return f" (the uncorrected interval of {count} of them leaves out 0)" if count else ""
